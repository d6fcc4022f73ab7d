"""Requests as files: answered, refused, taken back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from studio.config.serve import ServeConfig
from studio.errors import RequestFailed
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving import mailbox


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A server that is about to start: it is asked, and nobody of its own answers."""
    return Store(tmp_path).create(ServeConfig())


def requests(run: Run) -> list[str]:
    return [path.name for path in (run.path / "requests").glob("*")]


def test_a_request_is_answered_and_nothing_is_left(run: Run) -> None:
    async def both() -> dict[str, object]:
        asked = asyncio.create_task(mailbox.ask(run, "load", {"name": "a"}, 5))
        while not (found := mailbox.pending(run.path / "requests", "load", "unload")):
            await asyncio.sleep(0.01)
        mailbox.answer(found[0], {"ok": True, "message": "a is ready"})
        return await asked

    assert asyncio.run(both()) == {"ok": True, "message": "a is ready"}
    assert requests(run) == []


def test_a_request_that_nobody_answers_is_taken_back(run: Run) -> None:
    with pytest.raises(RequestFailed, match="did not load a within 0 s"):
        asyncio.run(mailbox.ask(run, "load", {"name": "a"}, 0.05))
    assert requests(run) == []


def test_a_request_whose_asker_was_cancelled_is_taken_back(run: Run) -> None:
    async def cancelled() -> None:
        asked = asyncio.create_task(mailbox.ask(run, "sleep", {}, 5))
        await asyncio.sleep(0.05)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    asyncio.run(cancelled())
    assert requests(run) == []


def test_the_answer_to_a_request_that_is_gone_is_written_nowhere(run: Run) -> None:
    folder = run.path / "requests"
    folder.mkdir()
    mailbox.answer(folder / "load-1.json", {"ok": True})
    assert requests(run) == []
