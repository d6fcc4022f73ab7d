"""python -m studio chat [MODEL_OR_ADAPTER ...] key=value ...

Several names answer the same prompt, one below the other; they are asked at the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from studio import models, settings
from studio.cli.proof import proof
from studio.cli.terminal import say, tick
from studio.config import load
from studio.conversations import tool_calls, turns
from studio.conversations.conversation import Conversation, Pane, new
from studio.conversations.shelf import Shelf
from studio.conversations.tools import Tool, parse
from studio.errors import ConfigError, Problem, RestartNeeded, ServingError
from studio.runs.store import Store
from studio.serving import panes, servers, speaker
from studio.serving.client import Sampling, ToolCall
from studio.serving.panes import Round, View
from studio.serving.voices import Voice, open_voice

HELP = (
    "/again answers anew, /clear begins anew, /system TEXT sets the system prompt, /quit (or Ctrl-D) ends. "
    "Ctrl-C stops an answer."
)


@dataclass(frozen=True)
class Table:
    """Who sits at it, by the name that was given, what they may call, and where what is said is kept, if anywhere."""

    voices: dict[str, Voice]
    tools: tuple[Tool, ...]
    shelf: Shelf | None


def main(words: Sequence[str]) -> int:
    """Talk until the input ends. A server that had to be started for it is stopped again."""
    arguments = _parser().parse_intermixed_args(words)
    names = [word for word in arguments.words if "=" not in word] or [models.BUNDLED]
    sampling = _sampling(word for word in arguments.words if "=" in word)
    offered = _text(arguments.tools) if arguments.tools else ""
    tools = parse(offered)
    store = Store(settings.from_environment().saves_dir)
    before = {run.id for run in store.list("serve") if run.is_active}
    for name in names:
        speaker.picked(store, name)  # a wrong name is told before anything is started
    try:
        voices = {name: _voice(store, name, names) for name in names}
        table = Table(voices, tools, Shelf(store.saves / "conversations") if arguments.save else None)
        _talk(table, replace(new(names), sampling=sampling, system=arguments.system, tools=offered))
    finally:
        if not arguments.keep:
            for run in store.list("serve"):
                if run.id not in before and run.is_active:
                    run.stop()
    return 0


def _voice(store: Store, name: str, together: Sequence[str]) -> Voice:
    shown = ""

    def tell(status: dict[str, Any]) -> None:
        nonlocal shown
        if (message := status.get("message") or shown) != shown:
            tick(message)
        shown = message

    try:
        voice = asyncio.run(open_voice(store, name, together, tell))
    except RestartNeeded as error:
        raise ServingError(f"{error}. Stop it (python -m studio runs stop {error.run_id}) and ask again") from error
    if voice.says:
        say(f"{name}: {voice.says}")
    found = next((found for found in servers.endpoints(store) if found.server == voice.server), None)
    if proved := found and proof(found, voice.model):
        say(proved)
    return voice


def _talk(table: Table, conversation: Conversation) -> None:
    say(f"{', '.join(pane.pick for pane in conversation.panes)} listening. {HELP}")
    while (line := _ask()) is not None:
        command, _, rest = line.partition(" ")
        if command == "/quit":
            return
        if command in ("/clear", "/system"):
            conversation = _anew(conversation, rest if command == "/system" else conversation.system)
        elif command == "/again":
            conversation = _round(table, conversation, turns.regenerated)
        elif command.startswith("/"):
            say(HELP)
        elif line.strip():
            conversation = _round(table, conversation, partial(turns.asked, prompt=line))


def _ask() -> str | None:
    try:
        return input("> " if sys.stdin.isatty() else "")
    except (EOFError, KeyboardInterrupt):
        return None


def _anew(old: Conversation, system: str) -> Conversation:
    say(f"The conversation begins anew. System prompt: {system or 'none'}")
    begun = new([pane.pick for pane in old.panes])
    return replace(begun, sampling=old.sampling, system=system, tools=old.tools)


def _round(table: Table, conversation: Conversation, prepare: Callable[[Pane], Pane]) -> Conversation:
    """Have all answer what `prepare` asks them. Answers that failed or were stopped are kept as such."""
    asked = [prepare(pane) for pane in conversation.panes]
    if not all(pane.turns for pane in asked):
        return conversation
    talk = Round([_request(table, conversation, pane) for pane in asked])
    try:
        asyncio.run(_print(talk, [pane.pick for pane in asked]))
    except KeyboardInterrupt:
        print(" (stopped)")
    answered = tuple(turns.answered(pane, view) for pane, view in zip(asked, talk.views, strict=True))
    return _kept(table.shelf, conversation, replace(conversation, panes=answered))


def _request(table: Table, conversation: Conversation, pane: Pane) -> panes.Pane:
    voice = table.voices[pane.pick]
    messages = turns.messages(pane, conversation.system)
    return panes.Pane(voice.server, voice.model, messages, conversation.sampling, voice.wording, table.tools)


def _kept(shelf: Shelf | None, before: Conversation, after: Conversation) -> Conversation:
    """The conversation as it goes on: the one on the shelf, which a page may have open, too."""
    if shelf is None:
        return after
    if before.is_empty:
        kept = shelf.create(after)
        say(f"(kept as {kept.id}; the Chat tab lists it)")
        return kept
    return shelf.change(after.id, lambda now: replace(now, panes=after.panes), dict(enumerate(before.panes)))


async def _print(talk: Round, labels: Sequence[str]) -> None:
    """Print one answer after the other as they come in; those below are collected meanwhile."""
    current, shown = 0, 0
    _begin(labels, current)
    async for views in talk.stream():
        while current < len(views):
            words = _words(views[current])
            print(words[shown:], end="", flush=True)
            shown = len(words)
            if not views[current].is_over:
                break
            print("".join(f"\n-> {call.name}({call.arguments})" for call in _calls(views[current])))
            print(_figures(views[current]))
            current, shown = current + 1, 0
            _begin(labels, current)


def _begin(labels: Sequence[str], current: int) -> None:
    if len(labels) > 1 and current < len(labels):
        print(f"[{labels[current]}]")


def _words(view: View) -> str:
    """What was thought and said, which only grows."""
    thought = f"<think>{view.reasoning}" if view.reasoning else ""
    return f"{thought}</think>\n{view.text}" if thought and view.text else thought or view.text


def _calls(view: View) -> Sequence[ToolCall]:
    return view.tool_calls or tool_calls.found(view.text)


def _figures(view: View) -> str:
    if view.error:
        return f"({view.error})"
    parts = [f"{view.tokens} tokens"]
    if view.ttft_s is not None:
        parts.append(f"first after {view.ttft_s * 1000:.0f} ms")
    if view.tokens_per_s is not None:
        parts.append(f"{view.tokens_per_s:.0f} tokens/s")
    return f"({', '.join(parts)})"


def _text(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem("--tools", f"{path} cannot be read: {error}")]) from error


def _sampling(words: Iterable[str]) -> Sampling:
    values = load.overrides(words)
    known = [each.name for each in fields(Sampling)]
    problems = [
        Problem(key, f"there is no such option; there are: {', '.join(known)}") for key in values.keys() - known
    ]
    try:
        sampling = TypeAdapter(Sampling).validate_python({key: values[key] for key in known if key in values})
    except ValidationError as error:
        problems += [Problem(str(each["loc"][0]), each["msg"]) for each in error.errors()]
    if problems:
        raise ConfigError(problems)
    return sampling


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m studio chat", description="Talk to a model, or compare several: base, adapters, merged models."
    )
    parser.add_argument(
        "words", nargs="*", metavar="MODEL | ADAPTER | RUN_ID | url:NAME | key=value", help="seedling if none"
    )
    parser.add_argument("--system", default="", metavar="TEXT", help="system prompt")
    parser.add_argument("--tools", metavar="FILE", help="tools that may be called: a JSON list, as in OpenAI's API")
    parser.add_argument("--save", action="store_true", help="keep the conversation; the Chat tab lists it")
    parser.add_argument("--keep", action="store_true", help="leave a server running that was started for this")
    return parser
