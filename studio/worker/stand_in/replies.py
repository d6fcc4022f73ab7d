"""Answers as the JSON of OpenAI's two routes, in vLLM's spelling."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from studio.worker.stand_in.generation import Piece
from studio.worker.stand_in.sampling import Drawn

LOWEST = -9999.0  # JSON has no minus infinity


@dataclass(frozen=True)
class Reply(ABC):
    """One reply. `text_of` a token; `by_id`: tokens are named by number instead, since the texts of two may be alike.

    `alternatives`: how many of the likeliest are told, None for none.
    """

    model: str
    text_of: Callable[[int], str]
    by_id: bool
    alternatives: int | None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answers: Sequence[Sequence[Piece]], usage: dict[str, int]) -> dict[str, Any]:
        """All answers at once."""
        choices = [self.choice(number, pieces) for number, pieces in enumerate(answers)]
        return {**self._head(False), "choices": choices, "usage": usage}

    def chunk(self, choices: Sequence[dict[str, Any]], usage: dict[str, int] | None = None) -> dict[str, Any]:
        """A piece of a stream."""
        return {**self._head(True), "choices": list(choices), **({"usage": usage} if usage else {})}

    def name(self, token: int) -> str:
        """A token, as it is written."""
        return f"token_id:{token}" if self.by_id else self.text_of(token)

    def openings(self, count: int) -> list[dict[str, Any]]:
        """What begins a stream of `count` answers."""
        return []

    @abstractmethod
    def choice(self, number: int, pieces: Sequence[Piece]) -> dict[str, Any]:
        """One answer, whole."""

    @abstractmethod
    def part(self, number: int, piece: Piece, before: int) -> dict[str, Any]:
        """What a piece adds to answer `number`, of which `before` characters are out."""

    @abstractmethod
    def _head(self, is_chunk: bool) -> dict[str, Any]: ...


class ChatReply(Reply):
    """/v1/chat/completions"""

    def openings(self, count: int) -> list[dict[str, Any]]:
        return [_choice(number, {"delta": {"role": "assistant", "content": ""}}) for number in range(count)]

    def choice(self, number: int, pieces: Sequence[Piece]) -> dict[str, Any]:
        message = {"role": "assistant", "content": _joined(pieces)}
        return _choice(number, {"message": message, "logprobs": self._logprobs(pieces)}, pieces[-1])

    def part(self, number: int, piece: Piece, before: int) -> dict[str, Any]:
        return _choice(number, {"delta": {"content": piece.text}, "logprobs": self._logprobs([piece])}, piece)

    def _logprobs(self, pieces: Sequence[Piece]) -> dict[str, Any] | None:
        if self.alternatives is None:
            return None
        return {"content": [self._token(piece.drawn, self.alternatives) for piece in pieces if piece.drawn]}

    def _token(self, drawn: Drawn, count: int) -> dict[str, Any]:
        top = [self._entry(token, logprob) for token, logprob in drawn.top[:count]]
        return {**self._entry(drawn.token, drawn.logprob), "top_logprobs": top}

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        text = self.text_of(token)
        return {"token": self.name(token), "logprob": max(logprob, LOWEST), "bytes": list(text.encode())}

    def _head(self, is_chunk: bool) -> dict[str, Any]:
        kind = "chat.completion.chunk" if is_chunk else "chat.completion"
        return {"id": f"chatcmpl-{self.id}", "object": kind, "created": self.created, "model": self.model}


class CompletionReply(Reply):
    """/v1/completions"""

    def choice(self, number: int, pieces: Sequence[Piece]) -> dict[str, Any]:
        return _choice(number, {"text": _joined(pieces), "logprobs": self._logprobs(pieces, 0)}, pieces[-1])

    def part(self, number: int, piece: Piece, before: int) -> dict[str, Any]:
        return _choice(number, {"text": piece.text, "logprobs": self._logprobs([piece], before)}, piece)

    def _logprobs(self, pieces: Sequence[Piece], start: int) -> dict[str, Any] | None:
        if self.alternatives is None:
            return None
        drawn = [piece.drawn for piece in pieces if piece.drawn]
        tokens = [self.name(each.token) for each in drawn]
        return {
            "tokens": tokens,
            "token_logprobs": [max(each.logprob, LOWEST) for each in drawn],
            "top_logprobs": [self._top(each, self.alternatives + 1) for each in drawn],
            "text_offset": [start + sum(map(len, tokens[:number])) for number in range(len(tokens))],
        }

    def _top(self, drawn: Drawn, count: int) -> dict[str, float]:
        return {self.name(token): max(logprob, LOWEST) for token, logprob in drawn.top[:count]}

    def _head(self, is_chunk: bool) -> dict[str, Any]:
        return {"id": f"cmpl-{self.id}", "object": "text_completion", "created": self.created, "model": self.model}


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Tokens, counted."""
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def _choice(number: int, content: dict[str, Any], end: Piece | None = None) -> dict[str, Any]:
    reasons = (end.finish_reason, end.stop_reason) if end else (None, None)
    return {"index": number, **content, "finish_reason": reasons[0], "stop_reason": reasons[1]}


def _joined(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)
