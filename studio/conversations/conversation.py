"""A conversation as values: one to four panes, each a tree of turns of which one path is shown.

Nothing that was said is dropped: a turn that was edited or answered anew stays among the `others` of the turn before.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from studio.serving.client import Sampling, Token, ToolCall
from studio.serving.panes import View

SAMPLING = Sampling(temperature=0, top_p=0.9)  # greedy: what differs between two answers is the models, not luck


@dataclass(frozen=True)
class Figures:
    """How an answer came about: seconds to its first token, tokens per second after that one."""

    tokens: int = 0
    prompt_tokens: int | None = None
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    finish_reason: str = ""

    @classmethod
    def of(cls, view: View) -> Figures:
        return cls(view.tokens, view.prompt_tokens, view.ttft_s, view.tokens_per_s, view.finish_reason)


@dataclass(frozen=True)
class Turn:
    """What somebody said. `role`: user, assistant or tool; `at`: seconds since 1970.

    `note` is a sentence of ours on why an answer came no further, which no model ever sees; `by` who answered (a pick);
    `tokens` the answer with its log-probabilities, where they were asked for; `others` what else has followed this
    turn, each a path of its own.
    """

    role: str
    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    note: str = ""
    figures: Figures | None = None
    tokens: tuple[Token, ...] = ()
    at: float = field(default_factory=time.time)
    by: str = ""
    others: tuple[tuple[Turn, ...], ...] = ()

    @property
    def says_something(self) -> bool:
        """Whether there is more to it than a note."""
        return bool(self.content or self.reasoning or self.tool_calls)


@dataclass(frozen=True)
class Pane:
    """One who answers (`pick`: a model, adapter or run), and what was said there. `sampling` None: the shared one.

    `others` are what else the pane began with.
    """

    pick: str
    sampling: Sampling | None = None
    turns: tuple[Turn, ...] = ()
    others: tuple[tuple[Turn, ...], ...] = ()


@dataclass(frozen=True)
class Conversation:
    """All panes and what they share. `tools` is the JSON as typed; `parent` the conversation that this branched off."""

    id: str
    title: str = ""
    created: float = 0.0
    updated: float = 0.0
    parent: str = ""
    system: str = ""
    tools: str = ""
    sampling: Sampling = SAMPLING
    panes: tuple[Pane, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was asked yet."""
        return not any(pane.turns or pane.others for pane in self.panes)

    def with_pane(self, index: int, pane: Pane) -> Conversation:
        """The same with another pane at `index`."""
        return replace(self, panes=(*self.panes[:index], pane, *self.panes[index + 1 :]))


def new(picks: Sequence[str]) -> Conversation:
    """A conversation with one pane for each pick, in which nothing was said yet."""
    now = time.time()
    return Conversation(new_id(), created=now, updated=now, panes=tuple(Pane(pick) for pick in picks))


def new_id() -> str:
    """Sortable by time, and unique: 20261122-013055-9f2c1a."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
