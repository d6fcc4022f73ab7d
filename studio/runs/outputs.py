"""What finished runs left behind that another run can use: adapters to chat with or merge, models to start from."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from studio.errors import ModelError, RunNotFound
from studio.models import AdapterInfo, adapter_info, check_adapter, folder_of
from studio.runs.run import UNKNOWN_KIND, Run
from studio.runs.store import Store


@dataclass(frozen=True)
class Output:
    """A finished adapter or model folder and the run that made it."""

    run: Run
    path: Path

    @property
    def label(self) -> str:
        return f"{self.run.name} · {self.run.id[:15]}"


def finished(store: Store) -> list[Output]:
    """Everything that finished runs made and that is still there, newest first; not of runs whose config is damaged."""
    found = [Output(run, run.output) for run in store.list() if run.output and run.kind != UNKNOWN_KIND]
    return [output for output in found if output.path.is_dir()]


def adapters(store: Store) -> list[Output]:
    """Every finished LoRA adapter, newest first."""
    return [output for output in finished(store) if output.path.name == "adapter"]


def models(store: Store) -> list[Output]:
    """Every finished model folder (full fine-tuning or merge), newest first."""
    return [output for output in finished(store) if output.path.name == "model"]


def adapter_of(store: Store, name: str, any_kind: bool = False) -> AdapterInfo:
    """The adapter in a folder, or the one that the run of that id made: a LoRA, or one of `any_kind` that PEFT has.

    Raises:
        ModelError: neither, or the folder is damaged.
    """
    look = adapter_info if any_kind else check_adapter
    folder = Path(name).expanduser()
    if (folder / "adapter_config.json").exists():
        return look(folder.resolve())
    try:
        output = store.get(name).output
    except RunNotFound as error:
        raise ModelError(f"{name!r} is neither an adapter folder nor a run{_nearest(store, name)}") from error
    if output is None or output.name != "adapter":
        raise ModelError(f"run {name} has no finished adapter")
    return look(output)


def model_of(store: Store, name: str) -> Path:
    """The model folder that a person names: a folder, "seedling", a hub id that is here, or the id of the run.

    Raises:
        ModelError: none of these. That the folder is whole is for `models.check` to say.
    """
    if folder := folder_of(name):
        return folder
    try:
        output = store.get(name).output
    except RunNotFound as error:
        raise ModelError(
            f"{name!r} is neither a model folder nor a run, and no hub model of that name is here"
        ) from error
    if output is None or output.name != "model":
        raise ModelError(f"run {name} has no finished model: merge its adapter first, or choose another run")
    return output


def _nearest(store: Store, name: str) -> str:
    """Runs with an adapter whose names are like `name`, as the end of a sentence."""
    ids = {output.run.name: output.run.id for output in adapters(store)}
    near = [ids[found] for found in get_close_matches(Path(name).name, ids, n=3)]
    return f"; do you mean {' or '.join(near)}?" if near else ""
