"""What the columns of a new file mean: fields filled from what was detected, read back as a proposal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.datasets.detect import Proposal
from studio.datasets.entry import OPENAI_TAGS, TAGS, Entry
from studio.errors import DatasetError
from studio.ui.text import said

TEXT = "text"
FORMATS = {
    "alpaca": "Question and answer (alpaca)",
    "sharegpt": "Turns with from and value (sharegpt)",
    "openai": "Turns with role and content (openai)",
    TEXT: "Plain text",
}
ROLES = {
    "prompt": ("Question or text", "问题或文本"),
    "query": ("More of the question", "问题的补充"),
    "response": ("Answer", "回答"),
    "messages": ("Turns", "对话轮次"),
    "chosen": ("Better answer", "更好的回答"),
    "rejected": ("Worse answer", "较差的回答"),
    "system": ("System prompt", "系统提示词"),
    "history": ("Earlier turns", "历史对话"),
    "tools": ("Tools", "工具"),
    "kto_tag": ("Judgement (true or false)", "评价（true 或 false）"),
}
NAMES = {
    "role_tag": ("Key of who speaks", "说话者的键"),
    "content_tag": ("Key of what is said", "内容的键"),
    "user_tag": ("The user is called", "用户角色名"),
    "assistant_tag": ("The assistant is called", "助手角色名"),
    "system_tag": ("The system is called", "系统角色名"),
    "observation_tag": ("A tool's result is called", "工具结果角色名"),
    "function_tag": ("A tool call is called", "工具调用角色名"),
}
FIELD_COUNT = 3 + len(ROLES) + len(NAMES)
UNUSED = ("—", "")


@dataclass(frozen=True)
class Fields:
    """The widgets, in the order of their values: format, ranked, a column for each role, the names inside turns."""

    format: gr.Dropdown
    ranked: gr.Checkbox
    roles: tuple[gr.Dropdown, ...]
    tags: tuple[gr.Textbox, ...]
    names: gr.Accordion

    @property
    def components(self) -> list[gr.components.Component]:
        """All that hold a value."""
        return [self.format, self.ranked, *self.roles, *self.tags]

    @property
    def shaped(self) -> list[gr.blocks.Block]:
        """All that follow from the format."""
        return [self.ranked, *self.roles, *self.tags, self.names]


def draw() -> Fields:
    """Draw the fields, empty."""
    offered = [(label, name) for name, label in FORMATS.items()]
    format = gr.Dropdown(offered, label=said("Format", "格式"), elem_id="data-format")
    ranked = gr.Checkbox(
        label=said("Each row has a better and a worse answer", "每行有更好与较差的回答"), elem_id="data-ranked"
    )
    with gr.Row(elem_classes="form-row"):
        roles = tuple(_role(role) for role in ROLES)
    with gr.Accordion(said("Names inside the turns", "轮次内部的名称"), open=False, visible=False) as names:  # noqa: SIM117
        with gr.Row(elem_classes="form-row"):
            tags = tuple(gr.Textbox(label=said(*NAMES[tag]), elem_id=f"data-{tag}", max_lines=1) for tag in NAMES)
    return Fields(format, ranked, roles, tags, names)


def read(values: Sequence[Any]) -> Proposal:
    """The proposal that the values of `Fields.components` say.

    Raises:
        DatasetError: a column or name that the format needs is empty.
    """
    format, ranked, *rest = values
    by_role = dict(zip(ROLES, rest, strict=False))
    columns = {role: by_role[role] or None for role in _used(format, ranked)}
    needed = ("chosen", "rejected") if ranked and format not in (TEXT, "alpaca") else _used(format, ranked)[:1]
    if missing := [ROLES[role][0] for role in needed if not columns[role]]:
        raise DatasetError(f"choose the column for: {', '.join(missing)}")
    if format == TEXT:
        return Proposal("alpaca", {**columns, "query": None, "response": None})
    if format == "alpaca":
        return Proposal(format, columns, ranking=ranked)
    return Proposal(format, columns, _tags(rest[len(ROLES) :]), ranked)


def values(entry: Entry, found: Sequence[str]) -> list[Any]:
    """Values of `Fields.components` that say what `entry` says, for a file whose columns are `found`."""
    columns = {role: column for role, column in entry.columns.items() if column in found}
    return [
        _format(entry),
        entry.ranking,
        *(columns.get(role, "") for role in ROLES),
        *(entry.tags[tag] for tag in NAMES),
    ]


def updates(values: Sequence[Any], found: Sequence[str]) -> list[Any]:
    """Updates of `Fields.components` and `Fields.names` that show `values`, for a file whose columns are `found`."""
    format, ranked, *rest = values
    choices = [UNUSED, *((name, name) for name in found)]
    used = _used(format, ranked)
    return [
        format,
        gr.update(value=ranked, visible=format != TEXT),
        *(
            gr.update(choices=choices, value=column, visible=role in used)
            for role, column in zip(ROLES, rest, strict=False)
        ),
        *rest[len(ROLES) :],
        gr.update(visible=format in ("sharegpt", "openai")),
    ]


def reshaped(format: str, ranked: bool) -> list[Any]:
    """Updates of `Fields.shaped` after the format or the ranking was changed by hand: only what matters is shown, and
    the names inside the turns are the usual ones."""
    used, names = _used(format, ranked), OPENAI_TAGS if format == "openai" else TAGS
    return [
        gr.update(visible=format != TEXT),
        *(gr.update(visible=role in used) for role in ROLES),
        *(names[tag] for tag in NAMES),
        gr.update(visible=format in ("sharegpt", "openai")),
    ]


def label_of(proposal: Proposal) -> str:
    """What a person calls it."""
    shape = FORMATS[_format(proposal.entry("sample", ""))]
    return f"A choice between answers: {shape[0].lower()}{shape[1:]}" if proposal.ranking else shape


def _format(entry: Entry) -> str:
    plain = entry.formatting == "alpaca" and not entry.ranking and "response" not in entry.columns
    return TEXT if plain else entry.formatting


def _used(format: str, ranked: bool) -> tuple[str, ...]:
    """The roles that a format knows, the one that it cannot do without first."""
    if format == TEXT:
        return ("prompt",)
    if format == "alpaca":
        answers: tuple[str, ...] = ("chosen", "rejected") if ranked else ("response", "kto_tag")
        return ("prompt", "query", *answers, "system", "history", "tools")
    return ("messages", *(("chosen", "rejected") if ranked else ("kto_tag",)), "system", "tools")


def _tags(names: Sequence[str]) -> dict[str, str]:
    tags = dict(zip(NAMES, names, strict=True))
    if empty := [NAMES[tag][0] for tag, name in tags.items() if not name]:
        raise DatasetError(f"fill in under 'Names inside the turns': {', '.join(empty)}")
    return tags


def _role(role: str) -> gr.Dropdown:
    label = said(*ROLES[role])
    return gr.Dropdown([UNUSED], value="", label=label, allow_custom_value=True, min_width=160, elem_id=f"data-{role}")
