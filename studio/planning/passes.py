"""How the rows of a step go through the model: how many tokens at once, and how much of it is computed twice.

Each pass costs the same beside what its tokens cost, and each layer that is computed twice costs its share; what is
saved by one takes memory from the other. The fastest choice that fits is taken.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

from studio.config.train import TrainConfig
from studio.config.train.method import ONLINE
from studio.config.train.precision import DEALT, WHOLE
from studio.config.train.preference import UNREFERENCED
from studio.machine import Machine
from studio.planning import batch, team
from studio.planning.activations import Work
from studio.planning.batch import Lengths, Step
from studio.planning.memory import Memory, fullest, work_of
from studio.planning.shape import Shape
from studio.planning.team import Team
from studio.planning.ways import Ways

COMFORT = 0.92  # of what is free: above it, other programs may take the rest
# a pass takes as long as if it had so many tokens more. Where the host of an H100 launched each kernel for itself that
# was up to 165 ms, of 52 us a token, and a faster host takes a fraction of it; where passes were recorded 2.7 ms, of 13
# us a token; unpacking 7 billion weights of 4 bits there and back takes 13 ms, of 52 us a token, more
LAUNCHED_TOKENS, RECORDED_TOKENS, UNPACKED_TOKENS = 500, 200, 250
# of the products for a token, those of the way forth: of an adapter's layers one in two, of trained ones one in three
AGAIN = {"lora": 1 / 2, "freeze": 1 / 3, "full": 1 / 3}
# losses of pairs that are no mean over them, or of trainers that are not ours
UNSUMMED = ("aot", "kto_pair", *UNREFERENCED)


@dataclass(frozen=True)
class Passes:
    """`tokens` that go through the model at once, None for the rows of one batch whatever their length; `recomputed`
    are the first so many layers, whose activations are computed a second time on the way back."""

    tokens: int | None = None
    recomputed: int = 0


@dataclass(frozen=True)
class Course:
    """The passes of a training whose model has so many `layers`, what a `step` is, and the memory that they take."""

    passes: Passes
    step: Step
    layers: int
    memory: Memory

    @property
    def count(self) -> int | None:
        """Passes of a step as it mostly is; None where its batches go through as they are."""
        return ceil(self.step.mean / self.passes.tokens) if self.passes.tokens else None

    @property
    def words(self) -> str:
        """For a person; empty where there is nothing to tell."""
        told, twice = [], self.passes.recomputed
        if self.count == 1:
            told.append(f"one pass of {self.step.mean:,.0f} tokens a step")
        elif self.count:
            told.append(f"{self.count} passes of up to {self.passes.tokens:,} tokens a step")
        if twice:
            which = "all" if twice >= self.layers else f"{twice} of"
            told.append(f"{which} {self.layers} layers computed twice")
        return ", ".join(told)


def course(
    config: TrainConfig,
    model: Shape,
    lengths: Lengths,
    machine: Machine,
    among: Team | None = None,
    by: Ways | None = None,
) -> Course:
    """The fastest passes that fit into what is free, of one process `among` several; where none do, those that take the
    least memory. `by` which ways; None for those that the configuration lets expect."""
    lengths, room_gb = lengths.cut(model.context or config.cutoff_len), COMFORT * team.free_gb(config, machine)
    step, rows = batch.step(config, lengths, model.context), batch.of(config, lengths, model.context)
    work = work_of(config, model, rows, machine.gpu is not None, among or team.of(config, machine), by)

    def memory(passes: Passes) -> Memory:
        through = batch.through(config, lengths, passes.tokens, model.context)
        return fullest(replace(work, batch=through), passes.recomputed)

    passes = _chosen(work, step, lambda tried: memory(tried).total_gb <= room_gb)
    return Course(passes, step, model.layers, memory(passes))


def _chosen(work: Work, step: Step, fits: Callable[[Passes], bool]) -> Passes:
    layers, counts, sizes = work.shape.layers, _counts(work), _sizes(work, step)
    found, least = Passes(sizes[-1], counts[-1]), inf
    if not fits(found):
        return found
    for tokens in sizes:
        share = 1 + fixed_tokens(work) / min(tokens or inf, step.mean)
        if share >= least:
            break
        if (recomputed := _fewest(counts, tokens, fits)) is None:
            continue
        cost = share * (1 + AGAIN[work.config.finetuning_type] * recomputed / layers)
        if cost < least:
            found, least = Passes(tokens, recomputed), cost
    return found


def fixed_tokens(work: Work) -> int:
    """How many more tokens would take the time that each pass takes beside what its tokens do."""
    unpacked = UNPACKED_TOKENS if work.config.quantization_bit == 4 else 0
    return unpacked + (RECORDED_TOKENS if work.ways.graphs else LAUNCHED_TOKENS)


def is_dealt(config: TrainConfig) -> bool:
    """Whether rows of a step can lie in other passes than its batches: their losses are a sum over all of them."""
    is_alone = config.parallel_strategy == "single"
    if config.stage not in DEALT or config.parallel_strategy not in WHOLE or config.moe_aux_loss_coef is not None:
        return False
    if config.stage == "dpo":  # whose figures are gathered from all processes, batch by batch
        return is_alone and config.pref_loss not in UNSUMMED
    return not (config.label_smoothing_factor or config.z_loss_coef) and (is_alone or not config.streaming)


def _sizes(work: Work, step: Step) -> Sequence[int | None]:
    """Tokens that may go through at once, the most first."""
    if not is_dealt(work.config):
        return (None,)
    if work.config.micro_batch_tokens:
        return (work.config.micro_batch_tokens,)
    if not (work.spread.on_gpu and work.ways.attention):  # a mask grows with the square of them
        return (None,)
    return sorted({step.share(count) for count in range(1, work.config.gradient_accumulation_steps + 1)}, reverse=True)


def _counts(work: Work) -> Sequence[int]:
    """How many layers may be computed twice, the fewest first."""
    config, layers = work.config, work.shape.layers
    if config.gradient_checkpointing in ("on", "off"):
        return (layers if config.gradient_checkpointing == "on" else 0,)
    # what checkpointing lets gradients through has frozen layers in front keep theirs, unless all are computed twice
    is_whole = config.parallel_strategy in WHOLE and len(work.live_layers) == layers
    return range(layers + 1) if is_whole and config.stage not in ONLINE else (0, layers)


def _fewest(counts: Sequence[int], tokens: int | None, fits: Callable[[Passes], bool]) -> int | None:
    found = bisect_left(counts, True, key=lambda recomputed: fits(Passes(tokens, recomputed)))
    return counts[found] if found < len(counts) else None
