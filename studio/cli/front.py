"""The front door: finds the command, shows errors made for the user, turns the end into an exit code.

0 done; 1 failed; 2 asked wrongly; 10 stopped as asked, saved; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from studio.errors import ConfigError, SeedbedError
from studio.settings import ROOT

FAILED, ASKED_WRONGLY, INTERRUPTED = 1, 2, 130

# a command is the module of that name beside this one, imported only when asked for
COMMANDS = {
    "train": "fine-tune a model and follow it to its end",
    "runs": "list, show, stop, resume, delete runs",
    "chat": "talk to a model, or to several at once",
    "remotes": "list, add, remove and ask servers elsewhere to talk to",
    "serve": "start a model server and wait until it answers",
    "merge": "fold a LoRA adapter into its base model",
    "consolidate": "make a model that can be served of a checkpoint in parts",
    "export": "write a model for llama.cpp, for Ollama, or with smaller weights",
    "adapter": "extract, convert, scale and average adapters",
    "push": "upload an adapter, a model or an export to the Hugging Face hub",
    "data": "list, import, check, measure, change and download datasets",
    "arena": "have models answer the same prompts, vote without names, make data of the votes",
    "bench": "measure how fast a model answers, served in several ways",
    "presets": "list the configurations that come with the studio",
    "webui": "start the studio's page; the flags are app.py's",
}


def main(words: Sequence[str]) -> int:
    """Run one command and return the exit code."""
    name, *rest = words or ["--help"]
    if name == "webui":
        os.execv(sys.executable, [sys.executable, str(ROOT / "app.py"), *rest])
    if name not in COMMANDS:
        return _usage(name)
    try:
        code: int = import_module(f"studio.cli.{name}").main(rest)
        sys.stdout.flush()
    except SeedbedError as error:
        print(error, file=sys.stderr)
        return ASKED_WRONGLY if isinstance(error, ConfigError) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # the reader (head, less) has seen enough; Python would complain once more when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _usage(name: str) -> int:
    asked = name in ("-h", "--help", "help")
    out = sys.stdout if asked else sys.stderr
    if not asked:
        print(f"There is no command {name!r}.", file=out)
    print("python -m studio COMMAND ..., with --help for each:\n", file=out)
    for command, help_text in COMMANDS.items():
        print(f"  {command:<8}  {help_text}", file=out)
    return 0 if asked else ASKED_WRONGLY
