"""Chat turns as a page holds them: what of them goes to a model, what comes back, and the line of figures below."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from html import escape
from typing import Any, TypeVar

from studio.serving.panes import State, View

Turn = dict[str, Any]
T = TypeVar("T")

NO_ANSWER = "No answer"
REASONS = {"stop": "finished", "length": "cut at max_tokens", "stopped": "stopped"}
LIVE = re.compile('<span class="live">.*?</span>')


def asked(history: Sequence[Turn], prompt: str) -> list[Turn]:
    """The history with a new prompt."""
    return [*history, {"role": "user", "content": prompt}]


def again(history: Sequence[Turn]) -> list[Turn]:
    """The history up to its last prompt; empty where nothing was asked."""
    last = max((index for index, turn in enumerate(history) if turn["role"] == "user"), default=-1)
    return list(history[: last + 1])


def messages(history: Sequence[Turn], system: str) -> tuple[dict[str, str], ...]:
    """What the model is sent: no notes of ours, and no prompts that it never answered, but for the last."""
    said = [{"role": turn["role"], "content": text(turn["content"])} for turn in history if not _is_note(turn)]
    kept = [turn for turn, after in zip(said, [*said[1:], None], strict=True) if _goes_on(turn, after)]
    return (*([{"role": "system", "content": system.strip()}] if system.strip() else []), *kept)


def text(content: Any) -> str:
    """The text of a turn, which comes back from the page as a list of blocks."""
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content if isinstance(block, Mapping))


def answered(history: Sequence[Turn], view: View) -> list[Turn]:
    """The history with an answer as far as it has come, and why it came no further."""
    turns = [*history, {"role": "assistant", "content": with_thoughts(view.text)}] if view.text else list(history)
    if view.error:
        return [*turns, note(view.error)]
    if view.state is State.DONE and not view.text:
        return [*turns, note("The model ended its answer before the first word.")]
    return turns


def with_thoughts(text: str) -> str:
    """An answer whose thoughts were begun by the prompt, as templates of reasoning models do, with their beginning."""
    return f"<think>{text}" if "</think>" in text and "<think>" not in text else text


def note(sentence: str) -> Turn:
    """A turn of our own, which no model ever sees."""
    return {"role": "assistant", "content": sentence, "metadata": {"title": NO_ANSWER}}


def figures(view: View) -> str:
    """Time to first token, speed, length and end of an answer, as HTML."""
    parts = [_live("answering")] if view.state in (State.WAITING, State.STREAMING) else []
    if view.ttft_s is not None:
        parts.append(f"<span>first token {_seconds(view.ttft_s)}</span>")
    if view.tokens_per_s is not None:
        parts.append(f"<span>{view.tokens_per_s:.0f} tokens/s</span>")
    if view.tokens:
        parts.append(f"<span>{view.tokens} token{'s' if view.tokens > 1 else ''}</span>")
    if view.finish_reason:
        parts.append(f"<span>{escape(REASONS.get(view.finish_reason, view.finish_reason))}</span>")
    return _line(parts)


def waiting(status: Mapping[str, Any]) -> str:
    """The line of a pane whose server is still starting."""
    left = status.get("eta_s")
    more = f", about {left:.0f} s left" if left else ""
    return _line([_live(f"{status.get('message') or 'asking'}{more}")])


def halted(line: str) -> str:
    """The line of a pane that was stopped."""
    return LIVE.sub("<span>stopped</span>", line)


async def abreast(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[list[T | None], None]:
    """The newest value of every stream, each time one has a new one. Closing this closes them all."""
    newest: list[T | None] = [None] * len(streams)
    pending = {asyncio.ensure_future(anext(stream)): index for index, stream in enumerate(streams)}
    try:
        while pending:
            ready, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for step in ready:
                index = pending.pop(step)
                if not isinstance(step.exception(), StopAsyncIteration):
                    newest[index] = step.result()
                    pending[asyncio.ensure_future(anext(streams[index]))] = index
            yield list(newest)
    finally:
        for step in pending:
            step.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for stream in streams:
            await stream.aclose()


def _goes_on(turn: Turn, after: Turn | None) -> bool:
    return turn["role"] != "user" or after is None or after["role"] == "assistant"


def _is_note(turn: Turn) -> bool:
    return (turn.get("metadata") or {}).get("title") == NO_ANSWER


def _live(words: str) -> str:
    return f'<span class="live">{escape(words)}</span>'


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _line(parts: Sequence[str]) -> str:
    return f'<div class="figures">{" · ".join(parts)}</div>'
