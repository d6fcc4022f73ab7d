"""python -m studio train [CONFIG.yaml | PRESET] key=value ..."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studio import preflight, settings
from studio.cli import node
from studio.cli.follow import follow, invite
from studio.config import load
from studio.config.llamafactory import environment
from studio.config.train import TrainConfig
from studio.datasets.registry import Registry
from studio.errors import ConfigError, Problem
from studio.planning import Plan, look, plan
from studio.runs import launchers
from studio.runs.store import Store
from studio.serving import neighbours
from studio.settings import ROOT


def main(words: Sequence[str]) -> int:
    """Create a training, start it, follow it."""
    arguments = _parser().parse_intermixed_args(words)
    here = settings.from_environment()
    if arguments.node_rank:
        return node.join(Store(here.saves_dir), arguments.words, arguments.node_rank)
    values = _read(arguments.words, here.data_dir)
    if arguments.dry_run:
        print(load.dump(load.parse(TrainConfig, values)), end="")
        return 0
    registry, store = Registry(Path(values.get("dataset_dir", here.data_dir))), Store(here.saves_dir)
    config = preflight.train_config(values, registry)
    _tell(preflight.outlook(config, registry))
    print(f"plan: {_told(_planned(config, registry, store, arguments.stop_servers))}", file=sys.stderr)
    run = launchers.begin(store, config, arguments.wait)
    if arguments.detach:
        invite(run)
        print(run.id)
        return 0
    return follow(run)


def _planned(config: TrainConfig, registry: Registry, store: Store, stop_servers: bool) -> Plan:
    """The plan, after model servers that hold memory it needs were stopped, or were told of."""
    machine = look(store.saves)
    found = plan(config, registry, machine, store)
    if config.launcher == "slurm":
        return found
    near = neighbours.in_the_way(store, machine, found.verdict.memory.total_gb if found.verdict else None)
    if near and stop_servers:
        neighbours.stop(near)
        return plan(config, registry, look(store.saves), store)
    if near:
        print(f"warning: {neighbours.sentence(near)}: --stop-servers stops it first", file=sys.stderr)
    return found


def _read(words: Sequence[str], data_dir: Path) -> dict[str, Any]:
    """The keys and values that the words of the command line stand for.

    Raises:
        ConfigError: a word is neither a source nor key=value, or the source cannot be read.
    """
    sources = [word for word in words if "=" not in word]
    if len(sources) > 1:
        what = f"give one YAML file or preset, not {len(sources)}; options are written key=value"
        raise ConfigError([Problem(" ".join(sources), what)])
    values = dict(_source(sources[0])) if sources else {}
    values |= load.overrides(word for word in words if "=" in word)
    values = {**environment.options(os.environ, values), **values}
    values.pop("schema_version", None)
    for key in load.without_effect(values):
        print(f"left out: {key}", file=sys.stderr)
    if data_dir != ROOT / "data":
        values.setdefault("dataset_dir", str(data_dir))
    return values


def _tell(outlook: preflight.Outlook) -> None:
    """A command is not asked twice: what the page would ask about is said, and the training starts."""
    for warning in outlook.warnings:
        print(f"warning: {warning.where}: {warning.what}", file=sys.stderr)
    for note in outlook.notes:
        print(f"note: {note}", file=sys.stderr)


def _told(plan: Plan) -> str:
    """What is known of a plan, in one line."""
    times = plan.schedule
    parts = [
        plan.verdict.words if plan.verdict else "",
        f"{plan.trainable:,} of {plan.parameters:,} parameters are trained" if plan.parameters else "",
        f"{times.steps:,} steps of {plan.effective_batch} rows" if times.steps else "",
        f"about {plan.seconds / 60:.0f} min" if plan.seconds else "",
        f"{plan.disk_gb:.2f} GB of disk, {plan.disk_free_gb:.0f} GB are free" if plan.disk_gb else "",
    ]
    return "; ".join(part for part in parts if part)


def _source(name: str) -> Mapping[str, Any]:
    if name in load.preset_names():
        return load.preset(name)
    if name.endswith((".yaml", ".yml")) or Path(name).exists():
        return load.read_yaml(Path(name))
    what = f"is neither a YAML file nor a preset; presets: {', '.join(load.preset_names())}"
    raise ConfigError([Problem(name, what)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m studio train",
        description="Fine-tune a model. Ctrl-C saves and stops, twice stops at once. Exit code: 0 completed, "
        "10 stopped, 1 failed, 2 asked wrongly.",
    )
    parser.add_argument(
        "words", nargs="*", metavar="CONFIG.yaml | PRESET | key=value", help="LLaMA-Factory's key names"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the whole configuration and start nothing")
    parser.add_argument("--detach", action="store_true", help="print the run's id and return at once")
    parser.add_argument(
        "--stop-servers", action="store_true", help="first stop model servers that hold memory which the training needs"
    )
    parser.add_argument(
        "--node-rank", type=int, default=0, metavar="N", help="join a run on several machines, given its folder, as N"
    )
    parser.add_argument("--wait", action="store_true", help="begin when the trainings started before have ended")
    return parser
