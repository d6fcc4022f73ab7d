"""One line about each run, for lists. Ended runs never change, so they are read once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.config.adapter import AdapterConfig
from studio.config.arena import ArenaConfig
from studio.config.consolidate import ConsolidateConfig
from studio.config.data import DataConfig
from studio.config.merge import RUN, MergeConfig
from studio.config.push import PushConfig
from studio.config.train import TrainConfig
from studio.models import display_name
from studio.runs.run import ACTIVE, ENDS, UNKNOWN_KIND, Run, State
from studio.runs.store import Store


@dataclass(frozen=True)
class Summary:
    """What a list shows of a run. `progress` is 0..1, `eta_s` in seconds, `created` in unix seconds."""

    id: str
    kind: str
    name: str
    model: str
    detail: str
    state: str
    progress: float | None
    message: str
    eta_s: float | None
    created: float


_ended: dict[str, Summary] = {}


def summaries(store: Store) -> list[Summary]:
    """Every run but the work on datasets, newest first."""
    return [_of(run) for run in store.list() if run.kind != "data"]


def of(run: Run) -> Summary:
    """The line about one run, read anew."""
    state, status = run.state, run.status
    model, detail = _subject(run)
    return Summary(
        id=run.id,
        kind=run.kind,
        name=run.name,
        model=model,
        detail=detail,
        state=state.value,
        progress=_progress(state, status),
        message=_message(run, state, status),
        eta_s=status.get("eta_s") if state is State.RUNNING else None,
        created=run.created.timestamp(),
    )


def _of(run: Run) -> Summary:
    key = str(run.path)
    if key not in _ended:
        summary = of(run)
        if State(summary.state) not in ENDS:
            return summary
        _ended[key] = summary
    return _ended[key]


def _subject(run: Run) -> tuple[str, str]:
    if run.kind == UNKNOWN_KIND:
        return "", ""
    config = run.config
    if isinstance(config, TrainConfig):
        how = [*([config.stage] if config.stage != "sft" else []), config.finetuning_type, ", ".join(config.dataset)]
        spread = [config.parallel_strategy] if config.parallel_strategy != "single" else []
        return display_name(config.model_name_or_path), " · ".join([*how, *spread])
    if isinstance(config, MergeConfig):
        return display_name(config.model_name_or_path or ""), " + ".join(map(_short, config.adapter_name_or_path))
    if isinstance(config, ArenaConfig):
        return "", " · ".join(map(_short, config.contestants))
    if isinstance(config, DataConfig):
        return display_name(config.model_name_or_path or ""), ", ".join(config.dataset)
    if isinstance(config, AdapterConfig):
        return "", " · ".join([config.action, *map(_short, config.adapter_name_or_path)])
    if isinstance(config, ConsolidateConfig):
        return "", _short(config.run) + (f" · step {config.step}" if config.step else "")
    if isinstance(config, PushConfig):
        return "", f"{_short(config.model_name_or_path)} → {config.hub_model_id}"
    return _model(config.model_name_or_path), ""


def _model(name: str) -> str:
    """A model that a run made is known by its run."""
    return _short(name) if Path(name).name == "model" else display_name(name)


def _short(name: str) -> str:
    """A run's adapter or model is known by its run, any other by its folder."""
    folder = Path(name)
    origin = folder.parent.name if folder.name in ("adapter", "model") else folder.name
    found = RUN.fullmatch(origin)
    return (found and found[1]) or origin


def _progress(state: State, status: dict[str, Any]) -> float | None:
    if state is State.COMPLETED:
        return 1.0
    total = status.get("total_steps")
    return min(1.0, status.get("step", 0) / total) if total else None


def _message(run: Run, state: State, status: dict[str, Any]) -> str:
    if state not in ACTIVE:
        return run.reason
    return str(status.get("message") or status.get("phase") or "")
