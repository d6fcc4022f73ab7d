"""Where the time of a device goes, by the kind of kernel."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.profiler import profile

ADAPTERS, IDLE, OTHER = "adapter products", "idle", "other"
# the first that fits: the names of attention kernels speak of matrix products, those of products of element types
CLASSES = (
    ("attention", r"flash|fmha|attention|sdpa"),
    ("norm, rope, activation", r"rms_?norm|layer_?norm|rope|rotary|swiglu|geglu|silu|gelu"),
    (ADAPTERS, r"lora|adapter"),
    ("4-bit weights", r"dequantize|quantize"),
    ("optimizer", r"adam|multi_tensor|lp_?norm|foreach"),
    ("matrix products", r"gemm|gemv|nvjet|xmma|cutlass|cublas|splitk|aten::(add|b)?mm|aten::baddbmm"),
    ("copies", r"memcpy|memset"),
    ("reductions, softmax", r"reduce|softmax|logsumexp|aten::(sum|max|argmax)"),
    ("elementwise, casts", r"elementwise|copy|index|gather|scatter|aten::(mul|add|sub|div|to|exp|cat|fill_|zero_)"),
)
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
WIDEST_RANK = 64
LONGEST = 40
Spans = list[tuple[float, float]]


def class_of(name: str) -> str:
    """The kind of a kernel, or of an operation on a machine without a GPU, by its name."""
    return next((kind for kind, pattern in CLASSES if re.search(pattern, name, re.IGNORECASE)), OTHER)


def look(work: Callable[[], object]) -> dict[str, float]:
    """Milliseconds of each kind of kernel in `work`, and between kernels, most first; without a GPU those of the
    operations of the processor. The names that take longest are printed with their share and kind.
    """
    # imported here: the parent needs no torch
    import torch
    from torch.profiler import ProfilerActivity, profile

    on_gpu = torch.cuda.is_available()
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=kinds, record_shapes=True) as held:
        work()
    kernels = list(_kernels(held)) if on_gpu else []
    named = [(name, end - start) for name, start, end in kernels] or list(_operations(held))
    found = totals(named)
    narrow = _narrow(held, on_gpu)
    found[ADAPTERS] = found.get(ADAPTERS, 0.0) + narrow
    found["matrix products"] = found.get("matrix products", 0.0) - narrow
    if kernels:
        found[IDLE] = idle([(start, end) for _, start, end in kernels])
    _tell_longest(named)
    return {kind: us / 1e3 for kind, us in sorted(found.items(), key=lambda each: -each[1])}


def totals(named: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The sum of each kind."""
    found: dict[str, float] = {}
    for name, spent in named:
        found[class_of(name)] = found.get(class_of(name), 0.0) + spent
    return found


def idle(spans: Spans) -> float:
    """How long between the first start and the last end nothing ran."""
    spent, until = 0.0, min(start for start, _ in spans)
    for start, end in sorted(spans):
        spent += max(0.0, start - until)
        until = max(until, end)
    return spent


def _kernels(held: profile) -> Iterable[tuple[str, float, float]]:
    from torch.autograd import DeviceType

    for event in held.events() or ():
        if event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False):
            yield event.name, event.time_range.start, event.time_range.end


def _operations(held: profile) -> Iterable[tuple[str, float]]:
    return ((event.key, float(event.self_cpu_time_total)) for event in held.key_averages())


def _narrow(held: profile, on_gpu: bool) -> float:
    """The time of matrix products one of whose sides is as short as the rank of an adapter, which no name tells."""
    return sum(
        sum(kernel.duration for kernel in event.kernels) if on_gpu else event.self_cpu_time_total
        for event in held.events() or ()
        if event.name in PRODUCTS and _shortest(event.input_shapes) <= WIDEST_RANK
    )


def _shortest(shapes: Any) -> int:
    return min((side for shape in shapes or () if len(shape) >= 2 for side in shape), default=WIDEST_RANK + 1)


def _tell_longest(named: Iterable[tuple[str, float]]) -> None:
    spent, times = dict[str, float](), dict[str, int]()
    for name, us in named:
        spent[name] = spent.get(name, 0.0) + us
        times[name] = times.get(name, 0) + 1
    whole = sum(spent.values())
    for name, us in sorted(spent.items(), key=lambda each: -each[1])[:LONGEST]:
        print(f"{us / whole:.1%} {us / 1e3:.2f} ms {times[name]} times, {class_of(name)}: {name[:140]}", flush=True)
