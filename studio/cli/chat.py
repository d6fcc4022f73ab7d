"""python -m studio chat [MODEL_OR_ADAPTER ...] key=value ...

Several names answer the same prompt, one below the other; they are asked at the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from studio import models, settings
from studio.cli.terminal import say, tick
from studio.config import load
from studio.errors import ConfigError, Problem, RestartNeeded, ServingError
from studio.runs.store import Store
from studio.serving import speaker
from studio.serving.client import Message, Sampling
from studio.serving.panes import Pane, Round, State, View
from studio.serving.voices import Voice, open_voice

HELP = "/clear begins anew, /system TEXT sets the system prompt, /quit (or Ctrl-D) ends. Ctrl-C stops an answer."
ENDED = frozenset({State.DONE, State.STOPPED, State.FAILED})


@dataclass
class Partner:
    """Somebody in the conversation, with what was heard and said."""

    label: str
    voice: Voice
    messages: list[Message] = field(default_factory=list)


def main(words: Sequence[str]) -> int:
    """Talk until the input ends. A server that had to be started for it is stopped again."""
    arguments = _parser().parse_intermixed_args(words)
    names = [word for word in arguments.words if "=" not in word] or [models.BUNDLED]
    sampling = _sampling(word for word in arguments.words if "=" in word)
    store = Store(settings.from_environment().saves_dir)
    before = {run.id for run in store.list("serve") if run.is_active}
    for name in names:
        speaker.picked(store, name)  # a wrong name is told before anything is started
    try:
        partners = [_partner(store, name, names) for name in names]
        _talk(partners, sampling, arguments.system)
    finally:
        if not arguments.keep:
            for run in store.list("serve"):
                if run.id not in before and run.is_active:
                    run.stop()
    return 0


def _partner(store: Store, name: str, together: Sequence[str]) -> Partner:
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
    return Partner(name, voice)


def _talk(partners: Sequence[Partner], sampling: Sampling, system: str) -> None:
    say(f"{', '.join(partner.label for partner in partners)} listening. {HELP}")
    while (line := _ask()) is not None:
        command, _, rest = line.partition(" ")
        if command == "/quit":
            return
        if command in ("/clear", "/system"):
            system = rest if command == "/system" else system
            for partner in partners:
                partner.messages.clear()
            say(f"The conversation begins anew. System prompt: {system or 'none'}")
        elif command.startswith("/"):
            say(HELP)
        elif line.strip():
            _round(partners, line, sampling, system)


def _ask() -> str | None:
    try:
        return input("> " if sys.stdin.isatty() else "")
    except (EOFError, KeyboardInterrupt):
        return None


def _round(partners: Sequence[Partner], prompt: str, sampling: Sampling, system: str) -> None:
    """Put one prompt to all. An answer that failed is not kept, one that was stopped is."""
    head: list[Message] = [{"role": "system", "content": system}] if system else []
    for partner in partners:
        partner.messages.append({"role": "user", "content": prompt})
    talk = Round([_pane(partner, head, sampling) for partner in partners])
    try:
        asyncio.run(_print(talk, [partner.label for partner in partners]))
    except KeyboardInterrupt:
        print(" (stopped)")
    for partner, view in zip(partners, talk.views, strict=True):
        if view.error or not view.text:
            partner.messages.pop()
        else:
            partner.messages.append({"role": "assistant", "content": view.text})


def _pane(partner: Partner, head: Sequence[Message], sampling: Sampling) -> Pane:
    voice = partner.voice
    return Pane(voice.server, voice.model, (*head, *partner.messages), sampling, voice.wording)


async def _print(talk: Round, labels: Sequence[str]) -> None:
    """Print one answer after the other as they come in; those below are collected meanwhile."""
    current, shown = 0, 0
    _begin(labels, current)
    async for views in talk.stream():
        while current < len(views):
            view = views[current]
            print(view.text[shown:], end="", flush=True)
            shown = len(view.text)
            if view.state not in ENDED:
                break
            print(f"\n{_figures(view)}")
            current, shown = current + 1, 0
            _begin(labels, current)


def _begin(labels: Sequence[str], current: int) -> None:
    if len(labels) > 1 and current < len(labels):
        print(f"[{labels[current]}]")


def _figures(view: View) -> str:
    if view.error:
        return f"({view.error})"
    parts = [f"{view.tokens} tokens"]
    if view.ttft_s is not None:
        parts.append(f"first after {view.ttft_s * 1000:.0f} ms")
    if view.tokens_per_s is not None:
        parts.append(f"{view.tokens_per_s:.0f} tokens/s")
    return f"({', '.join(parts)})"


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
    parser.add_argument("--keep", action="store_true", help="leave a server running that was started for this")
    return parser
