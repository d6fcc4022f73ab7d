"""Passes through the model that are recorded once for a size of batch, as CUDA graphs, and from then on played by the
device alone.

A pass is thousands of small pieces of work, and the host takes longer to hand them over one by one than the device
takes to do them, where it has few tokens. A recording holds no copy of what it works on: all recordings share the
memory that the largest of them needs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from studio.config.train import TrainConfig
from studio.worker.fast import FAULTS, Path, chance, first_line, room, tell
from studio.worker.fast.gradients import overwriting
from studio.worker.fast.room import PADDING, Room

PART = "launching"
WAY, PLAIN = "CUDA graphs", "piece by piece"
WARM_UP = 2  # passes before the first recording: what is set up or compiled in them is not recorded
FINENESS = (4, 8, 16)  # sizes in each doubling of tokens, in the order in which they are thought of
TIMES_SHORT = 3  # of memory, before nothing is recorded any more
PATIENCE = 1.0  # passes' time in vain before a recording, which takes about as long as one to five
MOST = 64  # recordings; each takes some megabytes of the device
SPARE, AMPLE = 1 << 29, 1 << 32  # bytes that are left free by recordings, and that are enough for a validation
TOLERANCE = 0.02  # of the plain pass's figures: kernels that add up in any order differ by 0.001
PARTS_TOLERANCE = 0.25  # of one weight's gradient: a layer that is left out is 1.0 off
TINY = 1e-6
ALIGNED = 32  # elements: where a gradient begins, for kernels that read several at once

Batch = dict[str, Any]
Learn = Callable[[Batch, Tensor], tuple[Tensor, ...]]
Figures = tuple[list[list[float]], list[float]]  # those of each tensor that was told


def obstacle(config: TrainConfig, model: PreTrainedModel, device: torch.device) -> str:
    """Why passes through `model` are not to be recorded; empty if they may be tried."""
    reasons = {
        "they are of CUDA": device.type != "cuda",
        "cuda_graphs: false": not config.cuda_graphs,
        "several processes": config.parallel_strategy != "single",
        "losses in float16 are scaled anew each step": config.fp16,
        "dropout would not be the same after a resume": chance.is_in(config, model),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


@dataclass(frozen=True)
class Recording:
    """A pass: where it takes its batch from, what it tells, and where it leaves gradients."""

    graph: torch.cuda.CUDAGraph
    taken: dict[str, Tensor]
    counted: Tensor
    told: tuple[Tensor, ...]
    slopes: list[Tensor | None]

    def play(self, batch: Batch, counted: float) -> tuple[Tensor, ...]:
        """What it tells of `batch`."""
        for name, place in self.taken.items():
            place.copy_(batch[name], non_blocking=True)
        self.counted.fill_(counted)
        copies = tuple(torch.empty_like(each) for each in self.told)  # before, so that no memory can be lacking after
        self.graph.replay()
        for mine, each in zip(copies, self.told, strict=True):
            mine.copy_(each)  # other recordings write over it
        return copies


class Graphs:
    """The recordings of one training, whose `learn` goes there and back with a batch and the number that its loss is
    divided by, and tells figures, its loss first. `weights` are those that are trained; batches have no more than
    `most` tokens, as a rule. `before` does what each recorded pass needs and does not do itself.

    The first recording has room for all of them, so that the others find the memory that they need there, and what
    cannot have one of its own can be played by it. It is held against the plain pass. Where none can be made or it
    tells something else, all goes on plainly; `path` says so once it is known.
    """

    def __init__(
        self,
        learn: Learn,
        weights: Iterable[nn.Parameter],
        device: torch.device,
        most: int,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self.path: Path | None = None
        self._learn, self._device, self._most, self._before = learn, device, most, before
        self._weights = [each for each in weights if each.requires_grad]
        self._made: dict[tuple[Room, bool], Recording] = {}
        self._slopes: list[Tensor] = []
        self._places: tuple[int, ...] = ()
        self._pool: Any = None
        self._aside: torch.cuda.Stream | None = None  # one: memory that was used on another would not be taken again
        self._longest = 0  # row so far, or a little more
        self._in_vain: dict[Room, float] = defaultdict(float)  # passes' time that each would have saved
        self._passed = self._times_short = 0

    @property
    def is_off(self) -> bool:
        """Whether every pass is a plain one from here on."""
        return self.path is not None and self.path.way == PLAIN

    def room(self, batch: Batch) -> Room:
        """What `batch` is to be fit into: the smallest recording that takes it, until that has been in vain for long
        enough to make a finer one."""
        coarse, *_, fine = (room.needed(batch, self._most, each, self._longest) for each in FINENESS)
        if self.path is None:
            return fine
        held = min((each for each, _ in self._made if each.takes(batch)), key=lambda each: each.cost, default=None)
        if held is None:
            return coarse
        return self._finer(batch, held) if held.cost > fine.cost and self._has_memory() else held

    def _finer(self, batch: Batch, held: Room) -> Room:
        for fineness in FINENESS:
            wanted = room.needed(batch, self._most, fineness, self._longest)
            if wanted.cost < held.cost:
                self._in_vain[wanted] += held.cost / wanted.cost - 1
                if self._in_vain[wanted] > PATIENCE:
                    return wanted
        return held

    def play(self, batch: Batch, counted: float) -> tuple[Tensor, ...] | None:
        """What `learn` tells of `batch`, with gradients left as it leaves them; None where it is to be called."""
        self._passed += 1
        self._longest = max(self._longest, batch["max_length_q"])
        is_first = all(each.grad is None for each in self._weights)
        if self.is_off or self._passed <= WARM_UP or not (is_first or self.path):
            return None
        try:
            return self._played(batch, counted, is_first) if self.path else self._tried(batch, counted)
        except FAULTS as fault:
            if is_first:
                self._clear()  # of what a plain pass has left that got no further; what is recorded leaves nothing
            self._times_short += isinstance(fault, torch.OutOfMemoryError)
            if self.path and isinstance(fault, torch.OutOfMemoryError) and self._times_short < TIMES_SHORT:
                self.forget()
            else:
                self._give_up(f"they were tried and failed: {first_line(fault)}")
            return None

    def forget(self) -> None:
        """Let go of all recordings and their memory."""
        torch.cuda.synchronize(self._device)
        self._made.clear()
        self._pool = torch.cuda.graph_pool_handle()
        torch.cuda.empty_cache()

    def make_way(self) -> None:
        """For something else that needs memory; what was recorded is recorded again where little is left beside it."""
        if self._made and self._free() < AMPLE:
            self.forget()

    def _has_memory(self) -> bool:
        return len(self._made) < MOST and self._free() > SPARE

    def _free(self) -> int:
        free, _ = torch.cuda.mem_get_info(self._device)
        return int(free)

    def _tried(self, batch: Batch, counted: float) -> tuple[Tensor, ...] | None:
        total = torch.full((), counted, dtype=torch.float32, device=self._device)
        with _refusing_to_wait(self._device):  # a recording that fails half the way keeps its memory
            plain = self._learn(batch, total)
        theirs = self._figures(plain)
        # what no pass asks for has no gradient: the optimizer would shrink it if it was given zeros
        self._weights = [each for each in self._weights if each.grad is not None] or self._weights
        self._clear()
        told = self._played(room.fit(batch, room.widest(batch, self._most)), counted, is_first=True)
        if why := _difference(self._figures(told), theirs):
            self._clear()
            self._give_up(f"they were tried and {why}")
            return None
        self.path = Path(PART, WAY)
        tell([self.path])
        return told

    def _figures(self, told: tuple[Tensor, ...]) -> Figures:
        """All that is told with the length of the gradient, and the length of each part of it."""
        parts = torch.stack(torch._foreach_norm([each.grad for each in self._weights if each.grad is not None]))
        figures = [each.detach().double().flatten().tolist() for each in (*told, torch.linalg.vector_norm(parts))]
        return figures, parts.tolist()

    def _played(self, batch: Batch, counted: float, is_first: bool) -> tuple[Tensor, ...]:
        if self._places != (places := tuple(each.data_ptr() for each in self._weights)):
            self.forget()  # recordings of weights that lie elsewhere by now
            self._places = places
        if not is_first:
            self._add_to_slopes()
        self._before()
        key = room.of(batch), is_first
        if (recording := self._made.get(key)) is None:
            torch.cuda.empty_cache()  # of what plain passes took: meanwhile it cannot be given back
            recording = self._made[key] = self._record(batch, is_first)
        told = recording.play(batch, counted)
        self._leave(recording.slopes)
        return told

    def _add_to_slopes(self) -> None:
        """A plain pass of the same step has left its gradients elsewhere."""
        for weight, slope in zip(self._weights, self._slopes, strict=True):
            if weight.grad is not slope:
                slope.zero_() if weight.grad is None else slope.copy_(weight.grad)
                weight.grad = slope

    def _record(self, batch: Batch, is_first: bool) -> Recording:
        self._slopes = self._slopes or _like(self._weights)
        batch = {name: each for name, each in batch.items() if name != PADDING}
        taken = {name: each.clone() for name, each in batch.items() if torch.is_tensor(each)}
        total = torch.ones((), dtype=torch.float32, device=self._device)
        graph, held = torch.cuda.CUDAGraph(), [each.grad for each in self._weights]
        self._leave(self._slopes)
        try:
            with self._capturing(graph), overwriting(self._weights) if is_first else nullcontext():
                told = tuple(each.detach() for each in self._learn({**batch, **taken}, total))
        except BaseException:
            self._leave(held)  # nothing was computed
            raise
        return Recording(graph, taken, total, told, [each.grad for each in self._weights])

    @contextmanager
    def _capturing(self, graph: torch.cuda.CUDAGraph) -> Iterator[None]:
        """What is handed to the device in here is not done but recorded; torch.cuda.graph would wait for the device and
        collect garbage each time."""
        self._aside = aside = self._aside or torch.cuda.Stream(self._device)
        now = torch.cuda.current_stream(self._device)
        aside.wait_stream(now)
        with torch.cuda.stream(aside):
            graph.capture_begin(self._pool, capture_error_mode="thread_local")  # other threads may go on meanwhile
            try:
                yield
            except BaseException:
                with suppress(*FAULTS):
                    graph.capture_end()
                raise
            graph.capture_end()
        now.wait_stream(aside)

    def _leave(self, slopes: Sequence[Tensor | None]) -> None:
        for weight, slope in zip(self._weights, slopes, strict=True):
            weight.grad = slope

    def _clear(self) -> None:
        self._leave([None] * len(self._weights))

    def _give_up(self, why: str) -> None:
        with suppress(*FAULTS):  # before 2.12, torch's allocator takes a recording that failed for one that goes on
            self.forget()
        self._slopes = []
        self.path = Path(PART, PLAIN, why)
        tell([self.path])


@contextmanager
def _refusing_to_wait(device: torch.device) -> Iterator[None]:
    """In here what waits for the device raises: it could not be recorded."""
    if device.type != "cuda":
        yield
        return
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def _difference(ours: Figures, theirs: Figures) -> str:
    """What is told otherwise than by the plain pass; empty if nothing. No comparison holds of what is no number.

    Figures told together are held against the largest of them: of few right answers one more or less is no fault.
    """
    apart = [
        abs(a - b) / max(*map(abs, their), TINY)
        for our, their in zip(ours[0], theirs[0], strict=True)
        for a, b in zip(our, their, strict=True)
    ]
    if not all(each < TOLERANCE for each in apart):
        return f"figures were {max(apart):.1%} off"
    least = math.hypot(*theirs[1]) / (10 * len(theirs[1]) ** 0.5)  # of a weight that hardly learns only noise is seen
    parts = [abs(a - b) / max(b, least, TINY) for a, b in zip(ours[1], theirs[1], strict=True)]
    return "" if all(each < PARTS_TOLERANCE for each in parts) else f"a weight's gradient was {max(parts):.1%} off"


def stretch(slopes: Sequence[Tensor]) -> Tensor | None:
    """All of `slopes` as one [elements] with zeros in between, where recordings leave them: it takes less time to read
    than each of them. None where they are other tensors, or not all."""
    whole = slopes[0]._base
    is_theirs = whole is not None and all(each._base is whole for each in slopes)
    return whole if is_theirs and whole.numel() == sum(map(_room, slopes)) else None


def _room(weight: Tensor) -> int:
    """Elements that it has to itself."""
    return -(-int(weight.numel()) // ALIGNED) * ALIGNED


def _like(weights: list[nn.Parameter]) -> list[Tensor]:
    """A place for the gradient of each, in one stretch of memory for each type."""
    places: dict[int, Tensor] = {}
    for dtype in {each.dtype for each in weights}:
        alike = [each for each in weights if each.dtype is dtype]
        sizes = [*map(_room, alike)]
        parts = torch.zeros(sum(sizes), dtype=dtype, device=alike[0].device).split_with_sizes(sizes)
        places |= {id(each): part[: each.numel()].view_as(each) for each, part in zip(alike, parts, strict=True)}
    return [places[id(each)] for each in weights]
