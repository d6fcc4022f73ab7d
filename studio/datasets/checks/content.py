"""What a row says, whatever its shape: its roles as letters and its texts. Equal rows have equal content.

This is the slow way to it, over the canonical value, which names every fault; see `quick` for the fast one.
"""

from __future__ import annotations

from collections.abc import Iterator

from studio.datasets.formats import Feedback, Message, Preference, Row, Text

# letters (s system, u user, a assistant, t tool, c call, d tools, x plain text, r rejected, + good, - bad), the text
# of each (the two last letters have none), and whether any text begins or ends with space
Content = tuple[str, tuple[str, ...], bool]
ANSWERS = "ar"
SPOKEN = "suat"
_LETTERS = {"system": "s", "user": "u", "assistant": "a", "tool": "t"}


def content_of(value: Row) -> Content:
    """The content of a canonical value."""
    parts = list(_parts(value))
    roles, texts = "".join(letter for letter, _ in parts), tuple(text for _, text in parts)
    judgement = ("+" if value.good else "-") if isinstance(value, Feedback) else ""
    return roles + judgement, texts, tuple(map(str.strip, texts)) != texts


def alone(row: int) -> Content:
    """A content for a row at fault, which repeats no other."""
    return "!", (str(row),), False


def shape_of(roles: str) -> str:
    """The kind of value that rows with such `roles` are."""
    kinds = {"x": "text", "r": "preference", "+": "feedback", "-": "feedback"}
    return next((kind for letter, kind in kinds.items() if letter in roles), "conversation")


def _parts(value: Row) -> Iterator[tuple[str, str]]:
    if isinstance(value, Text):
        yield "x", value.text
        return
    for message in value.prompt if isinstance(value, Preference) else value.messages:
        yield from _spoken(_LETTERS[message.role], message)
    if isinstance(value, Preference):
        yield from _spoken("a", value.chosen)
        yield from _spoken("r", value.rejected)
    if value.tools is not None:
        yield "d", value.tools


def _spoken(letter: str, message: Message) -> Iterator[tuple[str, str]]:
    yield letter, message.content
    for call in message.tool_calls:
        yield "c", f"{call.name} {call.arguments}"
