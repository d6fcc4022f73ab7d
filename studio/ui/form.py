"""A form drawn from a configuration's declarations: one widget an option, values in, values out.

An option is shown, and sent, only while it matters beside the others. A section starts with the options that most
people set; the rest of it waits, unmounted, behind "More", so that a hundred widgets cost a page no more than twenty.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from studio.config.option import Config, Option, applies, options, split_names
from studio.ui.text import group_title, said

AUTO = "auto"
TRISTATE = (AUTO, "on", "off")
FROM_TRISTATE = {AUTO: None, "on": True, "off": False}
TO_TRISTATE = {value: word for word, value in FROM_TRISTATE.items()}
NO_CHOICE = ("—", "")
NOTHING = "none"  # what a list says for no item: shown as an empty one
LONG_TEXTS = frozenset({"default_system", "judge_prompt", "prompts", "sample_prompts"})
HIDDEN_GROUPS = frozenset({"internal"})
CLOSED_GROUPS = frozenset((
    "adapters", "advanced", "cache", "evaluation", "optimizer", "parallel", "precision", "sampling", "saving", "server",
    "trackers",
))  # fmt: skip


@dataclass(frozen=True)
class Section:
    """The options of one group, below one heading."""

    group: str
    heading: gr.Accordion
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Form:
    """The widgets of one configuration, in the order of its options; `picked` are those that offer choices."""

    config: type[Config]
    options: tuple[Option, ...]
    components: tuple[gr.components.Component, ...]
    sections: tuple[Section, ...]
    picked: frozenset[str]

    def read(self, values: Sequence[Any]) -> dict[str, Any]:
        """Widget values as configuration keys; what was left empty, and what does not matter, keeps its default."""
        given = {option.key: value for option, value in zip(self.options, values, strict=True)}
        there = self._applying(given)
        read = {option.key: _read(option, given[option.key]) for option in self.options if option.key in there}
        return {key: value for key, value in read.items() if value is not None}

    def write(self, given: Mapping[str, Any]) -> list[Any]:
        """Widget values that show `given`, and the default of every other option."""
        return [self._write(option, given.get(option.key, option.default)) for option in self.options]

    @property
    def controlling(self) -> list[str]:
        """Keys whose values decide which others matter."""
        named = {key for option in self.options for key in option.when}
        return [option.key for option in self.options if option.key in named]

    @property
    def shifting(self) -> list[gr.components.Component | gr.Accordion]:
        """What `visible` updates: every heading, and the widgets that do not always matter."""
        return [*(section.heading for section in self.sections), *(self.component(key) for key in self._conditional)]

    def visible(self, values: Sequence[Any]) -> list[Any]:
        """Updates of `shifting` for the values of `controlling`: shown is what matters."""
        there = self._applying(dict(zip(self.controlling, values, strict=True)))
        return [*self._headings(there), *(gr.update(visible=key in there) for key in self._conditional)]

    @property
    def filled(self) -> list[gr.components.Component | gr.Accordion]:
        """What `fill` updates: every heading and every widget."""
        return [*(section.heading for section in self.sections), *self.components]

    def fill(self, given: Mapping[str, Any]) -> list[Any]:
        """Updates of `filled` that show `given`, the default of every other option, and only what matters."""
        values = self.write(given)
        there = self._applying({option.key: value for option, value in zip(self.options, values, strict=True)})
        widgets = [
            gr.update(value=value, visible=option.key in there) if option.when else gr.update(value=value)
            for option, value in zip(self.options, values, strict=True)
        ]
        return [*self._headings(there), *widgets]

    def changed(self, given: Mapping[str, Any]) -> dict[str, list[str]]:
        """Of what `read` gave: the keys of each section whose value is another than the default."""
        return {
            section.group: keys
            for section in self.sections
            if (keys := [option.key for option in section.options if self._differs(option, given)])
        }

    def offers(self, choices: Mapping[str, Sequence[Any]]) -> list[Any]:
        """Updates of the widgets of `choices`, in its order: what they offer now."""
        declared = {option.key: option for option in self.options}
        return [gr.update(choices=_offered(declared[key], offered)) for key, offered in choices.items()]

    def edits(self, keys: Sequence[str] | None = None) -> list[Any]:
        """The events of a person at the widgets of `keys`, or of all. A picker, and a text that is pasted or deleted,
        tell of it by a change only; so they do when they are filled."""
        pairs = [(option.key, widget) for option, widget in zip(self.options, self.components, strict=True)]
        kept = [(key, widget) for key, widget in pairs if keys is None or key in keys]
        return [widget.change if self._is_typed(key, widget) else widget.input for key, widget in kept]

    def component(self, key: str) -> gr.components.Component:
        """The widget of one option."""
        return self.components[[option.key for option in self.options].index(key)]

    def _is_typed(self, key: str, widget: gr.components.Component) -> bool:
        return key in self.picked or isinstance(widget, gr.Textbox)

    @property
    def _conditional(self) -> list[str]:
        return [option.key for option in self.options if option.when]

    def _headings(self, there: frozenset[str]) -> list[Any]:
        return [gr.update(visible=_any_of(section.options, there)) for section in self.sections]

    def _applying(self, values: Mapping[str, Any]) -> frozenset[str]:
        return applying(self.options, values)

    def _differs(self, option: Option, given: Mapping[str, Any]) -> bool:
        if option.key not in given:
            return False
        return bool(self._write(option, given[option.key]) != self._write(option, option.default))

    def _write(self, option: Option, value: Any) -> Any:
        return _write(option, value, option.key in self.picked)


def applying(declared: Iterable[Option], values: Mapping[str, Any]) -> frozenset[str]:
    """Keys of the options that matter beside `values`. One that does not counts with its default for the others:
    what a hidden widget was left at says nothing."""
    conditional = [option for option in declared if option.when]
    now = {option.key: option.default for option in declared} | dict(values)
    while off := [each for each in conditional if not applies(each, now) and now[each.key] != each.default]:
        now |= {option.key: option.default for option in off}
    return frozenset(option.key for option in declared if applies(option, now))


def draw(
    config: type[Config],
    choices: Mapping[str, Sequence[Any]],
    groups: Sequence[str],
    prefix: str = "option",
    first: Sequence[str] = (),
    insets: Mapping[str, gr.HTML] | None = None,
) -> Form:
    """Draw the options of `groups`, a section each.

    Args:
        config: the declarations.
        choices: for string options, values to offer beside free text.
        groups: the sections in order; those that few people need start closed.
        prefix: of the widgets' ids in the page, `option-lora_rank`; two forms on a page need two.
        first: keys that are at once in sight, in this order; a section that has some keeps its others behind "More".
        insets: by group, what is not rendered yet and comes below the options that are at once in sight.
    """
    declared = _alone([option for option in options(config) if option.group in groups])
    there = applying(declared, {})
    brush = _Brush(choices, prefix, there)
    drawn: dict[str, gr.components.Component] = {}
    sections = []
    for group in groups:
        members = tuple(option for option in declared if option.group == group)
        shown = _any_of(members, there)
        title, elem_id = group_title(group), f"{prefix}-section-{group}"
        with gr.Accordion(title, open=group not in CLOSED_GROUPS, visible=shown, elem_id=elem_id) as heading:
            drawn |= _divided(members, first, brush, (insets or {}).get(group))
        sections.append(Section(group, heading, members))
    components = tuple(drawn[option.key] for option in declared)
    return Form(config, declared, components, tuple(sections), frozenset(choices))


def draw_some(config: type[Config], keys: Sequence[str], choices: Mapping[str, Sequence[Any]], prefix: str) -> Form:
    """Draw the options called `keys` only, in that order and without sections; the rest as in `draw`."""
    declared = {option.key: option for option in options(config)}
    kept = _alone([declared[key] for key in keys])
    drawn = _Brush(choices, prefix, frozenset(keys)).row(kept)
    return Form(config, kept, tuple(drawn.values()), (), frozenset(choices))


def _alone(declared: Sequence[Option]) -> tuple[Option, ...]:
    """Options that depend on nothing but each other: whether the others hold is known to who draws the form."""
    keys = {option.key for option in declared}
    return tuple(
        replace(option, when={key: value for key, value in option.when.items() if key in keys}) for option in declared
    )


def _divided(
    members: Sequence[Option], first: Sequence[str], brush: _Brush, inset: gr.HTML | None
) -> dict[str, gr.components.Component]:
    """The widgets of a section: the first ones in their order, the inset, the others folded."""
    ranked = sorted((option for option in members if option.key in first), key=lambda option: first.index(option.key))
    rest = [option for option in members if option.key not in first]
    drawn = brush.row(ranked or rest)
    if inset:
        inset.render()
    if not ranked or not rest:
        return drawn
    with gr.Accordion(said("More", "更多"), open=False, elem_classes="more"):
        return drawn | brush.row(rest)


def _any_of(members: Iterable[Option], there: frozenset[str]) -> bool:
    return any(option.key in there for option in members)


@dataclass(frozen=True)
class _Brush:
    """Draws widgets: what they offer, how their ids begin, and which are shown at first."""

    choices: Mapping[str, Sequence[Any]]
    prefix: str
    there: frozenset[str]

    def row(self, declared: Iterable[Option]) -> dict[str, gr.components.Component]:
        with gr.Row(equal_height=True, elem_classes="form-row"):
            return {option.key: self._widget(option) for option in declared}

    def _widget(self, option: Option) -> gr.components.Component:
        choices = self.choices.get(option.key)
        common: dict[str, Any] = {
            "label": said(*option.label),
            "info": said(option.en, option.zh),
            "value": _write(option, option.default, choices is not None),
            "elem_id": f"{self.prefix}-{option.key}",
            "min_width": 220,
            "interactive": True,
            "visible": option.key in self.there,
        }
        if option.kind == "bool":
            return gr.Dropdown(TRISTATE, **common) if option.nullable else gr.Checkbox(**common)
        if option.kind in ("int", "float") and not option.nullable:
            # bounds are left to the validation, which says what is wrong instead of clamping what was typed
            return gr.Number(precision=0 if option.kind == "int" else None, step=_step(option), **common)
        return _text_widget(option, choices, common)


def _step(option: Option) -> float:
    """What an arrow key adds: one more of the default's first digit. A whole one would make 0.0002 a 1."""
    if option.kind == "int":
        return 1
    return float(10.0 ** math.floor(math.log10(option.default))) if option.default else 0.01


def _text_widget(option: Option, choices: Sequence[Any] | None, common: dict[str, Any]) -> gr.components.Component:
    if option.kind == "choice":
        return gr.Dropdown(_offered(option, option.choices), **common)
    if choices is not None:
        several = option.kind == "list"
        return gr.Dropdown(_offered(option, choices), multiselect=several, allow_custom_value=True, **common)
    empty = said("automatic", "自动") if option.nullable else None
    return gr.Textbox(placeholder=empty, lines=3 if option.key in LONG_TEXTS else 1, **common)


def _offered(option: Option, choices: Sequence[Any]) -> list[Any]:
    """Where one of the choices is off, none of them leaves it to the studio."""
    empty = (AUTO, "") if "off" in option.choices else NO_CHOICE
    return [*([empty] if option.nullable and option.kind != "list" else []), *choices]


def _read(option: Option, value: Any) -> Any:
    if value in ("", []):
        return None
    if option.kind == "bool" and option.nullable:
        return FROM_TRISTATE[value]
    return value


def _write(option: Option, value: Any, is_picked: bool) -> Any:
    if option.kind == "bool" and option.nullable:
        return TO_TRISTATE[value]
    if option.kind == "list":
        items = [item for item in split_names(value) if item != NOTHING]
        return items if is_picked else ",".join(map(str, items))
    if value is None:
        return ""
    if option.choices and isinstance(value, bool):  # what YAML makes of on and off
        return "on" if value else "off"
    return str(value) if option.nullable and not option.choices else value
