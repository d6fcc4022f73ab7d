"""Requests as tokens: conversations by a chat template, texts as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from studio.errors import RequestFailed
from studio.worker.stand_in.requests import Chat, Tokenize


def of_conversation(tokenizer: PreTrainedTokenizerBase, asked: Chat | Tokenize) -> tuple[int, ...]:
    """The tokens of a conversation.

    Raises:
        RequestFailed: there is no chat template, or it refuses the conversation.
    """
    try:
        text = tokenizer.apply_chat_template(
            [_plain(message) for message in asked.messages],
            tools=list(asked.tools) or None,
            chat_template=asked.chat_template,
            add_generation_prompt=getattr(asked, "add_generation_prompt", True),
            tokenize=False,
            **asked.chat_template_kwargs,
        )
    except (TemplateError, ValueError, TypeError) as error:
        raise RequestFailed(f"The chat template cannot be applied: {error}") from error
    return of_text(tokenizer, str(text), add_special_tokens=False)


def of_text(tokenizer: PreTrainedTokenizerBase, text: str, add_special_tokens: bool) -> tuple[int, ...]:
    """The tokens of a text."""
    return tuple(tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as templates expect it: one text, and the arguments of tool calls as values."""
    plain = {**message, "content": _text(message.get("content"))}
    if calls := message.get("tool_calls"):
        plain["tool_calls"] = [_call(call) for call in calls]
    return plain


def _text(content: str | Sequence[Mapping[str, Any]] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for part in content:
        if part.get("type") != "text":
            raise RequestFailed(f"This model reads text only: it cannot take a part of type {part.get('type')!r}")
    return "\n".join(str(part.get("text", "")) for part in content)


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function", {}))
    if isinstance(function.get("arguments"), str):
        function["arguments"] = json.loads(function["arguments"] or "{}")
    return {**call, "function": function}
