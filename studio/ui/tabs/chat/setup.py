"""What the Compare page is set to: who answers in how many panes, drawn how, told what beforehand.

The widgets' values and a conversation are turned into each other here, in one order: that of `Setup.of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from studio.conversations import tools, turns
from studio.conversations.conversation import Conversation, Pane, new
from studio.serving.client import Sampling
from studio.ui.tabs.chat import sampling as drawing

PANES = 4
LETTERS = "ABCD"
SHARED = 8  # widgets of a sampling
OWN = 2 + SHARED  # of a pane: who answers, whether it has a sampling of its own, that sampling
SET = 1 + PANES + 3 + SHARED + OWN * PANES  # of `values`
ALTERNATIVES = 5  # tokens shown beside each that was drawn


@dataclass(frozen=True)
class Setup:
    """`panes` are picks with a sampling of their own, or None for the shared one."""

    system: str
    tools: str
    sampling: Sampling
    panes: tuple[tuple[str, Sampling | None], ...]

    @classmethod
    def of(cls, count: int, system: str | None, tools: str | None, with_tokens: bool, *values: Any) -> Setup:
        """The widgets' values: those of the shared sampling, then those of each pane that there could be."""
        logprobs = ALTERNATIVES if with_tokens else None
        shared = replace(drawing.read(*values[:SHARED]), logprobs=logprobs)
        panes = [values[at : at + OWN] for at in range(SHARED, SHARED + OWN * count, OWN)]
        return cls(system or "", tools or "", shared, tuple(_pane(pane, logprobs) for pane in panes))

    @property
    def picks(self) -> list[str]:
        return [pick for pick, _ in self.panes]


def _pane(values: Sequence[Any], logprobs: int | None) -> tuple[str, Sampling | None]:
    pick, is_own, *own = values
    return pick or "", replace(drawing.read(*own), logprobs=logprobs) if is_own else None


def fitted(conversation: Conversation | None, setup: Setup) -> Conversation:
    """The conversation as the page is set now, or a new one. A pane in which another one is to answer begins anew;
    panes that another page has added stay.

    Raises:
        ConfigError: the tools are no JSON list of tools.
    """
    tools.parse(setup.tools)
    known = conversation or new(setup.picks)
    panes = [
        _fitted(known.panes[at] if at < len(known.panes) else Pane(pick), pick, own)
        for at, (pick, own) in enumerate(setup.panes)
    ]
    panes += known.panes[len(panes) :]
    return replace(known, system=setup.system, tools=setup.tools, sampling=setup.sampling, panes=tuple(panes))


def values(conversation: Conversation) -> list[Any]:
    """What the widgets show of a conversation: the number of panes, which columns are there, then as `Setup.of`."""
    shared = conversation.sampling
    head = [len(conversation.panes), *columns(len(conversation.panes))]
    common = [conversation.system, conversation.tools, shared.logprobs is not None, *drawing.write(shared)]
    return [*head, *common, *(value for at in range(PANES) for value in _shown(conversation, at))]


def columns(count: int) -> list[Any]:
    """Which panes are there."""
    return [gr.update(visible=at < count) for at in range(PANES)]


def _fitted(pane: Pane, pick: str, own: Sampling | None) -> Pane:
    return replace(pane if pane.pick == pick else turns.cleared(pane), pick=pick, sampling=own)


def _shown(conversation: Conversation, at: int) -> list[Any]:
    if at >= len(conversation.panes):
        return [gr.skip()] * OWN
    own = conversation.panes[at].sampling
    return [conversation.panes[at].pick, own is not None, *drawing.write(own or conversation.sampling)]
