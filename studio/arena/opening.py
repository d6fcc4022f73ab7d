"""An arena is opened: looked at first, then started; or gone on with where it was left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from studio.arena.battles import ANSWERS, PROMPTS, VERDICTS, VOTES
from studio.config.arena import ArenaConfig
from studio.datasets.registry import Registry
from studio.errors import ConfigError, Problem, RunError, SeedbedError
from studio.runs import launchers
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving import speaker

DOUBLE_CLICK_S = 3.0


def begin(store: Store, registry: Registry, config: ArenaConfig) -> Run:
    """Create the run and start it. A double click gets what its first half started.

    Raises:
        ConfigError: somebody who cannot answer, or a dataset that cannot be used: all of it at once.
        RunError: no process could be started.
    """
    if problems := list(_problems(store, registry, config)):
        raise ConfigError(problems)
    return launchers.begin(store, config, twin_within_s=DOUBLE_CLICK_S)


def go_on(store: Store, run: Run) -> Run:
    """A new run with all that an ended arena has, which asks what is missing in it.

    Raises:
        RunError: it still runs, or is no arena.
    """
    if run.is_active or not isinstance(run.config, ArenaConfig):
        raise RunError(f"{run.id} is {run.state if run.is_active else 'no arena'}: there is nothing to go on with")
    new = store.create(run.config)
    for name in (PROMPTS, ANSWERS, VERDICTS, VOTES):
        if (run.path / name).exists():
            shutil.copy2(run.path / name, new.path / name)
    return launchers.start_new(store, new)


def _problems(store: Store, registry: Registry, config: ArenaConfig) -> Iterator[Problem]:
    picks = [("contestants", pick) for pick in config.contestants] + [("judge", config.judge)] * bool(config.judge)
    for key, pick in picks:
        try:
            speaker.picked(store, str(pick))
        except SeedbedError as error:
            yield Problem(key, str(error))
    try:
        if config.dataset:
            registry.file(config.dataset)
    except SeedbedError as error:
        yield Problem("dataset", str(error))
