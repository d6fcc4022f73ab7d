"""Whose card is the run's, where several processes have failed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from studio.config.load import parse, save
from studio.config.train import TrainConfig
from studio.parallel.nodes import Host
from studio.runs.nodes import Meeting
from studio.worker import cards
from studio.worker.agent import Ended
from studio.worker.election import COLLECTIVE_TIMEOUT, elect

LOST: dict[str, Any] = {"kind": "PeerLost", "message": "the connection broke off"}
WAITED: dict[str, Any] = {"kind": "PeerTimeout", "message": "waited in vain"}
FULL: dict[str, Any] = {"kind": "DiskFull", "message": "no room", "retry": {"save_total_limit": 1}}
BUG: dict[str, Any] = {"kind": "KeyError", "message": "'x'", "hint": "The log has the details."}
BOTH = Ended({0: 1, 1: 1}, ())


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    save(
        parse(TrainConfig, {"dataset": "demo", "parallel_strategy": "ddp", "ddp_timeout": 77}), tmp_path / "config.yaml"
    )
    (tmp_path / "log.txt").touch()
    for rank in (0, 1):
        (tmp_path / f"ranks/{rank}").mkdir(parents=True)
        (tmp_path / f"ranks/{rank}/process.json").write_text(json.dumps({"host": f"host{rank}"}))
    return tmp_path


def leave(folder: Path, card: dict[str, Any], at: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.json").write_text(json.dumps({"hint": "", "retry": {}, **card, "at": at}))


def test_the_earliest_card_wins_that_is_no_consequence(run_dir: Path) -> None:
    leave(run_dir / "ranks/0", LOST, at=1)
    leave(run_dir / "ranks/1", FULL, at=2)
    card = elect(run_dir, 0, BOTH, out_of_memory=False)
    assert (card.kind, card.message, card.retry) == ("DiskFull", "no room", {"save_total_limit": 1})
    assert "ranks/1/log.txt" in card.hint


def test_what_all_have_met_is_told_by_the_first(run_dir: Path) -> None:
    leave(run_dir / "ranks/0", BUG, at=2)
    leave(run_dir / "ranks/1", BUG, at=1)
    assert elect(run_dir, 0, BOTH, out_of_memory=False).hint == BUG["hint"]


@pytest.mark.parametrize(("out_of_memory", "kind"), [(False, "Killed"), (True, "OutOfMemory")])
def test_one_that_was_killed_goes_before_all_cards(run_dir: Path, out_of_memory: bool, kind: str) -> None:
    leave(run_dir / "ranks/0", BUG, at=1)
    card = elect(run_dir, 0, Ended({0: 1, 1: -9}, ()), out_of_memory)
    assert card.kind == kind
    assert "rocess 1 on host1" in card.message


def test_of_a_process_that_ended_by_a_signal_the_signal_is_named(run_dir: Path) -> None:
    assert "Process 0 on host0 was ended by SIGSEGV" in elect(run_dir, 0, Ended({0: -11}, (1,)), False).message


@pytest.mark.parametrize("told", ["card", "log"])
def test_who_gives_no_sign_of_life_is_what_the_others_waited_for(run_dir: Path, told: str) -> None:
    """The wait ends in an error with gloo, and in an abort with NCCL."""
    if told == "card":
        leave(run_dir / "ranks/0", WAITED, at=1)
    else:
        (run_dir / "log.txt").write_text(f"[Rank 0] {COLLECTIVE_TIMEOUT}: WorkNCCL(SeqNum=9)\n")
    code = 1 if told == "card" else -6
    for age_s, words in ((60, "Process 1 on host1 stood still"), (1, "waited for each other in vain")):
        (run_dir / "ranks/1/status.json").write_text(json.dumps({"at": time.time() - age_s}))
        card = elect(run_dir, 0, Ended({0: code}, (1,)), out_of_memory=False)
        assert (card.kind, words in card.message, "77 s (ddp_timeout)" in card.message) == ("PeerTimeout", True, True)


def test_an_abort_for_another_reason_is_one_of_its_own(run_dir: Path) -> None:
    assert "SIGABRT" in elect(run_dir, 0, Ended({0: -6}, (1,)), out_of_memory=False).message


def test_the_finding_of_another_machine_counts_on_the_main_one(run_dir: Path) -> None:
    Meeting("main", 5000, (Host("main"), Host("other"))).write(run_dir)
    leave(run_dir / "ranks/0", LOST, at=1)
    leave(run_dir / "nodes/1", FULL, at=2)
    assert elect(run_dir, 0, Ended({0: 1}, ()), out_of_memory=False).kind == "DiskFull"
    assert elect(run_dir, 1, Ended({1: 1}, ()), out_of_memory=False).kind == "PeerLost"


def test_without_any_other_card_a_lost_connection_is_told(run_dir: Path) -> None:
    leave(run_dir / "ranks/1", LOST, at=1)
    assert elect(run_dir, 0, BOTH, out_of_memory=False).kind == "PeerLost"


def test_a_process_that_left_no_card_is_told_by_its_last_line(run_dir: Path) -> None:
    (run_dir / "ranks/1/log.txt").write_text("one\nImportError: no module\n\n")
    card = elect(run_dir, 0, Ended({1: 3}, (0,)), out_of_memory=False)
    assert card.message == "Process 1 on host1 ended with code 3: ImportError: no module"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[/pytorch/gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:5. GLHF", "PeerLost"),
        ("[/pytorch/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 30000ms for recv (gloo)", "PeerTimeout"),
        ("Application timeout caused pair closure", "PeerTimeout"),  # of gloo, for what else was under way
        ("NCCL error in: ProcessGroupNCCL.cpp:3690, remote process exited or there was a network error", "PeerLost"),
        ("something else", "RuntimeError"),
    ],
)
def test_errors_of_the_connection_have_cards(run_dir: Path, text: str, kind: str) -> None:
    assert cards.of(RuntimeError(text), run_dir, "training").kind == kind
