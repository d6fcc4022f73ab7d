"""python -m studio remotes [add|remove|probe] ...: OpenAI-compatible servers that somebody else runs."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

from studio import settings
from studio.cli.terminal import say, table
from studio.serving import remotes
from studio.serving.remotes import Remote, Remotes


def main(words: Sequence[str]) -> int:
    """List the known servers, or do one thing with one of them."""
    arguments = _parser().parse_args(words)
    arguments.action(Remotes(settings.from_environment().saves_dir), arguments)
    return 0


def list_all(known: Remotes, arguments: argparse.Namespace) -> None:
    """Every server, by name."""
    rows = [(each.pick, each.url, each.model, each.key_env or "none") for each in known.list()]
    if rows:
        table(["pick", "address", "model", "key in"], rows)
    else:
        say("No servers yet: python -m studio remotes add NAME http://host:port MODEL")


def add(known: Remotes, arguments: argparse.Namespace) -> None:
    """Keep a server under its name."""
    remote = Remote(arguments.name, arguments.url, arguments.model, arguments.key_env)
    known.add(remote)
    say(f"To talk to it: python -m studio chat {remote.pick}")


def remove(known: Remotes, arguments: argparse.Namespace) -> None:
    """Forget a server."""
    known.remove(known.get(arguments.name).name)


def probe(known: Remotes, arguments: argparse.Namespace) -> None:
    """The models that a server offers, one a line."""
    print("\n".join(asyncio.run(remotes.probe(known.get(arguments.name)))))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m studio remotes", description="List servers that somebody else runs.")
    parser.set_defaults(action=list_all)
    verbs = parser.add_subparsers()
    adding = verbs.add_parser("add", help="keep a server by name; one of the same name is replaced")
    for name in ("name", "url", "model"):
        adding.add_argument(name)
    adding.add_argument("--key-env", default="", metavar="VARIABLE", help="environment variable that holds its key")
    adding.set_defaults(action=add)
    for action, help_text in ((remove, "forget a server"), (probe, "ask which models it offers")):
        verb = verbs.add_parser(action.__name__, help=help_text)
        verb.add_argument("name")
        verb.set_defaults(action=action)
    return parser
