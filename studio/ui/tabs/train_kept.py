"""What was typed into the Train form and is not started yet: the browser keeps it, and a later page finds it again.

The panel of the plan carries it to the page, so that keeping costs no event; no option is a secret.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
import msgspec

from studio.config.option import Option
from studio.ui import panel
from studio.ui.form import Form

LINE = '<div class="card"><p class="kept"></p></div>'  # the page writes it, in its own language


def draw() -> gr.HTML:
    """The keeper, to be drawn where it is in the page from the start; `found` fires with the `text` that was kept."""
    return panel.draw("train_kept", [], elem_classes="unseen")


def draft(given: Mapping[str, Any], changed: Mapping[str, Sequence[str]]) -> str:
    """What is to be kept of `Form.read`'s values: those that `Form.changed` names."""
    return msgspec.json.encode({key: given[key] for keys in changed.values() for key in keys}).decode()


def read(form: Form, text: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What was kept, perhaps by an older studio: the values that the form can show, and why the others are left out."""
    try:
        kept = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        return {}, {"everything": "it cannot be read"}
    declared = {option.key: option for option in form.options}
    faults = {key: why for key, value in kept.items() if (why := _fault(declared.get(key), value))}
    return {key: value for key, value in kept.items() if key not in faults}, faults


def _fault(option: Option | None, value: Any) -> str:
    if option is None:
        return "there is no such option"
    return "" if _can_show(option, value) else f"cannot be {str(value)[:60]!r}"


def _can_show(option: Option, value: Any) -> bool:
    """Whether the widget takes it; whether a training does is said by the form itself, as of what is typed."""
    if option.kind == "list":
        return isinstance(value, str) or (isinstance(value, list) and all(map(_is_word, value)))
    if option.kind == "bool":
        return isinstance(value, bool)
    if option.choices:
        return _is_word(value) and value in option.choices
    if option.kind in ("int", "float") and not option.nullable:
        return _is_word(value) and not isinstance(value, str) and math.isfinite(value)
    return _is_word(value)


def _is_word(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
