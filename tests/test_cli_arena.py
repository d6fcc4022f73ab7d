"""The arena's commands as a person types them, on models that answer by a rule each."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from studio.runs.store import Store
from studio.settings import ROOT
from tests.arena.conftest import debaters, store  # noqa: F401  # fixtures
from tests.forks import Forks
from tests.test_cli import variables

Studio = Callable[..., subprocess.CompletedProcess[str]]
PICKS = ("url:long", "url:short")
PROMPTS = "prompts=[maths] one\ntwo"


@pytest.fixture
def studio(store: Store, commands: Forks) -> Studio:  # noqa: F811
    """`studio("arena", ...)` runs that command to its end, in folders of its own."""

    def call(*words: str, input: str = "") -> subprocess.CompletedProcess[str]:
        return commands.run(["studio", *words], ROOT, variables(store.saves.parent), input)

    return call


def test_from_the_start_to_a_dataset(studio, store):  # noqa: F811
    started = studio("arena", *PICKS, PROMPTS, "judge=url:judge-longer")
    assert started.returncode == 0, started.stderr
    (run,) = store.list("arena")
    assert f"arena vote {run.id}" in started.stdout

    voted = studio("arena", "vote", run.id, input="x\n1\n2\n")
    assert voted.returncode == 0, voted.stderr
    before, _, _ = voted.stdout.partition("A was")
    assert "short" not in before.replace("1 of 2", ""), "names are told after the vote"
    assert "2 of 2" in voted.stdout

    told = studio("arena", "results", run.id).stdout
    assert "long against short · all · judge: 100% won (95 %: 34% to 100%): 2 won; p = 0.5" in told
    assert "· maths · people:" in told
    assert "The judge and people say the same of" in told

    made = studio("arena", "data", run.id, "from votes", "--of", "judge")
    assert made.stdout == "from votes: 2 rows\n"
    rows = [json.loads(line) for line in (store.saves.parent / "data" / "from votes.jsonl").read_text().splitlines()]
    assert [row["rejected"]["content"].strip() for row in rows] == ["Yes.", "Yes."]


def test_votes_that_break_off_are_kept_and_go_on(studio, store):  # noqa: F811
    studio("arena", *PICKS, PROMPTS)
    (run,) = store.list("arena")
    assert studio("arena", "vote", run.id, input="3\n").returncode == 0
    assert "1 of 1" in studio("arena", "vote", run.id, input="q\n").stdout
    assert "1 ties" in studio("arena", "results", run.id).stdout


def test_what_is_wrong_is_told_and_nothing_starts(studio, store, tmp_path: Path):  # noqa: F811
    for words, told in (
        (("url:long",), "choose 2 to 4 to compare (got 1)"),
        ((*PICKS, "prompts=hi", "temperatur=1"), "did you mean temperature?"),
        ((*PICKS, "url:nobody", "prompts=hi"), "There is no remote server called 'nobody'"),
        (PICKS, "say what is asked"),
        ((*PICKS, "prompts=hi", "judge_prompt=well?"), "{prompt} and {answer_a} and {answer_b}"),
    ):
        asked = studio("arena", *words)
        assert asked.returncode == 2, asked.stdout
        assert told in asked.stderr
    assert studio("arena", "vote", "nothing").returncode == 1
    assert store.list("arena") == []


def test_a_dry_run_starts_nothing(studio, store):  # noqa: F811
    shown = studio("arena", *PICKS, PROMPTS, "--dry-run")
    assert "contestants:\n- url:long\n- url:short" in shown.stdout
    assert store.list("arena") == []
