"""python -m studio serve MODEL [--adapter NAME=PATH] [--port 8080] key=value ..."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from studio import settings
from studio.cli.follow import follow
from studio.cli.proof import proof
from studio.cli.terminal import say
from studio.config import load
from studio.config.serve import ServeConfig
from studio.errors import ConfigError, Problem, ServingError
from studio.runs import outputs
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving import command, refusals, servers, snippets
from studio.serving.servers import Endpoint
from studio.serving.speaker import speaker
from studio.serving.wording import SERVERS_OWN, wording


def main(words: Sequence[str]) -> int:
    """Create a server, start it, follow it until it answers; it goes on serving."""
    arguments = _parser().parse_intermixed_args(words)
    store = Store(settings.from_environment().saves_dir)
    if arguments.key:
        print(_key(store.get(arguments.key)))
        return 0
    config = _read(arguments, store)
    if arguments.dry_run or arguments.print_config:
        print(command.preview(config) if arguments.print_config else load.dump(config), end="")
        return 0
    refusals.check(config)
    if running := servers.up(store, config):
        does = "serves" if running.server else "is starting to serve"
        raise ServingError(f"{running.id} {does} that model already, as it was started: use it, or stop it first")
    run = servers.begin(store, config)
    code = follow(run, until=lambda run: servers.endpoint(run) is not None)
    if endpoint := servers.endpoint(run):
        _tell(endpoint)
    return code


def _tell(endpoint: Endpoint) -> None:
    """Where it answers, and how it is asked and stopped."""
    run, url = endpoint.run, endpoint.server.url
    names = [model.name for model in endpoint.served]
    say(f"{url}/v1 answers as {', '.join(names)}")
    if endpoint.why:
        say(f"It is {endpoint.why}")
    for sentence in filter(None, (proof(endpoint, name) for name in names)):
        say(sentence)
    for name in worded_otherwise(endpoint):
        say(f"{name} was trained with another chat template than its base: send its chat_template.jinja along")
    curl = snippets.snippets(url, names[0], {})[0]
    say(f"To ask it from another shell:\n\n{snippets.key_command(run.id)}\n{curl.code}")
    say(f"To stop it: python -m studio runs stop {run.id}")


def _key(run: Run) -> str:
    if endpoint := servers.endpoint(run):
        return endpoint.server.api_key
    raise ServingError(f"{run.id} does not answer (it is {run.state}), so it has no key")


def worded_otherwise(endpoint: Endpoint) -> list[str]:
    """Adapters that the server by itself asks in other words than they have learnt."""
    adapters = [model for model in endpoint.served if not model.is_base]
    return [model.name for model in adapters if wording(speaker(model.path), given=endpoint.template) != SERVERS_OWN]


def _read(arguments: argparse.Namespace, store: Store) -> ServeConfig:
    words = list(arguments.words)
    values: dict[str, Any] = {}
    if words and words[0].partition("=")[0] not in ServeConfig.model_fields:  # a folder's name may hold a =
        values["model_name_or_path"] = words.pop(0)
    values |= load.overrides(words)
    if arguments.port:
        values["port"] = arguments.port
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
    parser.add_argument("--port", metavar="PORT", help="the port on this machine; without it a free one")
    parser.add_argument("--key", metavar="RUN_ID", help="print the API key of a server that is up, and nothing else")
    parser.add_argument("--dry-run", action="store_true", help="print the whole configuration and start nothing")
    parser.add_argument("--print-config", action="store_true", help="print the server's own options file, likewise")
    return parser
