"""A training from its configuration to its outputs, the same for every stage and method."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from studio import models
from studio.config.load import load_run_config
from studio.config.train import TrainConfig
from studio.datasets.masking import Masking
from studio.datasets.registry import Registry
from studio.errors import NotResumable
from studio.models import ModelInfo
from studio.worker import mixing, outputs, stages
from studio.worker import model as base
from studio.worker.door import Desk
from studio.worker.mixing import Rows
from studio.worker.pool import Tokens
from studio.worker.prepared import Hooks, Prepared, Recipe, prepare
from studio.worker.progress import Interrupted
from studio.worker.report import say
from studio.worker.rows import Source
from studio.worker.stages.recorded import Recorded
from studio.worker.stages.setting import Setting


def train(desk: Desk) -> bool:
    """Train as the run's config.yaml says and leave an adapter or a model. Returns whether it was stopped early.

    Raises:
        SeedbedError: whatever the user can mend, before or during the training.
    """
    config = load_run_config(desk.run_dir / "config.yaml")
    assert isinstance(config, TrainConfig)
    info = base.find(config.model_name_or_path)
    checkpoint = _checkpoint(desk, config)
    tokenizer, data = _prepare_rows(desk, config, info)
    desk.reporter.phase("loading model", config.model_name_or_path)
    precision = base.precision(config)
    model = base.load(info.path, config, precision)
    desk.clock.lap("model")
    adapter = base.lora(config, model) if config.finetuning_type == "lora" else None
    trainer = stages.of(config).trainer(Setting(desk, config, info, model, adapter, tokenizer, data, precision))
    desk.clock.lap("trainer")
    started = time.monotonic()
    stopped = _run(desk, trainer, checkpoint)
    train_seconds = time.monotonic() - started
    if trainer.state.global_step:
        output = _save(desk, config, trainer, info, tokenizer)
        _conclude(desk, trainer, output, train_seconds, stopped)
    return stopped


def _checkpoint(desk: Desk, config: TrainConfig) -> Path | None:
    """The checkpoint to go on from: the one asked for, or the newest whole one before it."""
    shutil.rmtree(desk.run_dir / "tmp", ignore_errors=True)
    if config.resume_from_checkpoint is None:
        return None
    wanted = desk.run_dir / config.resume_from_checkpoint
    for folder in reversed(outputs.checkpoints(desk.run_dir)):
        try:
            outputs.check_checkpoint(folder)
        except NotResumable as error:
            desk.reporter.note("warning", str(error))
        else:
            return folder
    raise NotResumable(f"{wanted} cannot be resumed: it is missing or damaged, and there is no other; start again")


def _prepare_rows(desk: Desk, config: TrainConfig, info: ModelInfo) -> tuple[PreTrainedTokenizerBase, Rows]:
    desk.reporter.phase("loading data", ", ".join(config.dataset))
    cutoff_len = models.within_context(info.path, config.cutoff_len)
    tokens, registry = Tokens(info.path, config.trust_remote_code), Registry(Path(config.dataset_dir))
    masking = Masking.of(config, cutoff_len)
    recipes, own = (
        [Recipe(Source.of(config, registry, name), tokens, masking) for name in names]
        for names in (config.dataset, config.eval_dataset)
    )
    desk.clock.lap("data")
    desk.reporter.phase("tokenising")
    tokenizer = tokens.load()
    held = [_prepare(desk, config, recipe, registry) for recipe in own]
    if config.streaming:
        data = mixing.stream(config, recipes, held, cutoff_len, lambda text: desk.reporter.note("warning", text))
    else:
        data = mixing.mix(config, [_prepare(desk, config, recipe, registry) for recipe in recipes], held, cutoff_len)
    for remark in data.remarks:
        desk.reporter.note("warning", remark)
    desk.clock.lap("tokenising")
    return tokenizer, data


def _prepare(desk: Desk, config: TrainConfig, recipe: Recipe, registry: Registry) -> Prepared:
    name = recipe.source.name

    def progress(done: int, total: int) -> None:
        desk.reporter.progress(f"tokenising {name}: {done}/{total}" if total else f"tokenising {name}: {done} rows")

    hooks = Hooks(progress, lambda: desk.reporter.note("info", f"another run is tokenising {name}: waiting for it"))
    return prepare(
        recipe,
        desk.run_dir.parent / "cache/prepared",
        registry.cache_dir,
        hooks,
        processes=config.preprocessing_num_workers,
        anew=config.overwrite_cache,
    )


def _run(desk: Desk, trainer: Recorded, checkpoint: Path | None) -> bool:
    """Train to the end or to a stop request; after a stop there is a checkpoint of the last whole step."""
    if checkpoint:
        trainer.progress.last_checkpoint = str(checkpoint.relative_to(desk.run_dir))
    desk.reporter.phase("training")
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except Interrupted:
        say("stopped while validating")
    stopped = desk.requests.stop and trainer.state.global_step < trainer.state.max_steps
    if stopped and trainer.state.global_step:
        trainer._save_checkpoint(trainer.model, None)
    return stopped


def _save(
    desk: Desk, config: TrainConfig, trainer: Recorded, info: ModelInfo, tokenizer: PreTrainedTokenizerBase
) -> str:
    """Write adapter/ or model/; returns which."""
    desk.reporter.phase("saving")
    name = "adapter" if config.finetuning_type == "lora" else "model"
    with outputs.draft(desk.run_dir, name) as draft:
        if name == "adapter":
            trainer.model.save_pretrained(draft, save_embedding_layers=False)
            (draft / "README.md").unlink(missing_ok=True)
            outputs.write_base(draft, config.model_name_or_path, info.path)
        else:
            trainer.model.to(base.STORED.get(info.dtype, torch.float32)).save_pretrained(draft)
        outputs.copy_tokenizer(info.path, draft, tokenizer.chat_template)
    return name


def _conclude(desk: Desk, trainer: Recorded, output: str, train_seconds: float, stopped: bool) -> None:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    shutil.rmtree(desk.run_dir / "tmp", ignore_errors=True)
    desk.reporter.result(
        output=output,
        steps=trainer.state.global_step,
        train_loss=sum(losses) / len(losses) if losses else None,
        tokens=trainer.progress.tokens,
        train_seconds=train_seconds,
        stopped=stopped,
    )
