"""What is wrong between the options of steps, schedule, optimizer and precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio import trackers
from studio.config.train.optimisation import SCHEDULER_SETTINGS, scheduler_options
from studio.errors import Problem

if TYPE_CHECKING:
    from studio.config.train import TrainConfig


SETTING_NEEDED = {
    "warmup_stable_decay": ("num_decay_steps",),
    "cosine_with_min_lr": ("min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("min_lr", "min_lr_rate"),
}


def _one_warmup(config: TrainConfig) -> Problem | None:
    if not (config.warmup_steps and config.warmup_ratio):
        return None
    return Problem("warmup_ratio", "set either warmup_steps or warmup_ratio, not both")


def _some_steps(config: TrainConfig) -> Problem | None:
    return (
        Problem("max_steps", "0 steps would train nothing: use -1 or a positive number")
        if config.max_steps == 0
        else None
    )


def _one_precision(config: TrainConfig) -> Problem | None:
    if not (config.bf16 and config.fp16):
        return None
    return Problem("fp16", "bf16 and fp16 exclude each other: keep bf16 unless the GPU lacks it")


def _pure_precision(config: TrainConfig) -> Problem | None:
    if not config.pure_bf16:
        return None
    if config.fp16:
        return Problem("pure_bf16", "weights in bfloat16 are not computed in float16: set fp16: false")
    if config.bf16 is False:
        return Problem("pure_bf16", "weights in bfloat16 are computed in bfloat16: leave bf16 empty or set it true")
    return None


def _schedule_of_schedule_free(config: TrainConfig) -> Problem | None:
    if not config.optim.startswith("schedule_free") or config.lr_scheduler_type.startswith("constant"):
        return None
    return Problem("lr_scheduler_type", f"{config.optim} needs no schedule: set lr_scheduler_type: constant")


def _readable_schedule(config: TrainConfig) -> Problem | None:
    try:
        given = scheduler_options(config.lr_scheduler_kwargs)
    except ValueError as error:
        return Problem("lr_scheduler_kwargs", f"write it as key=value,key=value or as JSON ({error})")
    known = SCHEDULER_SETTINGS.get(config.lr_scheduler_type, ())
    if foreign := [key for key in given if key not in known]:
        has = f"has {', '.join(known)}" if known else "has none"
        return Problem("lr_scheduler_kwargs", f"{config.lr_scheduler_type} {has}, not {', '.join(foreign)}")
    needed = SETTING_NEEDED.get(config.lr_scheduler_type, ())
    if needed and not any(key in given for key in needed):
        example = f"{needed[0]}={'100' if 'steps' in needed[0] else '1e-6'}"
        return Problem("lr_scheduler_kwargs", f"{config.lr_scheduler_type} needs {' or '.join(needed)}: {example}")
    return None


def _projected_gradients(config: TrainConfig) -> Problem | None:
    projecting = config.optim in ("galore_adamw", "apollo_adamw")
    if not projecting or config.finetuning_type != "lora":
        return None
    return Problem(
        "optim",
        f"{config.optim} is for whole weights, an adapter's are small: set finetuning_type: full, or optim"
        ": adamw_torch",
    )


def _plain_loss(config: TrainConfig) -> Problem | None:
    if not (config.use_dft_loss and config.label_smoothing_factor):
        return None
    return Problem("label_smoothing_factor", "use_dft_loss weighs single tokens: set one of the two")


def _known_trackers(config: TrainConfig) -> Problem | None:
    if config.report_to == ("none",):
        return None
    unknown = [name for name in config.report_to if name not in trackers.PACKAGES]
    if not unknown:
        return None
    return Problem("report_to", f"name any of {', '.join(trackers.PACKAGES)}, or none alone (got {', '.join(unknown)})")


RULES = (
    _one_warmup,
    _some_steps,
    _one_precision,
    _pure_precision,
    _schedule_of_schedule_free,
    _readable_schedule,
    _projected_gradients,
    _plain_loss,
    _known_trackers,
)
