"""What of a row is trained, and how that is shown, without a tokenizer at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from studio.config.rendering import Rendering


@dataclass(frozen=True)
class Masking:
    """How a conversation is written, and what of it is kept and trained. `cutoff_len` in tokens.

    `template` names a chat template, None is the model's own; `enable_thinking` None leaves that to the template.
    """

    cutoff_len: int
    default_system: str | None = None
    train_on_prompt: bool = False
    mask_history: bool = False
    template: str | None = None
    enable_thinking: bool | None = None

    @classmethod
    def of(cls, config: Rendering, cutoff_len: int | None = None) -> Masking:
        """As configured; `cutoff_len` where the model takes less than the configuration says."""
        keys = ("default_system", "train_on_prompt", "mask_history", "template", "enable_thinking")
        return cls(cutoff_len or config.cutoff_len, **{key: getattr(config, key) for key in keys})


@dataclass(frozen=True)
class Piece:
    """One token. `text` is empty where it only goes on with a character that the token before began.

    `trained` is what the loss would count if nothing were cut; `cut` says that the token fell off at the cutoff.
    """

    id: int
    text: str
    trained: bool
    special: bool
    cut: bool


@dataclass(frozen=True)
class Segment:
    """One sequence of tokens. The texts of its pieces, joined, are the text that the template makes.

    `label` is chosen or rejected for a preference, good or bad for a judged answer, and empty otherwise.
    """

    label: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class MaskView:
    """A row as the training sees it."""

    segments: tuple[Segment, ...]

    def to_json(self) -> Any:
        """The value that `from_json` reads back: a list for each token, because there may be thousands."""
        return [
            [segment.label, [[each.id, each.text, each.trained, each.special, each.cut] for each in segment.pieces]]
            for segment in self.segments
        ]

    @classmethod
    def from_json(cls, value: Any) -> MaskView:
        """The inverse of `to_json`."""
        return cls(tuple(Segment(label, tuple(Piece(*piece) for piece in pieces)) for label, pieces in value))
