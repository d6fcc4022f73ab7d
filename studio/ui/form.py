"""A form drawn from a configuration's declarations: one widget an option, values in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.config.option import Config, Option, applies, options
from studio.ui.text import group_title, said

AUTO = "auto"
TRISTATE = (AUTO, "on", "off")
FROM_TRISTATE = {AUTO: None, "on": True, "off": False}
TO_TRISTATE = {value: word for word, value in FROM_TRISTATE.items()}
NO_CHOICE = ("—", "")
PICKED = frozenset({"dataset", "eval_dataset"})  # lists of what there is to choose from, not typed
HIDDEN_GROUPS = frozenset({"internal"})
CLOSED_GROUPS = frozenset({"advanced", "saving", "server"})


@dataclass(frozen=True)
class Form:
    """The widgets of one configuration, in the order of its options."""

    config: type[Config]
    options: tuple[Option, ...]
    components: tuple[gr.components.Component, ...]

    def read(self, values: Sequence[Any]) -> dict[str, Any]:
        """Widget values as configuration keys; what was left empty is left out and keeps its default."""
        read = {option.key: _read(option, value) for option, value in zip(self.options, values, strict=True)}
        return {key: value for key, value in read.items() if value is not None}

    def write(self, given: Mapping[str, Any]) -> list[Any]:
        """Widget values that show `given`, and the default of every other option."""
        return [_write(option, given.get(option.key, option.default)) for option in self.options]

    def visible(self, values: Sequence[Any]) -> list[Any]:
        """For each widget an update that shows it only when it matters."""
        now = dict(zip((option.key for option in self.options), values, strict=True))
        return [gr.update(visible=applies(option, now)) if option.when else gr.skip() for option in self.options]

    def component(self, key: str) -> gr.components.Component:
        """The widget of one option."""
        return self.components[[option.key for option in self.options].index(key)]


def draw(
    config: type[Config], choices: Mapping[str, Sequence[Any]], groups: Sequence[str], prefix: str = "option"
) -> Form:
    """Draw the options of `groups`, a section each.

    Args:
        config: the declarations.
        choices: for string options, values to offer beside free text.
        groups: the sections in order; those that few people need start closed.
        prefix: of the widgets' ids in the page, `option-lora_rank`; two forms on a page need two.
    """
    drawn: dict[str, gr.components.Component] = {}
    declared = [option for option in options(config) if option.group not in HIDDEN_GROUPS]
    for group in groups:
        with gr.Accordion(group_title(group), open=group not in CLOSED_GROUPS):
            drawn |= _section([option for option in declared if option.group == group], choices, prefix)
    kept = tuple(option for option in declared if option.key in drawn)
    return Form(config, kept, tuple(drawn[option.key] for option in kept))


def draw_some(config: type[Config], keys: Sequence[str], choices: Mapping[str, Sequence[Any]], prefix: str) -> Form:
    """Draw the options called `keys` only, in that order and without sections; the rest as in `draw`."""
    declared = {option.key: option for option in options(config)}
    kept = tuple(declared[key] for key in keys)
    drawn = _section(kept, choices, prefix)
    return Form(config, kept, tuple(drawn.values()))


def _section(
    declared: Sequence[Option], choices: Mapping[str, Sequence[Any]], prefix: str
) -> dict[str, gr.components.Component]:
    with gr.Row(equal_height=True, elem_classes="form-row"):
        return {option.key: _widget(option, choices.get(option.key), prefix) for option in declared}


def _widget(option: Option, choices: Sequence[Any] | None, prefix: str) -> gr.components.Component:
    common: dict[str, Any] = {
        "label": said(*option.label),
        "info": said(option.en, option.zh),
        "value": _write(option, option.default),
        "elem_id": f"{prefix}-{option.key}",
        "min_width": 220,
        "interactive": True,
    }
    if option.when:
        common["visible"] = True
    if option.kind == "bool":
        return gr.Dropdown(TRISTATE, **common) if option.nullable else gr.Checkbox(**common)
    if option.kind in ("int", "float") and not option.nullable:
        # bounds are left to the validation, which says what is wrong instead of clamping what was typed
        return gr.Number(precision=0 if option.kind == "int" else None, **common)
    return _text_widget(option, choices, common)


def _text_widget(option: Option, choices: Sequence[Any] | None, common: dict[str, Any]) -> gr.components.Component:
    if option.kind == "choice":
        return gr.Dropdown([*([NO_CHOICE] if option.nullable else []), *option.choices], **common)
    if choices is not None:
        return gr.Dropdown([*choices], multiselect=option.kind == "list", allow_custom_value=True, **common)
    return gr.Textbox(placeholder=said("automatic", "自动") if option.nullable else None, **common)


def _read(option: Option, value: Any) -> Any:
    if value in ("", []):
        return None
    if option.kind == "bool" and option.nullable:
        return FROM_TRISTATE[value]
    return value


def _write(option: Option, value: Any) -> Any:
    if option.kind == "bool" and option.nullable:
        return TO_TRISTATE[value]
    if option.kind == "list":
        return list(value) if option.key in PICKED else ",".join(map(str, value))
    return "" if value is None else str(value) if option.nullable else value
