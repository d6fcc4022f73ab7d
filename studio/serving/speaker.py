"""Who answers: a base model, an adapter on its base, or a server elsewhere. And what it takes to have them answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import models
from studio.config.load import parse
from studio.config.serve import ServeConfig
from studio.errors import ModelError, ServingError
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving import installed, memory, servers
from studio.serving.kinds import smallest_rank
from studio.serving.remotes import PICK, Remote, Remotes


@dataclass(frozen=True)
class Speaker:
    """One that can be talked to. `base` is a folder or hub id; `adapter` is a folder, or None for the base itself.

    `facts` is what the folder says of itself, for people. A `remote` one has no base.
    """

    base: str
    adapter: str | None
    rank: int
    facts: str
    remote: Remote | None = None


def picked(store: Store, pick: str) -> Speaker:
    """Who answers to a pick: a model or adapter by name or folder, a run's id, a hub id, or url:NAME.

    A run that is not finished yet answers with its newest checkpoint.

    Raises:
        ModelError: a folder that is damaged, a run that has made nothing yet, or a server that is not known.
        RunNotFound: the beginning of several runs' ids.
    """
    if pick.startswith(PICK):
        remote = Remotes(store.saves).get(pick.removeprefix(PICK))
        return Speaker("", None, 0, f"{remote.model} at {remote.url}", remote)
    if pick == models.BUNDLED or Path(pick).expanduser().exists():
        return speaker(pick)
    if not any(run.id.startswith(pick) for run in store.list()):
        return speaker(pick)  # a hub id
    return speaker(str(_made_by(store.get(pick))))


def speaker(name: str) -> Speaker:
    """The adapter or model of that name: a folder, the bundled model's name, or a hub id.

    Raises:
        ModelError: a folder that is missing, damaged, or neither; or an adapter whose base is.
    """
    path = models.resolve(name)
    if not models.is_local(path):
        return Speaker(path, None, 0, "from the hub or its cache")
    if (Path(path) / "adapter_config.json").exists():
        info = models.adapter_info(Path(path))
        _check_base(info)
        what = f"LoRA of rank {info.rank}" if info.rank else f"{info.kind} adapter"
        facts = f"{what} on {_short(info.base)}{_own_template(Path(path), info.base)}"
        return Speaker(info.base, path, info.rank, facts)
    return Speaker(path, None, 0, _facts(models.check(Path(path))))


def bases(speakers: Iterable[Speaker]) -> list[str]:
    """The base models that are needed, each once: one server each."""
    return list(dict.fromkeys(speaker.base for speaker in speakers if not speaker.remote))


def start(store: Store, base: str, speakers: Iterable[Speaker], **given: Any) -> Run:
    """The server of `base`, started if need be, so that all these speakers can answer at the same time.

    `given` are options of ServeConfig for a server that is started, infer_backend also for one that is found.

    Raises:
        ConfigError, ServingError
    """
    together = list(speakers)
    rank = max((speaker.rank for speaker in together if speaker.base == base), default=0)
    options: dict[str, Any] = {"max_lora_rank": smallest_rank(max(rank, 16))}
    if len(bases(together)) > 1 and _on_gpu():
        share: float = ServeConfig.model_fields["gpu_memory_utilization"].default
        options["gpu_memory_utilization"] = share / len(bases(together))
    return servers.start(store, models.display_name(base), **options, **given)


def memory_gb(base: str) -> float | None:
    """What a server of this model takes on a CPU; None on a GPU, where it takes a share, and for an unknown size."""
    if not models.is_local(base) or _on_gpu():
        return None
    return memory.need(memory.settled(parse(ServeConfig, {"model_name_or_path": base}))).total


def _on_gpu() -> bool:
    """Whether vLLM is there and takes a share of a GPU."""
    try:
        return installed.platform()[0] == "cuda"
    except ServingError:
        return False


def _made_by(run: Run) -> Path:
    if made := run.output or next(reversed(run.checkpoints()), None):
        return made
    raise ModelError(f"run {run.id} has no finished model or adapter, and no checkpoint yet ({run.state})")


def _check_base(info: models.AdapterInfo) -> None:
    try:
        if models.is_local(info.base):
            models.check(Path(info.base))
    except ModelError as error:
        raise ModelError(f"{info.path} was trained on a model that cannot be used: {error}") from error


def _facts(info: models.ModelInfo) -> str:
    size = f"{info.parameters / 1e9:.1f} B" if info.parameters >= 1e9 else f"{info.parameters / 1e6:.1f} M"
    context = f" · {info.max_position_embeddings} tokens of context" if info.max_position_embeddings else ""
    template = "" if info.has_chat_template else " · no chat template of its own"
    return f"{size} parameters · {info.dtype}{context}{template}"


def _own_template(adapter: Path, base: str) -> str:
    folder, template = models.folder_of(base), models.chat_template(adapter)
    is_other = template and folder and template != models.chat_template(folder)
    return " · asked with the chat template that it was trained with" if is_other else ""


def _short(base: str) -> str:
    name = models.display_name(base)
    return Path(name).name if Path(name).is_absolute() else name
