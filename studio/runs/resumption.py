"""How a training goes on: from which checkpoint, with what changed, and what follows from that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from studio import machine
from studio.config import load
from studio.config.option import applies, options
from studio.config.train import TrainConfig
from studio.config.train.saving import Scope
from studio.errors import ConfigError, NotResumable, Problem
from studio.files import read_record
from studio.parallel import nodes, zero
from studio.parallel.strategies import STRATEGIES
from studio.runs import checkpoints
from studio.runs.checkpoints import Checkpoint
from studio.runs.run import Run, State

# which scopes take the optimizer's states, and which the schedule, from the checkpoint
WITH_OPTIMIZER: tuple[Scope, ...] = ("all", "no_scheduler")
WITH_SCHEDULE: tuple[Scope, ...] = ("all", "no_optimizer")
OWN = ("resume_from_checkpoint", "resume_scope", "resumed_from")
# strategies whose checkpoints hold the optimizer's states in the same form, which any number of processes can read
FORMS = {"single": "", "ddp": "", "device_map": "", "fsdp2": "", "zero1": "zero1, zero2", "zero2": "zero1, zero2"}
TWO_MOMENTS = ("adamw_torch", "adamw_torch_fused")  # DeepSpeed deals out anew the states of no other optimizer

BATCH = frozenset({"per_device_train_batch_size", "gradient_accumulation_steps"})
LENGTH = frozenset({"max_steps", "num_train_epochs"})
SCHEDULE = frozenset({"learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_ratio", "warmup_steps"})
_GROUPS = {option.key: option.group for option in options(TrainConfig)}


def _grouped(*groups: str) -> frozenset[str]:
    return frozenset(key for key, group in _GROUPS.items() if group in groups)


HARMLESS = frozenset({"run_name", "lora_dropout", "eval_dataset"})
WEIGHTS = _grouped("model", "method", "freeze", "quantisation", "lora") - HARMLESS
OPTIMIZER = _grouped("optimizer") | {"weight_decay"}
ROWS = _grouped("data") - HARMLESS | {
    "train_on_prompt", "mask_history", "streaming", "buffer_size", "packing", "seed", "dataset_dir",
}  # fmt: skip
LOSS = _grouped("preference", "reward") | {
    "label_smoothing_factor", "use_dft_loss", "z_loss_coef", "moe_aux_loss_coef", "neftune_noise_alpha", "lora_dropout",
    "max_grad_norm",
}  # fmt: skip
PRECISION = frozenset({
    "bf16", "fp16", "pure_bf16", "flash_attn", "micro_batch_tokens", "enable_liger_kernel", "fused_lora",
    "cuda_graphs",
})  # fmt: skip


@dataclass(frozen=True)
class Resumption:
    """What the run that goes on is asked for, the checkpoint that it begins with, and what the person should know."""

    config: TrainConfig
    checkpoint: Path
    warnings: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """How many steps are behind it."""
        return int(self.checkpoint.name.rpartition("-")[2])


@dataclass(frozen=True)
class Turn:
    """From what was to what is asked for: configurations, processes and rows of a step, before and after.

    `keys` are the options that differ. `state` is the trainer's own record in the checkpoint, which holds
    `weights_only` or more; `ended` says that the run came to its end.
    """

    step: int
    scope: Scope
    before: TrainConfig
    after: TrainConfig
    strategy: str
    world: int
    batch: int
    weights_only: bool
    state: Mapping[str, Any]
    ended: bool

    @property
    def keys(self) -> frozenset[str]:
        old, new = self.before.model_dump(), self.after.model_dump()
        return frozenset(key for key in old if old[key] != new[key])

    @property
    def new_world(self) -> int:
        return processes(self.after)

    @property
    def new_batch(self) -> int:
        after = self.after
        return after.per_device_train_batch_size * after.gradient_accumulation_steps * self.new_world

    def changed(self, keys: frozenset[str]) -> str:
        """Those of `keys` that differ, as a sentence names them; empty where none does."""
        return ", ".join(sorted(self.keys & keys))


def judge(run: Run, step: int | None = None, scope: Scope = "all", **changes: Any) -> Resumption:
    """What would come of resuming `run` so; nothing is created.

    Args:
        step: that of the checkpoint; None takes the newest whole one.
        scope: what is taken of it beside the weights; the count of steps and the place in the data always go on.
        changes: options of the training with other values than before.

    Raises:
        NotResumable: it cannot be, with every reason and what to do instead.
        ConfigError: `changes` do not make a configuration.
    """
    config = _training(run)
    chosen, skipped = _chosen(run, step)
    turn = _turn(run, config, chosen, scope, changes)
    turn, adapted = _shared_out(turn, changes)
    if refusals := [refusal for rule in REFUSALS for refusal in rule(turn)]:
        raise NotResumable(f"{run.id} cannot go on so from {chosen.path.name}: " + "; ".join(refusals))
    warnings = (*skipped, *adapted, *(warning for rule in WARNINGS for warning in rule(turn)))
    internal = {
        "resume_from_checkpoint": str(chosen.path.relative_to(run.path)),
        "resume_scope": scope,
        "resumed_from": run.id,
    }
    return Resumption(turn.after.model_copy(update=internal), chosen.path, warnings)


def processes(config: TrainConfig) -> int:
    """How many train together: one for each GPU unless the configuration says how many, two without any GPU."""
    if not STRATEGIES[config.parallel_strategy].is_distributed:
        return 1
    local = config.nproc_per_node or len(machine.chosen(config.devices, count=64)) or 2
    if config.hostfile:
        return sum(host.slots or local for host in nodes.read_hostfile(Path(config.hostfile)))
    return local * config.nnodes


def _training(run: Run) -> TrainConfig:
    config = run.config
    if not isinstance(config, TrainConfig):
        raise NotResumable(f"{run.id} is a {run.kind} run: only trainings can be resumed")
    if run.is_active:
        raise NotResumable(f"{run.id} is still {run.state}: stop it first")
    return config


def _chosen(run: Run, step: int | None) -> tuple[Checkpoint, list[str]]:
    """The checkpoint to go on from, and a sentence for each newer one that is damaged."""
    known = checkpoints.listed(run)
    whole = [each for each in known if each.is_complete]
    if not whole:
        damage = "; ".join(f"{each.path.name}: {each.problem}" for each in known)
        told = f" ({damage})" if damage else ""
        raise NotResumable(f"{run.id} has no complete checkpoint{told}: start it again, with a smaller save_steps")
    if step is None:
        later = [each for each in known if each.step > whole[-1].step]
        return whole[-1], [f"{each.path.name} is damaged ({each.problem}) and is passed over" for each in later]
    found = next((each for each in known if each.step == step), None)
    steps = ", ".join(str(each.step) for each in whole)
    if found is None:
        raise NotResumable(f"{run.id} has no checkpoint of step {step}: it has those of {steps}")
    if not found.is_complete:
        raise NotResumable(f"{found.path.name} is damaged ({found.problem}): whole ones are those of {steps}")
    return found, []


def _turn(run: Run, config: TrainConfig, chosen: Checkpoint, scope: Scope, changes: Mapping[str, Any]) -> Turn:
    if foreign := [key for key in OWN if key in changes]:
        raise ConfigError([Problem(key, "is set by the studio when a run is resumed") for key in foreign])
    manifest = chosen.manifest
    return Turn(
        step=chosen.step,
        scope=scope,
        before=config,
        after=load.parse(TrainConfig, {**config.model_dump(mode="json"), **_left_behind(config, changes), **changes}),
        strategy=manifest.strategy if manifest else checkpoints.LEGACY_STRATEGY,
        world=manifest.world_size if manifest else 1,
        batch=manifest.batch if manifest else config.per_device_train_batch_size * config.gradient_accumulation_steps,
        weights_only=bool(manifest and manifest.weights_only),
        state=read_record(chosen.path / checkpoints.STATE),
        ended=run.state is State.COMPLETED,
    )


def _left_behind(config: TrainConfig, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options that mattered and do not beside `changes`, at their defaults: processes of one that goes on alone."""
    before = config.model_dump(mode="json")
    after = {**before, **changes}
    gone = (each for each in options(TrainConfig) if applies(each, before) and not applies(each, after))
    return {option.key: option.default for option in gone}


def _shared_out(turn: Turn, changes: Mapping[str, Any]) -> tuple[Turn, list[str]]:
    """Among another number of processes a step is of the same rows, unless it was said how many.

    Raises:
        NotResumable: they cannot be dealt out to so many.
    """
    if turn.new_world == turn.world or "gradient_accumulation_steps" in changes:
        return turn, []
    rows, world = turn.after.per_device_train_batch_size, turn.new_world
    accumulation, rest = divmod(turn.batch, rows * world)
    if rest or not accumulation:
        fits = ", ".join(str(count) for count in range(1, turn.batch + 1) if turn.batch % (rows * count) == 0)
        advice = f"take one of {fits} processes" if fits else "another per_device_train_batch_size"
        raise NotResumable(
            f"the {turn.batch} rows of a step cannot be dealt out to {world} processes of {rows} rows each: {advice}, "
            "or say gradient_accumulation_steps yourself, which changes the rows of a step"
        )
    if accumulation == turn.after.gradient_accumulation_steps:
        return turn, []
    was, update = turn.after.gradient_accumulation_steps, {"gradient_accumulation_steps": accumulation}
    told = f"gradient_accumulation_steps {was} becomes {accumulation}, so that a step is of {turn.batch} rows as before"
    return replace(turn, after=turn.after.model_copy(update=update)), [told]


def _other_weights(turn: Turn) -> Iterator[str]:
    if keys := turn.changed(WEIGHTS):
        yield f"{keys}: the weights of the checkpoint would not fit; start a new training instead"


def _missing_states(turn: Turn) -> Iterator[str]:
    if turn.weights_only and turn.scope != "weights":
        yield "it holds weights only (save_only_model): take scope weights, which begins optimizer and schedule anew"


def _other_optimizer(turn: Turn) -> Iterator[str]:
    if turn.scope in WITH_OPTIMIZER and (keys := turn.changed(OPTIMIZER)):
        yield f"{keys}: the optimizer's states are those of the old settings; take scope no_optimizer or weights"


def _other_form(turn: Turn) -> Iterator[str]:
    """What is kept of a sharded optimizer, only its own kind of strategy can read."""
    old, new = turn.strategy, turn.after.parallel_strategy
    if turn.scope not in WITH_OPTIMIZER:
        return
    if FORMS.get(old, old) != FORMS.get(new, new):
        yield f"{new} cannot read the optimizer's states of {old}: take scope no_optimizer or weights"
    elif turn.new_world != turn.world and STRATEGIES[new].is_deepspeed and turn.after.optim not in TWO_MOMENTS:
        yield (
            f"the states of {turn.after.optim} are not dealt out anew to {turn.new_world} processes: keep "
            f"{turn.world}, or take scope no_optimizer or weights"
        )


def _states_on_disk(turn: Turn) -> Iterator[str]:
    before = turn.before
    is_deepspeed = STRATEGIES[before.parallel_strategy].is_deepspeed
    if turn.scope in WITH_OPTIMIZER and is_deepspeed and zero.is_on_disk(zero.settings(before)):
        yield "DeepSpeed does not bring back what was offloaded to an NVMe disk: take scope no_optimizer or weights"


def _bound_schedule(turn: Turn) -> Iterator[str]:
    followed = "reduce_lr_on_plateau" in (turn.before.lr_scheduler_type, turn.after.lr_scheduler_type)
    if followed and turn.scope in WITH_SCHEDULE and (keys := turn.changed(SCHEDULE)):
        yield f"{keys}: reduce_lr_on_plateau has lowered the rate on its way; take scope no_scheduler or weights"


def _nothing_left(turn: Turn) -> Iterator[str]:
    total = _total_steps(turn)
    if total is not None and (turn.step > total or (turn.step == total and turn.ended)):
        yield f"step {turn.step} is behind it and {total} is the last: say a larger max_steps or num_train_epochs"


def _total_steps(turn: Turn) -> int | None:
    """Those of the training as it would be now; None where the checkpoint does not tell."""
    if turn.after.max_steps > 0:
        return turn.after.max_steps
    steps, epochs = turn.state.get("max_steps"), turn.before.num_train_epochs
    if not isinstance(steps, int) or turn.before.max_steps > 0:
        return None
    return ceil(steps * turn.batch / turn.new_batch * turn.after.num_train_epochs / epochs)


def _other_batch(turn: Turn) -> Iterator[str]:
    old, new, step = turn.batch, turn.new_batch, turn.step
    if old != new:
        seen, place = old * step, new * step
        missed = f"rows {seen:,} to {place:,} of the order are left out" if new > old else (
            f"rows {place:,} to {seen:,} of the order are seen again"
        )  # fmt: skip
        yield (
            f"a step is of {new} rows where it was of {old}: the place in the data is counted in steps, so {missed}; "
            "the learning rate may want to follow the batch"
        )


def _other_rows(turn: Turn) -> Iterator[str]:
    if keys := turn.changed(ROWS):
        yield (
            f"{keys}: the rows or their order are others than those of the first {turn.step} steps; the place is kept "
            "by number, so rows may be seen again and others never"
        )


def _other_length(turn: Turn) -> Iterator[str]:
    is_drawn = turn.scope in WITH_SCHEDULE and not turn.after.lr_scheduler_type.startswith("constant")
    if is_drawn and (keys := turn.changed(LENGTH)):
        yield f"{keys}: the schedule is that of the new length, so the learning rate jumps at step {turn.step}"


def _other_schedule(turn: Turn) -> Iterator[str]:
    if keys := turn.changed(SCHEDULE):
        yield f"{keys}: the learning rate is that of the new schedule from step {turn.step} on"


def _other_loss(turn: Turn) -> Iterator[str]:
    if keys := turn.changed(LOSS):
        yield f"{keys}: what is learnt changes at step {turn.step}; losses before and after do not compare"


def _other_precision(turn: Turn) -> Iterator[str]:
    if keys := turn.changed(PRECISION):
        yield f"{keys}: results differ by rounding from what they would have been"


def _other_processes(turn: Turn) -> Iterator[str]:
    if turn.new_world != turn.world:
        yield (
            f"processes: {turn.new_world} instead of {turn.world}. The rows of every step stay the same; dropout and "
            "the order of sums differ"
        )


def _less_than_all(turn: Turn) -> Iterator[str]:
    if turn.scope not in WITH_OPTIMIZER:
        yield f"the optimizer's states begin anew at step {turn.step}"
    if turn.scope not in WITH_SCHEDULE:
        yield f"the schedule begins anew at step {turn.step}, over the steps that are left"


Rule = Callable[[Turn], Iterator[str]]
REFUSALS: tuple[Rule, ...] = (
    _other_weights, _missing_states, _other_optimizer, _other_form, _states_on_disk, _bound_schedule, _nothing_left,
)  # fmt: skip
WARNINGS: tuple[Rule, ...] = (
    _less_than_all, _other_batch, _other_rows, _other_length, _other_schedule, _other_loss, _other_precision,
    _other_processes,
)  # fmt: skip
