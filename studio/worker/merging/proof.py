"""The proof of a merge: what is asked of the process that compares, what it answers, and what follows from that.

Light to import. The comparing process loads its libraries while the merge is written; it ends with this one.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Literal

from studio.errors import ModelError, some
from studio.runs.process import die_with_parent
from studio.settings import ROOT

MODULE = "studio.worker.merging.verification"
# by the arithmetic, in nats a token: what may differ at all, and what rounding may do to an adapter that hardly
# changes anything: three steps of training moved a model by 1.4e-4, its rounding to bfloat16 by 1.6e-5
LIMITS = {"float32": (0.01, 1e-3), "bfloat16": (0.05, 5e-3)}
LOST_SHARE = 0.1  # of the way from base to base plus adapter; above that, this much of the adapter may be gone


class Unproven(ModelError):
    """The merged model could not be compared with base and adapter, and why."""


@dataclass(frozen=True)
class Request:
    """What to compare: folders, the adapters with their shares, and the type on disk of the merged weights.

    `rounding` is what the base's weights were rounded by before the adapters were added (nf4, fp4, int8), if at all,
    and `double` whether the scales of that were, too.
    """

    base: str
    adapters: tuple[str, ...]
    weights: tuple[float, ...]
    merged: str
    rounding: Literal["nf4", "fp4", "int8"] | None = None
    double: bool = True
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Asked:
    """One prompt: how far the logits of merged and base plus adapter are apart, and what both answer, greedily.

    `kl` in nats a token over `positions` tokens, those of the answer and the last of the prompt.
    """

    prompt: str
    positions: int
    max_difference: float
    mean_difference: float
    kl: float
    kl_base: float
    adapter: str
    merged: str


@dataclass(frozen=True)
class Comparison:
    """Merged against base plus adapter: over prompts, and module by module.

    `probed` counts the modules and other weights that were compared by themselves, `deviation` is the largest
    difference there as a share of what rounding explains, `wrong` names those above 1 and `not_finite` the weights with
    a NaN or an infinity. `kl_base` is how far the adapter moves the base: the yardstick for `kl`.
    """

    computed_in: str
    asked: tuple[Asked, ...]
    max_difference: float
    mean_difference: float
    kl: float
    kl_base: float
    probed: int
    deviation: float
    wrong: tuple[str, ...]
    not_finite: tuple[str, ...]
    seconds: float
    peak_bytes: int

    @property
    def same_answers(self) -> int:
        return sum(each.adapter == each.merged for each in self.asked)


def objections(comparison: Comparison) -> tuple[str, ...]:
    """Why the merged model is not base plus adapter; empty where it is."""
    limit, floor = LIMITS[comparison.computed_in]
    found = []
    if comparison.not_finite:
        found.append(f"{some(comparison.not_finite)} holds NaN or infinite numbers")
    if comparison.wrong:
        found.append(f"{some(comparison.wrong)} differs by more than rounding explains")
    if not all(map(math.isfinite, (comparison.kl, comparison.kl_base, comparison.max_difference))):
        found.append("its answers, or those of base plus adapter, are not numbers")
    elif comparison.kl > min(limit, max(floor, LOST_SHARE * comparison.kl_base)):
        found.append(
            f"its answers are {comparison.kl:.2g} nats a token away from those of base plus adapter (the base alone: "
            f"{comparison.kl_base:.2g})"
        )
    return tuple(found)


@dataclass
class Prover:
    """The comparing process: started early, asked when all is written, gone with `with`.

    `needed` are packages that it must not leave out.
    """

    uses_gpu: bool = False
    needed: tuple[str, ...] = ()
    _process: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Prover:
        hidden = {} if self.uses_gpu else {"CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE, *self.needed], cwd=ROOT, env={**os.environ, **hidden}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent,
        )  # fmt: skip
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()

    def compare(self, request: Request, tell: Callable[[str], None]) -> Comparison:
        """Compare as `request` says; `tell` hears what is being done.

        Raises:
            Unproven: the models could not be compared.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(asdict(request)) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return self._died()
        for line in self._process.stdout:
            said = _read(line)
            if "doing" in said:
                tell(said["doing"])
            if "failed" in said:
                raise Unproven(said["failed"])
            if "found" in said:
                return _comparison(said["found"])
        return self._died()

    def _died(self) -> Comparison:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            raise Unproven("the process that compares was killed, most likely for want of memory")
        raise Unproven(f"the process that compares ended with code {code}: the log says more")


def _read(line: str) -> dict[str, Any]:
    """A line of the comparing process; what libraries print is none."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _comparison(found: Mapping[str, Any]) -> Comparison:
    lists = {key: tuple(found[key]) for key in ("wrong", "not_finite")}
    return Comparison(**{**found, **lists, "asked": tuple(Asked(**each) for each in found["asked"])})
