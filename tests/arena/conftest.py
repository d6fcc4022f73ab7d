"""An arena whose contestants and judges answer by rules that are known, and votes to count."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.arena.battles import Arena
from studio.arena.votes import Outcome, Side, Vote
from studio.config.arena import ArenaConfig
from studio.config.load import parse
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving.remotes import Remote, Remotes
from studio.settings import ROOT

MODELS = (
    "long", "short", "silent", "shy", "slow", "gone", "judge-longer", "judge-first", "judge-mute", "judge-broken",
)  # fmt: skip


@pytest.fixture(scope="module")
def debaters() -> Iterator[str]:
    """The address of a server with all MODELS but `gone`."""
    command = [sys.executable, str(ROOT / "tests" / "fakes" / "debaters.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        yield f"http://127.0.0.1:{int(child.stdout.readline())}"
        child.kill()


@pytest.fixture
def store(tmp_path: Path, debaters: str) -> Store:
    """Runs of one's own, beside which the debaters are known as url:NAME."""
    store = Store(tmp_path / "saves")
    store.saves.mkdir()
    for name in MODELS:
        Remotes(store.saves).add(Remote(name, "http://127.0.0.1:9" if name == "gone" else debaters, name))
    return store


@pytest.fixture
def open_arena(store: Store) -> Callable[..., tuple[Run, Arena]]:
    """A run that is not started, for contestants by name."""

    def open_arena(*contestants: str, **options: Any) -> tuple[Run, Arena]:
        values = {"contestants": [f"url:{name}" for name in contestants], "prompts": "one\n[b] two", **options}
        run = store.create(parse(ArenaConfig, values))
        return run, Arena.of(run)

    return open_arena


def vote(number: int, outcome: Outcome, left: str = "a", right: str = "b", **more: Any) -> Vote:
    """A vote on the battle of that number between two picks, which say their own names."""
    sides = (Side(f"the {pick}", pick, f"answer of {pick} to {number}") for pick in (left, right))
    return Vote(
        str(number), "arena", ({"role": "user", "content": f"prompt {number}"},), *sides, outcome, True, 1.0, **more
    )
