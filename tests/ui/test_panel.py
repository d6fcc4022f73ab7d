"""What the panels of a dataset share."""

from __future__ import annotations

import gradio as gr
import pytest

from studio.config.data import DataConfig
from studio.errors import DatasetError
from studio.ui import panel
from studio.ui.context import Context


def test_the_page_is_told_only_what_it_does_not_know() -> None:
    first = panel.unless_known("", {"rows": 3})
    assert first is not None
    assert panel.unless_known(first["stamp"], {"rows": 3}) is None
    assert panel.unless_known(first["stamp"], {"rows": 4}) is not None


def test_busy_is_said_of_the_set_and_the_work_in_question(ctx: Context) -> None:
    ctx.store.create(DataConfig(action="check", dataset=("identity",)))
    assert panel.is_busy(ctx, "identity", "check", "repair")
    assert not panel.is_busy(ctx, "identity", "statistics")
    assert not panel.is_busy(ctx, "alpaca_demo", "check")


@pytest.mark.parametrize("name", ["data_checks", "data_masks"])
def test_errors_for_the_user_are_answers_and_bugs_stay_loud(name: str) -> None:
    def refuse(asked: object) -> panel.Answer:
        raise DatasetError(f"no {asked}")

    def fail(asked: object) -> panel.Answer:
        raise ZeroDivisionError

    with gr.Blocks():
        drawn = panel.draw(name, [refuse, fail])
    assert drawn.refuse("x") == {"error": "no x"}
    with pytest.raises(ZeroDivisionError):
        drawn.fail("x")
