"""A training in this process that is looked into: what its steps cost beyond the computation, where that goes, and what
other passes would give.

    python -m bench._bare RUN_DIR [profile] [search]

The trainer makes its steps as ever. Then the batches of the timed ones, which are on the device already, are computed
again with nothing around them: forward, backward, clipping, optimizer. What was found is in bare.json of the run.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

from bench import _profile
from studio.machine import GB
from studio.planning.passes import Passes
from studio.worker import imports, train

WARM_UP_SHARE = 2  # of the steps, one in so many: sizes of batches that are new are recorded then
PROFILED = 3
TRY_S, TRIED = 2.0, (2, 12)  # other passes are tried for about so long, in so many steps
UNTIMED = 5  # of a try, in which it is recorded
SPLITS = (1, 2, 3, 4, 8)  # passes of a step
LAYERS = (0.0, 0.5, 1.0)  # shares that are computed twice
Pass = tuple[dict[str, Any], Any]


def main(run_dir: Path, wanted: list[str]) -> int:
    """Train as config.yaml in `run_dir` says, and look; the exit code of the worker."""
    imports.trim({"bitsandbytes"})
    from studio.worker.stages.recorded import Recorded

    def looked_into(trainer: Any, **options: Any) -> None:
        watch = _watch(trainer)
        super(Recorded, trainer).train(**options)
        found: dict[str, Any] = {"timed_steps": len(watch.steps), "trainer_s": watch.seconds}
        found["bare_s"] = min(_play(trainer, watch.steps) for _ in range(2))
        if "profile" in wanted:
            steps = watch.steps[:PROFILED]
            found["profile_ms"] = _profile.look(lambda: _play(trainer, steps))
        if "search" in wanted:
            found["search"] = list(_search(trainer))
        (run_dir / "bare.json").write_text(json.dumps(found))

    Recorded.train = looked_into
    return train.main(run_dir)


def _watch(trainer: Any) -> Any:
    """A callback that keeps the batches of the timed steps and the time they took, but for steps in which a pass was
    recorded."""
    from transformers import TrainerCallback

    ordinary, graphs = trainer.go_through, getattr(trainer, "_graphs", None)

    class Watch(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
        def __init__(self) -> None:
            self.steps: list[list[Pass]] = []
            self.seconds = 0.0
            self._step: list[Pass] = []
            self._began, self._recorded = time.monotonic(), 0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # with figures that are read late the host is one step ahead at most, and takes as long as the device
            now, recorded = time.monotonic(), len(graphs._made) if graphs else 0
            if state.global_step > max(1, state.max_steps // WARM_UP_SHARE) and recorded == self._recorded:
                self.steps.append(self._step)
                self.seconds += now - self._began
            self._step, self._began, self._recorded = [], now, recorded

        def go_through(self, model: Any, inputs: dict[str, Any], counted: Any) -> Any:
            self._step.append((dict(inputs), counted))
            return ordinary(model, inputs, counted)

    watch = Watch()
    trainer.go_through = watch.go_through
    trainer.add_callback(watch)
    return watch


def _play(trainer: Any, steps: list[list[Pass]]) -> float:
    """Seconds that the steps take with nothing around them."""

    optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    trained = [each for each in trainer.model.parameters() if each.requires_grad]
    trainer.model.train()
    _wait()
    started = time.monotonic()
    for step in steps:
        for inputs, counted in step:
            type(trainer).go_through(trainer, trainer.model_wrapped, dict(inputs), counted)
        _clip(trainer, trained)
        optimizer.step()
        optimizer.zero_grad()
    _wait()
    return time.monotonic() - started


def _clip(trainer: Any, trained: list[Any]) -> None:
    import torch

    from studio.worker.fast import clip

    limit = trainer.args.max_grad_norm
    if trainer._clipped is None:
        torch.nn.utils.clip_grad_norm_(trained, limit)
    else:
        clip.leave(trainer._clipped, trainer._trained.length(), limit)


def _search(trainer: Any) -> Iterator[dict[str, Any]]:
    """Speed and memory of the passes that the worker chose, and of others, over the same rows."""
    chosen = trainer.setting.passes
    layers = trainer.model.config.num_hidden_layers
    rows = _rows_of_a_step(trainer)
    tokens = sum(map(trainer.tokens_in, rows))
    grid = [Passes(ceil(tokens / split), round(layers * share)) for split in SPLITS for share in LAYERS]
    longest = max(map(trainer.tokens_in, rows))
    for passes in [chosen, *(each for each in grid if (each.tokens or 0) >= longest)]:
        found = _try(trainer, passes, rows)
        is_chosen = passes is chosen
        yield {"tokens": passes.tokens, "recomputed": passes.recomputed, "is_chosen": is_chosen, **found}


def _rows_of_a_step(trainer: Any) -> list[dict[str, Any]]:
    config = trainer.setting.config
    count = config.per_device_train_batch_size * config.gradient_accumulation_steps
    return [trainer.train_dataset[number] for number in range(min(count, len(trainer.train_dataset)))]


def _try(trainer: Any, passes: Passes, rows: list[dict[str, Any]]) -> dict[str, Any]:
    import torch

    _recompute(trainer, passes.recomputed)
    trainer.setting = replace(trainer.setting, passes=passes)
    _record_anew(trainer)
    _forget()
    try:
        step = _dealt(trainer, rows)
        first_s = min(_play(trainer, [step]) for _ in range(UNTIMED))
        fewest, most = TRIED
        count = min(most, max(fewest, round(TRY_S / first_s)))
        seconds = _play(trainer, [step] * count)
    except torch.OutOfMemoryError:
        seconds = None
    trainer.model.zero_grad()
    peaks = _peaks()
    tokens = sum(map(trainer.tokens_in, rows))
    return {"passes": seconds and len(step), "tokens_per_s": seconds and tokens * count / seconds, **peaks}


def _dealt(trainer: Any, rows: list[dict[str, Any]]) -> list[Pass]:
    from studio.worker.fast.passes import Batch

    size = trainer.args.per_device_train_batch_size
    batches = [Batch(rows[first : first + size]) for first in range(0, len(rows), size)]
    dealt, counted = trainer.get_batch_samples(iter(batches), len(batches), trainer.args.device)
    return [(batch, counted) for batch in dealt if batch]


def _recompute(trainer: Any, layers: int) -> None:
    from studio.worker.fast import recompute

    recompute.keep(trainer.model, layers)
    if layers:
        trainer.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        trainer.model.gradient_checkpointing_disable()


def _record_anew(trainer: Any) -> None:
    if graphs := getattr(trainer, "_graphs", None):
        graphs.forget()
        most = trainer.setting.passes.tokens
        trainer._graphs = type(graphs)(trainer._learn, trainer.model.parameters(), trainer.args.device, most)


def _forget() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peaks() -> dict[str, float]:
    import torch

    if not torch.cuda.is_available():
        return {}
    allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return {"allocated_gb": allocated / GB, "reserved_gb": reserved / GB}


def _wait() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
