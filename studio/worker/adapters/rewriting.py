"""One adapter as another: taken out of a checkpoint, in another type, stronger or weaker."""

from __future__ import annotations

from studio.exports.adapter import PART
from studio.exports.report import Section
from studio.files import read_record
from studio.models import AdapterInfo
from studio.worker.adapters import folder
from studio.worker.adapters.fit import percent
from studio.worker.adapters.folder import Made


def checkpoint(info: AdapterInfo, dtype: str) -> Made:
    """The adapter as it was when the checkpoint was saved."""
    weights, rounding = folder.cast(folder.read(info), dtype)
    step = read_record(info.path / "trainer_state.json").get("global_step")
    when = f" after step {step}" if step else ""
    figures = (("checkpoint", str(info.path)), ("step", str(step or "unknown")), ("rank", str(info.rank)))
    return _rewritten(info, weights, f"The adapter as it was{when}.", rounding, Section("Checkpoint", figures=figures))


def converted(info: AdapterInfo, dtype: str) -> Made:
    """The adapter with its weights in another type.

    Raises:
        ModelError: that type cannot hold a weight.
    """
    before = folder.read(info)
    weights, rounding = folder.cast(before, dtype)
    old = sorted(set(map(folder.type_of, before.values())))
    figures = (("from", ", ".join(old)), ("to", dtype), ("tensors", str(len(weights))))
    verdict = f"All weights are {dtype} now; the largest rounding error is {percent(rounding)} of a tensor."
    return _rewritten(info, weights, verdict, rounding, Section("Conversion", figures=figures))


def scaled(info: AdapterInfo, factor: float, dtype: str) -> Made:
    """The adapter with its change times `factor`.

    The factor goes into B, not into lora_alpha: that is a whole number for many programs, and some read one for all
    modules where PEFT has a pattern.
    """
    before = folder.read(info)
    exact = {key: weight.double() * factor if _is_b(key) else weight for key, weight in before.items()}
    stored = folder.type_of(next(iter(before.values()))) if dtype == "auto" else dtype
    weights, rounding = folder.cast(exact, stored)
    count = sum(map(_is_b, weights))
    figures = (("factor", f"{factor:g}"), ("changed", f"B of {count} modules"), ("type", stored))
    verdict = f"The change is {factor:g} times what it was; the largest rounding error is {percent(rounding)} of a B."
    return _rewritten(info, weights, verdict, rounding, Section("Factor", figures=figures))


def _is_b(key: str) -> bool:
    """Whether a tensor is B or its bias, which the change is proportional to."""
    part = PART.fullmatch(key)
    return part is not None and part["side"] == "B"


def _rewritten(info: AdapterInfo, weights: folder.Weights, verdict: str, rounding: float, section: Section) -> Made:
    stated = {**info.config, "inference_mode": True}
    return Made(weights, stated, info.path, verdict, (section,), {"rounding": rounding})
