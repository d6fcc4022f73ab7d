"""What processes of one training agree on: three of them, forked, with gloo between them."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from studio.planning.passes import Passes
from studio.worker import cards, needs
from studio.worker.consensus import Consensus, Forsaken
from studio.worker.outputs import DiskFull
from studio.worker.ranks import Rank
from studio.worker.stop import Requests

WORLD = 3
PATIENCE_S = 20

Part = Callable[[Consensus, int], Any]


def each(folder: Path, part: Part, patience_s: float = PATIENCE_S) -> list[Any]:
    """What `part` returns in every process, by rank."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    children = [
        context.Process(target=_take_part, args=(folder, rank, part, answers, patience_s)) for rank in range(WORLD)
    ]
    for child in children:
        child.start()
    found = dict(answers.get(timeout=30) for _ in children)
    for child in children:
        child.join()
    return [found[rank] for rank in range(WORLD)]


def _take_part(folder: Path, rank: int, part: Part, answers: Any, patience_s: float) -> None:
    torch.set_num_threads(1)
    meeting = distributed.FileStore(str(folder / "meeting"), WORLD)
    distributed.init_process_group(
        "gloo", store=meeting, rank=rank, world_size=WORLD, timeout=timedelta(seconds=PATIENCE_S)
    )
    requests = Requests(folder, last_words=lambda: None, heeds=rank == 0)
    requests.protect()
    consensus = Consensus(Rank(rank, WORLD, rank), requests)
    consensus.join(patience_s)
    answers.put((rank, part(consensus, rank)))
    distributed.barrier()


def stepping(consensus: Consensus, rank: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """In the third of five steps somebody asks for a checkpoint, in the fourth for a stop, both in the first process.

    Returns the steps after which each word was heard, tokens, and the memory of all in MB.
    """
    saved, stopped, tokens = [], [], []
    for step in range(1, 6):
        if rank == 0 and step == 3:
            consensus._requests.save()
        if rank == 0 and step == 4:
            consensus._requests._stopping.set()
        consensus.begin(tokens=10 * step + rank, memory_gb=rank / 1000)
        tokens.append(consensus.end())
        saved += [step] if consensus.take_save() else []
        stopped += [step] if consensus.stop else []
    return saved, stopped, tokens, [round(1000 * each) for each in consensus.memory_gb]


def test_all_hear_a_request_at_the_same_step(tmp_path: Path) -> None:
    sums = [30 * step + 3 for step in range(1, 6)]
    assert each(tmp_path, stepping) == [([3], [4, 5], sums, [0, 1, 2])] * WORLD


def heeding(consensus: Consensus, rank: int) -> tuple[bool, bool, bool]:
    """Nobody, then one that is not the first has met a stop; then the first is asked again."""
    return consensus.heed(), consensus.heed(own=rank == 2), consensus.heed()


def test_a_stop_that_one_has_met_is_one_of_all(tmp_path: Path) -> None:
    assert each(tmp_path, heeding) == [(False, True, True)] * WORLD


def failing(consensus: Consensus, rank: int) -> list[str]:
    """Nobody fails; one has no room; one fails and another has no room."""
    ends = []
    for errors in ({}, {1: DiskFull("full")}, {1: DiskFull("full"), 2: KeyError("bug")}):
        try:
            with consensus.together():
                if error := errors.get(rank):
                    raise error
        except (DiskFull, Forsaken, KeyError) as error:
            ends.append(type(error).__name__)
        else:
            ends.append("fine")
    return ends


def test_all_leave_in_the_same_way_what_they_do_together(tmp_path: Path) -> None:
    first, full, broken = each(tmp_path, failing)
    assert first == ["fine", "DiskFull", "Forsaken"]
    assert full == ["fine", "DiskFull", "DiskFull"]
    assert broken == ["fine", "DiskFull", "KeyError"]


def silent(consensus: Consensus, rank: int) -> str:
    """The last process says nothing while the others wait for the words of a step, or ask whether to stop."""
    if rank == WORLD - 1:
        time.sleep(6)
        return ""
    consensus.begin(tokens=1, memory_gb=1.0)
    with pytest.raises(RuntimeError) as caught:
        consensus.end() if rank == 0 else consensus.heed()
    return str(caught.value)


def test_a_process_that_falls_silent_between_steps_is_not_waited_for_long(tmp_path: Path) -> None:
    """Nothing may be computing then that would give up first: it was waited for as if it wrote a model."""
    *others, _ = each(tmp_path, silent, patience_s=2)
    assert [cards.of(RuntimeError(told), tmp_path, "training").kind for told in others] == ["PeerTimeout"] * 2


def writing(consensus: Consensus, rank: int) -> int:
    with consensus.together():
        time.sleep(3 if rank == 0 else 0)
    return consensus.most(rank)


def test_one_that_does_something_for_all_is_waited_for(tmp_path: Path) -> None:
    assert each(tmp_path, writing, patience_s=1) == [WORLD - 1] * WORLD


def test_all_go_by_the_passes_of_the_one_with_the_least_room(tmp_path: Path) -> None:
    own = [Passes(4000, 0), Passes(3000, 2), Passes(None, 1)]
    assert each(tmp_path, lambda consensus, rank: needs.agreed(own[rank], consensus)) == [Passes(3000, 2)] * WORLD


def test_one_alone_agrees_with_itself_at_once(tmp_path: Path) -> None:
    requests = Requests(tmp_path, last_words=lambda: None)
    requests.protect()
    alone = Consensus(Rank(), requests)
    alone.join(PATIENCE_S)
    alone.begin(tokens=7, memory_gb=0.5)
    assert (alone.end(), alone.memory_gb, alone.stop, alone.heed(), alone.any(True)) == (7, (0.5,), False, False, True)
    assert [needs.agreed(passes, alone) for passes in (Passes(), Passes(9, 1))] == [Passes(), Passes(9, 1)]
    requests._stopping.set()
    assert (alone.stop, alone.heed()) == (True, True)
    with pytest.raises(DiskFull, match="mine"), alone.together():
        raise DiskFull("mine")
