"""What the columns of a new file mean: fields filled from what was detected, read back as a proposal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.datasets.detect import Proposal
from studio.datasets.entry import OPENAI_TAGS, TAGS, describe
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
TAG_LABELS = {
    "role_tag": ("Who speaks, key", "说话者字段"),
    "content_tag": ("What is said, key", "内容字段"),
    "user_tag": ("User's name", "用户角色名"),
    "assistant_tag": ("Assistant's name", "助手角色名"),
    "system_tag": ("System's name", "系统角色名"),
    "observation_tag": ("Tool result's name", "工具结果角色名"),
    "function_tag": ("Tool call's name", "工具调用角色名"),
}
UNUSED = ("—", "")


@dataclass(frozen=True)
class Fields:
    """The widgets, in the order of their values: format, ranked, a column for each role, the tags."""

    format: gr.Dropdown
    ranked: gr.Checkbox
    roles: tuple[gr.Dropdown, ...]
    tags: tuple[gr.Textbox, ...]
    tag_section: gr.Accordion

    @property
    def components(self) -> list[gr.components.Component]:
        """All that hold a value."""
        return [self.format, self.ranked, *self.roles, *self.tags]

    @property
    def shapely(self) -> list[gr.blocks.Block]:
        """All that change with the format."""
        return [self.ranked, *self.roles, *self.tags, self.tag_section]


def draw() -> Fields:
    """Draw the fields, empty."""
    offered = [(label, name) for name, label in FORMATS.items()]
    format = gr.Dropdown(offered, label=said("Format", "格式"), elem_id="data-format")
    ranked = gr.Checkbox(label=said("Each row has a better and a worse answer", "每行有更好与较差的回答"))
    with gr.Row(elem_classes="form-row"):
        roles = tuple(_role(role) for role in ROLES)
    with gr.Accordion(said("Names inside the turns", "轮次内部的名称"), open=False, visible=False) as section:  # noqa: SIM117
        with gr.Row(elem_classes="form-row"):
            tags = tuple(gr.Textbox(label=said(*TAG_LABELS[tag]), elem_id=f"data-{tag}") for tag in TAG_LABELS)
    return Fields(format, ranked, roles, tags, section)


def read(values: Sequence[Any]) -> Proposal:
    """The proposal that the fields say.

    Raises:
        DatasetError: a column or name that the format needs is empty.
    """
    format, ranked, *rest = values
    by_role = dict(zip(ROLES, rest, strict=False))
    tags = dict(zip(TAG_LABELS, rest[len(ROLES) :], strict=True))
    columns = {role: by_role[role] or None for role in _used(format, ranked)}
    if format == TEXT:
        return Proposal("alpaca", {**columns, "query": None, "response": None})
    if format == "alpaca":
        return Proposal(format, columns, ranking=ranked)
    if empty := [TAG_LABELS[tag][0] for tag, name in tags.items() if not name]:
        raise DatasetError(f"fill in under 'Names inside the turns': {', '.join(empty)}")
    return Proposal(format, columns, tags, ranked)


def write(proposal: Proposal, found: Sequence[str]) -> list[Any]:
    """Updates that show `proposal` about a file whose columns are `found`."""
    entry = describe("sample", "sample", proposal.formatting, proposal.columns, proposal.tags, proposal.ranking)
    plain = entry.formatting == "alpaca" and not entry.ranking and "response" not in entry.columns
    format = TEXT if plain else entry.formatting
    choices = [UNUSED, *((name, name) for name in found)]
    names = {role: column for role, column in entry.columns.items() if column in found}
    shown = _used(format, entry.ranking)
    roles = [gr.update(choices=choices, value=names.get(role, ""), visible=role in shown) for role in ROLES]
    return [format, gr.update(value=entry.ranking, visible=format != TEXT), *roles, *(entry.tags[tag] for tag in TAG_LABELS)]


def reshaped(format: str, ranked: bool) -> list[Any]:
    """Updates of `Fields.shapely` after the format or the ranking was changed by hand: only what matters is shown,
    and the names inside the turns are the usual ones."""
    shown, names = _used(format, ranked), OPENAI_TAGS if format == "openai" else TAGS
    return [
        gr.update(visible=format != TEXT),
        *(gr.update(visible=role in shown) for role in ROLES),
        *(names[tag] for tag in TAG_LABELS),
        section(format),
    ]


def section(format: str) -> Any:
    """An update that shows the names inside the turns where there are turns."""
    return gr.update(visible=format in ("sharegpt", "openai"))


def _used(format: str, ranked: bool) -> tuple[str, ...]:
    if format == TEXT:
        return ("prompt",)
    asked: tuple[str, ...] = ("prompt", "query") if format == "alpaca" else ("messages",)
    answers = ("chosen", "rejected") if ranked else ("response", "kto_tag") if format == "alpaca" else ("kto_tag",)
    extras = ("system", "history", "tools") if format == "alpaca" else ("system", "tools")
    return (*asked, *answers, *extras)


def _role(role: str) -> gr.Dropdown:
    return gr.Dropdown(
        [UNUSED], value="", label=said(*ROLES[role]), allow_custom_value=True, min_width=160, elem_id=f"data-{role}"
    )
