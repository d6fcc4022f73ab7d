"""Which process of a training was the first to fail, and what it says.

When one goes, the others lose their connections to it and fail as well. Theirs are not the reason.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from studio.files import read_record, tail
from studio.runs import nodes
from studio.worker import cards
from studio.worker.cards import Card
from studio.worker.ranks import FOLDER

if TYPE_CHECKING:
    from studio.worker.agent import Ended

SILENT_S = 12.0  # three heartbeats
LOG_BYTES = 20_000
COLLECTIVE_TIMEOUT = "Watchdog caught collective operation timeout"  # NCCL's last words before SIGABRT


@dataclass(frozen=True)
class Voice:
    """A card that was left `at` that time, in unix seconds, by a process or, without a rank, by a machine."""

    card: Card
    at: float
    rank: int | None = None


def elect(run_dir: Path, node: int, ended: Ended, out_of_memory: bool) -> Card:
    """The card of the run, or of its machine `node`, whose processes ended as told."""
    if card := _killed(run_dir, ended, out_of_memory):
        return card
    if own := _first(run_dir, node):
        return own
    if node == 0 and (sentence := nodes.fallen(run_dir)):
        return cards.node_lost(sentence)
    # while the other machines were listened to, their cards may have come
    return _first(run_dir, node) or _hung(run_dir, ended) or _any(run_dir, ended)


def _killed(run_dir: Path, ended: Ended, out_of_memory: bool) -> Card | None:
    for rank, code in sorted(ended.codes.items()):
        if code < 0 and not _gave_up(run_dir, rank, code):
            return cards.killed(_named(run_dir, rank), signal.Signals(-code), out_of_memory, run_dir)
    return None


def _gave_up(run_dir: Path, rank: int, code: int) -> bool:
    """Whether NCCL ended the process for having waited too long: the one that it waited for is the reason."""
    return code == -signal.SIGABRT and COLLECTIVE_TIMEOUT in tail(_log(run_dir, rank), LOG_BYTES)


def _first(run_dir: Path, node: int) -> Card | None:
    """The earliest card that is no consequence of another's end. What all have met is told in the first one's words."""
    found = [voice for voice in _voices(run_dir, node) if voice.card.kind not in cards.CONSEQUENCES]
    if not found:
        return None
    first = min(found, key=lambda voice: voice.at)
    return next((each.card for each in found if each.rank == 0 and each.card.kind == first.card.kind), first.card)


def _voices(run_dir: Path, node: int) -> Iterator[Voice]:
    folders = {int(path.name): path for path in (run_dir / FOLDER).glob("*") if path.name.isdecimal()}
    for rank, folder in sorted(folders.items()):
        if record := read_record(folder / "error.json"):
            yield Voice(_of_process(_card(record), rank), float(record["at"]), rank)
    for path in (run_dir / nodes.FOLDER).glob("*/error.json") if node == 0 else ():
        record = read_record(path)
        yield Voice(_card(record), float(record["at"]))


def _card(record: dict[str, object]) -> Card:
    return Card(**{field.name: record[field.name] for field in fields(Card)})  # type: ignore[arg-type]


def _of_process(card: Card, rank: int) -> Card:
    return replace(card, hint=f"{card.hint} (Process {rank}; its log is {FOLDER}/{rank}/log.txt.)") if rank else card


def _hung(run_dir: Path, ended: Ended) -> Card | None:
    """Some have waited too long: for those that gave no sign of life any more, if it was these."""
    waited = any(_gave_up(run_dir, rank, code) for rank, code in ended.codes.items())
    waited |= any(voice.card.kind == cards.WAITED for voice in _voices(run_dir, 0))
    if not waited:
        return None
    silent = [rank for rank in ended.ended if _silence_s(run_dir, rank) > SILENT_S]
    return cards.waited([_named(run_dir, rank) for rank in silent], run_dir)


def _silence_s(run_dir: Path, rank: int) -> float:
    folder = run_dir / FOLDER / str(rank) if rank else run_dir
    return time.time() - float(read_record(folder / "status.json").get("at") or 0)


def _any(run_dir: Path, ended: Ended) -> Card:
    if voices := sorted(_voices(run_dir, 0), key=lambda voice: voice.at):
        return voices[0].card
    rank, code = next(((rank, code) for rank, code in sorted(ended.codes.items()) if code), (0, 0))
    last = next((line for line in reversed(tail(_log(run_dir, rank), LOG_BYTES).splitlines()) if line.strip()), "")
    return Card("ProcessEnded", f"{_named(run_dir, rank)} ended with code {code}: {last or 'it printed nothing'}")


def _log(run_dir: Path, rank: int) -> Path:
    return run_dir / FOLDER / str(rank) / "log.txt" if rank else run_dir / "log.txt"


def _named(run_dir: Path, rank: int) -> str:
    host = read_record(run_dir / FOLDER / str(rank) / "process.json").get("host") or socket.gethostname()
    return f"Process {rank} on {host}"
