"""Supervised fine-tuning: Transformers, PEFT and TRL do the work; this wires them to a run directory.

The rows of a batch are laid end to end in one sequence (no padding), positions start over at each row, and the
attention mask built from them keeps rows apart. Not every architecture honours that, so it is tried on the model
before training, and batches are padded where it fails.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, Trainer
from trl import SFTConfig, SFTTrainer
from trl.data_utils import pack_dataset

from studio import models
from studio.config.load import load_run_config
from studio.config.train import TrainConfig
from studio.datasets.masking import Masking
from studio.datasets.registry import Registry
from studio.errors import ModelError, NotResumable
from studio.models import ModelInfo
from studio.runs import events
from studio.runs.events import Checkpoint
from studio.worker import mixing, outputs
from studio.worker import model as base
from studio.worker.door import Desk
from studio.worker.mixing import Rows
from studio.worker.pool import Tokens
from studio.worker.prepared import Hooks, Prepared, Recipe, prepare
from studio.worker.progress import Interrupted, Progress
from studio.worker.report import say
from studio.worker.rows import Source

ISOLATION_TOLERANCE = 0.05  # of the logits' spread, on average: measured 0.002 for bfloat16, 0.2 for a leak


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
    trainer = _trainer(desk, config, model, tokenizer, data, precision)
    desk.clock.lap("trainer")
    started = time.monotonic()
    stopped = _run(desk, trainer, checkpoint)
    train_seconds = time.monotonic() - started
    if trainer.state.global_step:
        output = _save(desk, config, trainer, info, tokenizer)
        _conclude(desk, trainer, output, train_seconds, stopped)
    return stopped


class RunTrainer(SFTTrainer):  # type: ignore[misc]  # trl is untyped
    """TRL's trainer with checkpoints that appear whole or not at all, and with every token counted."""

    desk: Desk
    progress: Progress
    keep: int

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **options: Any) -> torch.Tensor:
        self.progress.tokens += inputs["input_ids"].numel()
        return super().training_step(model, inputs, *rest, **options)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        name = f"checkpoints/checkpoint-{self.state.global_step}"
        if (self.desk.run_dir / name).exists():
            return
        try:
            with outputs.draft(self.desk.run_dir, name) as folder:
                self.args.output_dir = str(folder.parent)  # the trainer itself appends checkpoint-N
                Trainer._save_checkpoint(self, model, trial)
        except outputs.DiskFull as error:
            kept = self.progress.last_checkpoint or "none so far"
            self.desk.reporter.note("warning", f"{error}. The training goes on; last checkpoint: {kept}")
            return
        self.progress.last_checkpoint = name
        outputs.rotate(self.desk.run_dir, self.keep)
        self.desk.reporter.event(Checkpoint(self.state.global_step, name, at=time.time()))


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


def _trainer(
    desk: Desk,
    config: TrainConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: Rows,
    precision: torch.dtype,
) -> RunTrainer:
    flat = keeps_rows_apart(model, *data.ends)
    if not flat:
        _pad_instead(desk, config)
    train = pack_dataset(data.train, data.cutoff_len, "bfd") if config.packing else data.train
    trainer = RunTrainer(
        model=model,
        args=_arguments(desk, config, precision, flat, data.validation is not None),
        train_dataset=train,
        eval_dataset=data.validation,
        processing_class=tokenizer,
        peft_config=base.lora(config, model) if config.finetuning_type == "lora" else None,
    )
    trainer.desk, trainer.keep = desk, config.save_total_limit
    trainer.progress = Progress(desk, _tokens_so_far(desk), tolerates_skips=config.fp16)
    trainer.add_callback(trainer.progress)
    trainer.remove_callback(PrinterCallback)
    return trainer


def keeps_rows_apart(model: PreTrainedModel, one: list[int], other: list[int]) -> bool:
    """Whether two rows of tokens laid end to end give the logits that each gives alone."""
    first, second = (torch.tensor([ids[:64]]) for ids in (one, other))
    positions = [torch.arange(ids.shape[1])[None] for ids in (first, second)]
    with torch.inference_mode():
        alone = model(input_ids=second.to(model.device), use_cache=False).logits
        flat = model(
            input_ids=torch.cat([first, second], 1).to(model.device),
            position_ids=torch.cat(positions, 1).to(model.device),
            use_cache=False,
        ).logits[:, first.shape[1] :]
    return bool((alone - flat).float().abs().mean() < ISOLATION_TOLERANCE * alone.float().std())


def _pad_instead(desk: Desk, config: TrainConfig) -> None:
    if config.packing:
        raise ModelError("this model's architecture lets packed rows see each other: set packing: false")
    desk.reporter.note("info", "this model's architecture needs padded batches; expect slower steps")


def _arguments(desk: Desk, config: TrainConfig, precision: torch.dtype, flat: bool, validates: bool) -> SFTConfig:
    cuda = torch.cuda.is_available()
    validation = ("steps" if config.eval_steps else "epoch") if validates else "no"
    return SFTConfig(
        output_dir=str(desk.run_dir / "tmp"),
        num_train_epochs=config.num_train_epochs,
        max_steps=config.max_steps,
        per_device_train_batch_size=config.per_device_train_batch_size,
        per_device_eval_batch_size=config.per_device_eval_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        gradient_checkpointing=config.gradient_checkpointing,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        warmup_steps=config.warmup_steps or config.warmup_ratio,  # below one it is a share of all steps
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim=config.optim,
        seed=config.seed,
        bf16=precision == torch.bfloat16,
        fp16=precision == torch.float16,
        use_cpu=not cuda,
        dataloader_pin_memory=cuda,
        eval_strategy=validation,
        eval_steps=config.eval_steps,
        save_strategy="steps" if config.save_steps else "no",
        save_steps=config.save_steps or 1,
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,  # the filter would show the last good loss in place of a NaN
        disable_tqdm=True,
        report_to="none",
        padding_free=flat,
        max_length=None,  # rows are cut already
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def _tokens_so_far(desk: Desk) -> int:
    """Tokens of the run that this one resumes; its history begins our metrics.jsonl."""
    history, _ = events.read(desk.run_dir / "metrics.jsonl")
    return next((event["tokens"] for event in reversed(history) if event["type"] == "step"), 0)


def _run(desk: Desk, trainer: RunTrainer, checkpoint: Path | None) -> bool:
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
    desk: Desk, config: TrainConfig, trainer: RunTrainer, info: ModelInfo, tokenizer: PreTrainedTokenizerBase
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


def _conclude(desk: Desk, trainer: RunTrainer, output: str, train_seconds: float, stopped: bool) -> None:
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
