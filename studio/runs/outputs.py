"""What finished runs left behind that another run can use: adapters to chat with or merge, models to start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from studio.errors import ModelError, RunNotFound
from studio.models import AdapterInfo, check_adapter
from studio.runs.run import Run
from studio.runs.store import Store


@dataclass(frozen=True)
class Output:
    """A finished adapter or model folder and the run that made it."""

    run: Run
    path: Path

    @property
    def label(self) -> str:
        return f"{self.run.name} · {self.run.id[:15]}"


def adapters(store: Store) -> list[Output]:
    """Every finished LoRA adapter, newest first."""
    return [output for output in _outputs(store) if output.path.name == "adapter"]


def models(store: Store) -> list[Output]:
    """Every finished model folder (full fine-tuning or merge), newest first."""
    return [output for output in _outputs(store) if output.path.name == "model"]


def adapter_of(store: Store, name: str) -> AdapterInfo:
    """The adapter in a folder, or the one that the run of that id made.

    Raises:
        ModelError: neither, or the folder is damaged.
    """
    folder = Path(name).expanduser()
    if (folder / "adapter_config.json").exists():
        return check_adapter(folder.resolve())
    try:
        output = store.get(name).output
    except RunNotFound as error:
        raise ModelError(f"{name!r} is neither an adapter folder nor a run") from error
    if output is None or output.name != "adapter":
        raise ModelError(f"run {name} has no finished adapter")
    return check_adapter(output)


def _outputs(store: Store) -> list[Output]:
    found = [Output(run, run.output) for run in store.list() if run.output]
    return [output for output in found if output.path.is_dir()]
