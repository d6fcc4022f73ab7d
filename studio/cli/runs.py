"""python -m studio runs [show|log|stop|save|verify|resume|delete|restore] ..."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from studio import settings
from studio.cli import checkpoints
from studio.cli.terminal import duration, table
from studio.config.command import command
from studio.errors import RunError
from studio.files import read_since
from studio.runs import launchers
from studio.runs.run import Run
from studio.runs.store import Store
from studio.runs.summary import Summary, summaries

POLL_S = 0.3
FLAGS: dict[str, dict[tuple[str, ...], str]] = {
    "show": {("--json",): "for programs"},
    "log": {("-f", "--follow"): "go on until the run ends"},
    "stop": {("--now",): "without saving"},
}
MORE: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "verify": checkpoints.add_verify,
    "resume": checkpoints.add_resume,
}


def main(words: Sequence[str]) -> int:
    """List all runs, or do one thing with one of them."""
    # argparse would want them right behind the id
    changes = [word for word in words if "=" in word and not word.startswith("-")]
    parser = _parser()
    arguments = parser.parse_args([word for word in words if word not in changes])
    if changes and arguments.action is not checkpoints.resume:
        parser.error(f"{changes[0]}: only resume takes options of the training")
    arguments.changes = changes
    store = Store(settings.from_environment().saves_dir)
    launchers.attach(store)
    code: int = arguments.action(store, arguments)
    return code


def list_all(store: Store, arguments: argparse.Namespace) -> int:
    """Every run, newest first."""
    lines = summaries(store)
    if arguments.json:
        print(json.dumps([asdict(line) for line in lines], ensure_ascii=False, indent=1))
    elif lines:
        table(["run", "kind", "state", "done", "model", "what", ""], [_cells(line) for line in lines])
    else:
        print(f"No runs in {store.saves} yet. The first: python -m studio train dataset=alpaca_demo")
    return 0


def show(store: Store, arguments: argparse.Namespace) -> int:
    """Everything about one run."""
    run = store.get(arguments.id)
    value = _described(run)
    if arguments.json:
        print(json.dumps(value, ensure_ascii=False, indent=1))
        return 0
    for key in ("id", "kind", "state", "reason", "path", "output", "checkpoints"):
        if value[key]:
            print(f"{key:<12}{', '.join(value[key]) if isinstance(value[key], list) else value[key]}")
    for key in ("status", "result"):
        for name, item in value[key].items():
            print(f"{key:<12}{name}: {item}")
    print(f"{'command':<12}{value['command']}")
    return 0


def log(store: Store, arguments: argparse.Namespace) -> int:
    """The worker's own words; with --follow until it ends."""
    run = store.get(arguments.id)
    cursor = _copy(run.log, 0)
    while arguments.follow and run.is_active:
        time.sleep(POLL_S)
        cursor = _copy(run.log, cursor)
    _copy(run.log, cursor)
    return 0


def stop(store: Store, arguments: argparse.Namespace) -> int:
    """Ask an active run to save and stop, or to stop now."""
    run = _active(store, arguments.id)
    if arguments.now:
        run.stop_now()
    else:
        run.stop()
    gently = "stopping after saving" if run.kind == "train" else "stopping"
    print(f"{run.id}: {'stopping now' if arguments.now else gently}")
    return 0


def save(store: Store, arguments: argparse.Namespace) -> int:
    """Ask an active training for a checkpoint at its next step."""
    run = _active(store, arguments.id)
    if run.kind != "train":
        raise RunError(f"{run.id} is a {run.kind} run: only trainings save checkpoints")
    run.request("SAVE")
    print(f"{run.id}: saving at the next step")
    return 0


def delete(store: Store, arguments: argparse.Namespace) -> int:
    """Move an ended run to the trash."""
    run = store.get(arguments.id)
    store.trash(run)
    print(f"{run.id} is in the trash; to undo: python -m studio runs restore {run.id}")
    return 0


def restore(store: Store, arguments: argparse.Namespace) -> int:
    """Bring a run back from the trash."""
    trash = Store(store.trash_dir)
    print(store.restore(trash.get(arguments.id).id).id)
    return 0


def _active(store: Store, run_id: str) -> Run:
    run = store.get(run_id)
    if not run.is_active:
        raise RunError(f"{run.id} has ended already ({run.state})")
    return run


def _copy(path: Path, cursor: int) -> int:
    lines, cursor = read_since(path, cursor)
    sys.stdout.write(lines.decode(errors="replace"))
    sys.stdout.flush()
    return cursor


def _cells(line: Summary) -> list[str]:
    done = f"{line.progress:.0%}" if line.progress is not None else ""
    left = f"{duration(line.eta_s)} left · " if line.eta_s else ""
    return [line.id, line.kind, line.state, done, line.model, line.detail, left + line.message.replace("\n", " ")]


def _described(run: Run) -> dict[str, Any]:
    # server.json stays out: it holds the key of the model server
    return {
        "id": run.id,
        "kind": run.kind,
        "state": run.state,
        "reason": run.reason,
        "path": str(run.path),
        "output": str(run.output) if run.output else None,
        "checkpoints": [path.name for path in run.checkpoints()],
        "status": run.status,
        "exit": run.exit,
        "result": run.result,
        "error": run.error,
        "command": command(run.config),
        "config": run.config.model_dump(mode="json"),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m studio runs", description="List all runs, or do one thing with one. Ids may be abbreviated."
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(action=list_all)
    actions = parser.add_subparsers(metavar="ACTION")
    for action in (show, log, stop, save, checkpoints.verify, checkpoints.resume, delete, restore):
        added = actions.add_parser(action.__name__, help=action.__doc__, description=action.__doc__)
        added.add_argument("id", metavar="ID")
        added.set_defaults(action=action)
        for flag, help_text in FLAGS.get(action.__name__, {}).items():
            added.add_argument(*flag, action="store_true", help=help_text)
        if action.__name__ in MORE:
            MORE[action.__name__](added)
    return parser
