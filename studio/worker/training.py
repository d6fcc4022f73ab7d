"""A training from its configuration to its outputs, the same for every stage and method."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from studio import models, templates, trackers
from studio.config.load import load_run_config
from studio.config.train import TrainConfig
from studio.datasets.masking import Masking
from studio.datasets.registry import Registry
from studio.files import write_json
from studio.models import ModelInfo
from studio.planning.passes import Passes
from studio.worker import fast, methods, mixing, needs, sharding, stages
from studio.worker.checkpoints import choice
from studio.worker.door import Desk
from studio.worker.fast import recompute
from studio.worker.mixing import Rows
from studio.worker.pool import Tokens
from studio.worker.prepared import Hooks, Prepared, Recipe, prepare
from studio.worker.progress import Interrupted, memory_gb
from studio.worker.report import say
from studio.worker.rows import Source
from studio.worker.sharding import Sharding
from studio.worker.stages.recorded import Recorded
from studio.worker.stages.setting import Setting


def train(desk: Desk) -> bool:
    """Train as the run's config.yaml says and leave an adapter or a model. Returns whether it was stopped early.

    Raises:
        SeedbedError: whatever the user can mend, before or during the training.
    """
    config = load_run_config(desk.run_dir / "config.yaml")
    assert isinstance(config, TrainConfig)
    held = sharding.of(config, desk.rank, desk.run_dir)
    held.prepare()
    _introduce(desk, held)
    desk.consensus.join(config.ddp_timeout)
    checkpoint = choice.choose(desk, config)
    info = _prepare_model(desk, config)
    tokenizer, data = _prepare_rows(desk, config, info)
    choice.compare(desk, checkpoint, data.files)
    desk.reporter.phase("loading model", config.model_name_or_path)
    stage, precision = stages.of(config), methods.precision(config)
    model = methods.load(config, info, tokenizer, stage.head, held)
    model, adapter = methods.attach(config, model, desk.run_dir)
    needs.check_tokens(data, held.rows(model.get_input_embeddings().weight))
    desk.clock.lap("model")
    passes = _passes(desk, config, info, model, data)
    recompute.keep(model, passes.recomputed)
    trainer = stage.trainer(Setting(desk, config, info, model, adapter, tokenizer, data, precision, held, passes))
    held.check(trainer)
    desk.clock.lap("trainer")
    started = time.monotonic()
    stopped = _run(desk, trainer, checkpoint)
    train_seconds = time.monotonic() - started
    if trainer.state.global_step:
        output = _save(desk, config, trainer, info, tokenizer)
        if desk.rank.is_first:
            _conclude(desk, trainer, output, train_seconds, stopped)
    return stopped


def _introduce(desk: Desk, held: Sharding) -> None:
    """process.json: which of those that a launcher has started this is, and where."""
    rank, device = desk.rank, str(held.device)
    if held.device.type == "cuda":
        device += f" {torch.cuda.get_device_name(held.device)}"
    if rank.folder(desk.run_dir).exists():
        told = {"pid": os.getpid(), "host": socket.gethostname(), "device": device, **asdict(rank)}
        write_json(rank.folder(desk.run_dir) / "process.json", {**told, "started": psutil.Process().create_time()})


def _prepare_model(desk: Desk, config: TrainConfig) -> ModelInfo:
    """What to start from, fetched and changed by the first process where that is asked for."""
    with desk.consensus.together():
        if desk.rank.is_first:
            return methods.prepare(config, methods.find(config.model_name_or_path), desk.run_dir)
    return methods.prepared(methods.find(config.model_name_or_path), desk.run_dir)


def _prepare_rows(desk: Desk, config: TrainConfig, info: ModelInfo) -> tuple[PreTrainedTokenizerBase, Rows]:
    desk.reporter.phase("loading data", ", ".join(config.dataset))
    cutoff_len = models.within_context(info.path, config.cutoff_len)
    tokens, registry = Tokens.of(config, info.path), Registry(Path(config.dataset_dir))
    masking, columns = Masking.of(config, cutoff_len), stages.of(config).columns
    recipes, own = (
        [Recipe(Source.of(config, registry, name), tokens, masking, config.stage, columns) for name in names]
        for names in (config.dataset, config.eval_dataset)
    )
    desk.clock.lap("data")
    desk.reporter.phase("tokenising")
    tokenizer = tokens.load()
    _check_template(desk, config, tokenizer)
    held = [_prepare(desk, config, recipe, registry) for recipe in own]
    if config.streaming:
        stream = mixing.stream(config, recipes, held, cutoff_len, lambda text: desk.reporter.note("warning", text))
        data = mixing.endless(stream)
    else:
        data = mixing.mix(config, [_prepare(desk, config, recipe, registry) for recipe in recipes], held, cutoff_len)
    for remark in data.remarks:
        desk.reporter.note("warning", remark)
    desk.clock.lap("tokenising")
    return tokenizer, data


def _passes(desk: Desk, config: TrainConfig, info: ModelInfo, model: PreTrainedModel, data: Rows) -> Passes:
    """Alike in all processes, though each looks at the memory that is free where it is."""
    found = needs.course(config, info, model, data, desk.rank)
    passes = needs.agreed(found.passes, desk.consensus)
    if passes.recomputed and config.gradient_checkpointing != "on":
        text = "memory is short: activations are computed twice (gradient_checkpointing), which takes longer"
        desk.reporter.note("info", text)
    if words := replace(found, passes=passes).words:
        fast.tell([fast.Path("passes", words)])
    return passes


def _check_template(desk: Desk, config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Of a model that was not on this machine nothing could be said before."""
    known = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    if config.template and (lacking := templates.lacking(config.template, known)):
        desk.reporter.note("warning", templates.spelled(config.template, lacking))


def _prepare(desk: Desk, config: TrainConfig, recipe: Recipe, registry: Registry) -> Prepared:
    name = recipe.source.name

    def progress(done: int, total: int) -> None:
        # a row may become several
        done = min(done, total) if total else done
        desk.reporter.progress(f"tokenising {name}: {done}/{total}" if total else f"tokenising {name}: {done} rows")

    def wait() -> None:
        text = f"another run is tokenising {name}: waiting for it"
        if desk.rank.world > 1:  # one of ours as a rule
            desk.reporter.progress(text)
        else:
            desk.reporter.note("info", text)

    hooks = Hooks(progress, wait)
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
        say("stopped in the middle of a validation or an answer")
    finally:
        trainer.wait_for_checkpoint()
        trackers.close(tuple(trainer.args.report_to))
    stopped = desk.consensus.stop and trainer.state.global_step < trainer.state.max_steps
    if stopped and trainer.state.global_step:
        trainer._save_checkpoint(trainer.model, None)
    trainer.settle()
    return stopped


def _save(
    desk: Desk, config: TrainConfig, trainer: Recorded, info: ModelInfo, tokenizer: PreTrainedTokenizerBase
) -> str:
    """Write adapter/ or model/; returns which."""
    desk.reporter.phase("saving")
    with desk.consensus.together():
        weights = trainer.setting.sharding.collected(trainer.model)
        if desk.rank.is_first:
            return methods.save(config, trainer.model, desk.run_dir, info, tokenizer, weights)
    return ""


def _conclude(desk: Desk, trainer: Recorded, output: str, train_seconds: float, stopped: bool) -> None:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    desk.reporter.result(
        output=output,
        steps=trainer.state.global_step,
        train_loss=sum(losses) / len(losses) if losses else None,
        tokens=trainer.progress.tokens,
        train_seconds=train_seconds,
        stopped=stopped,
        world_size=desk.rank.world,
        memory_gb_per_device=desk.consensus.memory_gb if desk.rank.world > 1 else memory_gb(),
        device=needs.own_machine().device,
        paths={path.part: path.way for path in trainer.paths},
        passes=asdict(trainer.setting.passes),
        **_best(trainer),
    )


def _best(trainer: Recorded) -> dict[str, Any]:
    """Which validation the output is of, where the best one is kept."""
    best, state = trainer.progress.best, trainer.state
    if not best.is_kept or state.best_global_step is None:
        return {}
    return {"best_step": state.best_global_step, "best_metric": best.metric, "best_value": state.best_metric}
