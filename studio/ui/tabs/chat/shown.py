"""How a conversation looks: turns as messages of a Chatbot, the line of figures, tokens and differences as HTML.

Everything that goes into HTML is escaped here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from html import escape
from typing import Any

from studio.conversations import tool_calls, turns
from studio.conversations.conversation import Figures, Pane, Turn
from studio.conversations.difference import difference
from studio.serving.client import Token
from studio.serving.panes import View

Message = dict[str, Any]

NO_ANSWER, HALF_AN_ANSWER = "No answer", "The answer is not whole"
THINK = "<think>"
REASONS = {"stop": "finished", "length": "cut at max_tokens", "stopped": "stopped", "tool_calls": "calls a tool"}
LIVE = re.compile('<span class="live">.*?</span>')
LEGEND = {"removed": "only in {left}", "added": "only in {right}"}
MARKS = {"same": "{}", "removed": "<del>{}</del>", "added": "<ins>{}</ins>"}


def messages(pane: Pane) -> list[Message]:
    """All turns of a pane."""
    return [message for turn in pane.turns for message in of_turn(turn)]


def of_turn(turn: Turn, growing: bool = False) -> list[Message]:
    """One turn: thoughts and calls of tools are folded messages of their own. `growing`: more of it is still coming."""
    if turn.role == "user":
        return [{"role": "user", "content": turn.content}]
    if turn.role == "tool":
        return [_folded("Result of the tool", _fenced(turn.content), "done")]
    thought, said = _parted(turn)
    found = [_folded("Thoughts", thought, "pending" if growing and not said else "done")] if thought else []
    found += [{"role": "assistant", "content": said}] if said.strip() else []
    calls = turn.tool_calls or (() if growing else tool_calls.found(said))
    found += [_folded(f"Calls {call.name}", _fenced(call.arguments), "") for call in calls]
    # a message of our own, which no model ever sees
    return [*found, _folded(HALF_AN_ANSWER if found else NO_ANSWER, turn.note, "")] if turn.note else found


def turn_of(pane: Pane, message: int) -> int:
    """The turn that message number `message` belongs to; the last one where there is no such message."""
    ends = 0
    for at, turn in enumerate(pane.turns):
        ends += len(of_turn(turn))
        if message < ends:
            return at
    return len(pane.turns) - 1


def figures(of: Figures | View, live: str = "") -> str:
    """Time to first token, speed, length and end of an answer, as HTML; `live` says what still happens."""
    parts = [_live(live)] if live else []
    if of.ttft_s is not None:
        parts.append(f"<span>first token {_seconds(of.ttft_s)}</span>")
    if of.tokens_per_s is not None:
        parts.append(f"<span>{of.tokens_per_s:.0f} tokens/s</span>")
    if of.tokens:
        parts.append(f"<span>{of.tokens} token{'s' if of.tokens > 1 else ''}</span>")
    if of.finish_reason:
        parts.append(f"<span>{escape(REASONS.get(of.finish_reason, of.finish_reason))}</span>")
    return _line(parts)


def of_view(view: View) -> str:
    """The line of an answer that is being written, or is over."""
    return figures(view, "" if view.is_over else "answering")


def of_last(pane: Pane) -> str:
    """The line of a pane's last answer; empty where it has none."""
    last = pane.turns[-1] if pane.turns else None
    return figures(last.figures) if last and last.figures else ""


def waiting(status: Mapping[str, Any]) -> str:
    """The line of a pane whose server is still starting, or whose adapter is being loaded."""
    left = status.get("eta_s")
    more = f", about {left:.0f} s left" if left else ""
    return _line([_live(f"{status.get('message') or 'asking'}{more}")])


def halted(line: str) -> str:
    """The line of a pane that was stopped."""
    return LIVE.sub("<span>stopped</span>", line)


def is_live(line: str) -> bool:
    """Whether the line is one of a pane that has not ended its answer."""
    return bool(LIVE.search(line or ""))


def tokens(turn: Turn | None) -> str:
    """The tokens of an answer, coloured by how sure the model was of each; the alternatives are in its tip."""
    if not turn or not turn.tokens:
        return ""
    spans = "".join(_token(token, first=at == 0) for at, token in enumerate(turn.tokens))
    mean = math.exp(sum(token.logprob for token in turn.tokens) / len(turn.tokens))
    count = f"{len(turn.tokens)} token{'s' if len(turn.tokens) > 1 else ''}"
    about = f"{count}, {mean:.0%} likely on the geometric mean; the paler, the surer"
    return (
        f'<div class="tokens" role="group" aria-label="Tokens of the answer">{spans}</div><p class="hint">{about}</p>'
    )


def differences(left: Pane, right: Pane, names: tuple[str, str]) -> str:
    """The last answers of two panes as one text, with what only one of them says marked."""
    texts = [last_words(pane) for pane in (left, right)]
    if not all(texts):
        return (
            f'<p class="hint">Here stands how the answers of {names[0]} and {names[1]} differ, once both have one.</p>'
        )
    pieces = difference(texts[0], texts[1])
    if all(op == "same" for op, _ in pieces):
        return f'<p class="hint">{names[0]} and {names[1]} gave the same answer, word for word.</p>'
    legend = " ".join(MARKS[op].format(words.format(left=names[0], right=names[1])) for op, words in LEGEND.items())
    text = "".join(MARKS[op].format(escape(piece)) for op, piece in pieces)
    return f'<p class="legend">{legend}</p><div class="difference">{text}</div>'


def last_answer(turns: Sequence[Turn]) -> Turn | None:
    """The answer at the end; None where the last prompt has none yet."""
    return turns[-1] if turns and turns[-1].role == "assistant" else None


def last_words(pane: Pane) -> str:
    """What the last answer says, without its thoughts; empty where there is none."""
    last = last_answer(pane.turns)
    return _parted(last)[1].strip() if last else ""


def _parted(turn: Turn) -> tuple[str, str]:
    thought, said = turns.thoughts(turn)
    if not thought and said.lstrip().startswith(THINK):  # not closed yet
        return said.lstrip().removeprefix(THINK), ""
    return thought, said


def _folded(title: str, content: str, status: str) -> Message:
    metadata = {"title": title, **({"status": status} if status else {})}
    return {"role": "assistant", "content": content, "metadata": metadata}


def _fenced(text: str) -> str:
    """The text as a block of code, indented where it is JSON."""
    with suppress(ValueError):
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    fence = "`" * max(3, max((len(run) + 1 for run in re.findall("`+", text)), default=0))
    return f"{fence}json\n{text}\n{fence}"


def _token(token: Token, first: bool) -> str:
    chance = math.exp(token.logprob)
    shown = escape(token.text).replace("\n", "↵\n")
    rows = "\n".join(f"{math.exp(logprob):7.1%}  {text!r}" for text, logprob in token.top)
    tip = escape(f"{token.text!r}: {chance:.1%}" + (f"\n\n{rows}" if rows else ""))
    return f'<span tabindex="{0 if first else -1}" style="--doubt:{1 - chance:.2f}" data-tip="{tip}">{shown}</span>'


def _live(words: str) -> str:
    return f'<span class="live">{escape(words)}</span>'


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _line(parts: Sequence[str]) -> str:
    return f'<div class="figures">{" · ".join(parts)}</div>'
