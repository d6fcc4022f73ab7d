"""python -m studio train RUN --node-rank N: this machine's part of a training that runs on several."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from studio.cli.follow import EXIT_CODES, Watch
from studio.cli.terminal import say
from studio.errors import ConfigError, Problem, RunError, RunNotFound
from studio.runs import launchers, queue
from studio.runs.run import Run, State
from studio.runs.store import Store

POLL_S = 0.3
STOPPED = EXIT_CODES[State.STOPPED]
END_S = 30.0  # that one part of a training may outlive another


def join(store: Store, words: Sequence[str], node: int) -> int:
    """Join the run, show what it does, and end with it; the exit code is the run's.

    Ctrl-C stops the whole training, which is saved; twice ends the processes of this machine at once.
    """
    run = _named(store, words, node)
    folder = launchers.join(run, node)
    watch, first = Watch(run), iter([f"Joined {run.id} as node {node}. Its log: {folder / 'log.txt'}"])
    while True:
        try:
            for line in first:  # in here, as Ctrl-C may come at any time
                say(line)
            _follow(run, folder, watch)
            return STOPPED if (folder / "STOP_NOW").exists() else _end(run)
        except KeyboardInterrupt:
            _leave(run, folder)


def _named(store: Store, words: Sequence[str], node: int) -> Run:
    try:
        [word] = words
    except ValueError as error:
        what = f"--node-rank {node} joins a run: give its folder and nothing else, as node 0 shows it"
        raise ConfigError([Problem(" ".join(words), what)]) from error
    folder = Path(word).expanduser().absolute()
    if (folder / "config.yaml").exists():
        return Store(folder.parent).get(folder.name)
    try:
        return store.get(word)
    except RunNotFound as error:
        what = "is not to be seen from this machine: all nodes must share the saves folder, under the same path"
        raise RunNotFound(f"{word} {what}. Or nobody has started the run yet: node 0 creates it") from error


def _follow(run: Run, folder: Path, watch: Watch) -> None:
    """Until the processes of this machine have ended: with the run, if need be by force."""
    since = time.monotonic()
    while not (folder / "exit.json").exists():
        watch.show()
        if run.is_active:
            since = time.monotonic()
        elif time.monotonic() - since > END_S:
            (folder / "STOP_NOW").touch()
        if not queue.is_attended(folder):
            raise RunError(f"The processes of {run.id} on this machine went down without a word. Their log: {folder}")
        time.sleep(POLL_S)
    watch.show()


def _end(run: Run) -> int:
    """How the run ended, which the main machine writes down a moment after this one is done."""
    deadline = time.monotonic() + END_S
    while run.is_active and time.monotonic() < deadline:
        time.sleep(POLL_S)
    say(f"{run.state}: {run.reason}" if run.reason else str(run.state))
    return EXIT_CODES.get(run.state, EXIT_CODES[State.FAILED])


def _leave(run: Run, folder: Path) -> None:
    is_training = (run.path / "ranks").exists()
    if is_training and not (run.path / "STOP").exists():
        say("Stopping the training on all nodes; what is learned so far is saved. Ctrl-C again ends this node at once.")
        run.request("STOP")
    else:
        say("Ending this node.")
        (folder / "STOP_NOW").touch()
