"""python -m studio serve MODEL [--adapter NAME=PATH] key=value ..."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from studio import settings
from studio.cli.follow import follow
from studio.cli.terminal import say
from studio.config import load
from studio.config.serve import ServeConfig
from studio.errors import ConfigError, Problem, ServingError
from studio.runs import launchers, outputs
from studio.runs.store import Store
from studio.serving import servers
from studio.serving.servers import Endpoint
from studio.serving.speaker import speaker
from studio.serving.wording import SERVERS_OWN, wording


def main(words: Sequence[str]) -> int:
    """Create a server, start it, follow it until it answers; it goes on serving."""
    arguments = _parser().parse_intermixed_args(words)
    store = Store(settings.from_environment().saves_dir)
    config = _read(arguments, store)
    if arguments.dry_run:
        print(load.dump(config), end="")
        return 0
    if running := servers.find(store, config.model_name_or_path):
        raise ServingError(f"{running.id} serves that model already: stop it first, or use it")
    run = launchers.begin(store, config)
    code = follow(run, until=lambda run: servers.endpoint(run) is not None)
    if endpoint := servers.endpoint(run):
        say(f"{endpoint.server.url}/v1 answers as {', '.join(model.name for model in endpoint.served)}")
        for name in worded_otherwise(endpoint):
            say(f"{name} was trained with another chat template than its base: send its chat_template.jinja along")
        say(f"The API key is in {run.path / 'server.json'}. To stop it: python -m studio runs stop {run.id}")
    return code


def worded_otherwise(endpoint: Endpoint) -> list[str]:
    """Adapters that the server by itself asks in other words than they have learnt."""
    adapters = [model for model in endpoint.served if not model.is_base]
    return [model.name for model in adapters if wording(speaker(model.path)) != SERVERS_OWN]


def _read(arguments: argparse.Namespace, store: Store) -> ServeConfig:
    words = list(arguments.words)
    values: dict[str, Any] = {}
    if words and words[0].partition("=")[0] not in ServeConfig.model_fields:  # a folder's name may hold a =
        values["model_name_or_path"] = words.pop(0)
    values |= load.overrides(words)
    if arguments.adapter:
        values["adapters"] = [_adapter(text, store) for text in arguments.adapter]
    return load.parse(ServeConfig, values)


def _adapter(text: str, store: Store) -> dict[str, str]:
    name, equals, where = text.partition("=")
    if not (name and equals and where):
        raise ConfigError([Problem("--adapter", f"{text!r}: write it as NAME=FOLDER or NAME=RUN_ID")])
    return {"name": name, "path": str(outputs.adapter_of(store, where).path)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m studio serve", description="Start an OpenAI-compatible server and wait until it answers."
    )
    parser.add_argument("words", nargs="*", metavar="MODEL | key=value", help="seedling, a folder or a hub id; options")
    parser.add_argument("--adapter", action="append", metavar="NAME=PATH", help="a LoRA adapter to load; repeatable")
    parser.add_argument("--dry-run", action="store_true", help="print the whole configuration and start nothing")
    return parser
