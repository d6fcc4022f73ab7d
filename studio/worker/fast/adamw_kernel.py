"""The kernel of `adamw`: it needs Triton, which is on machines with a GPU alone."""

from __future__ import annotations

import triton
import triton.language as tl

BLOCK = 1024  # elements that a program takes at once
CHUNK = 16 * BLOCK  # elements of a program


@triton.jit  # type: ignore[untyped-decorator]
def step(places, chunks, figures, scale, BLOCK: tl.constexpr, CHUNK: tl.constexpr):  # type: ignore[no-untyped-def]
    """One step of a chunk of a weight. `places` [weights, 8]: its size, where it, its gradient, its moments and its
    number of steps lie, its group, and where to write it in bfloat16, or 0; `chunks` [programs, 2]: a weight and where
    in it to begin; `figures` [groups, 7], in float64; `scale`: what gradients are divided by."""
    row = places + tl.load(chunks + 2 * tl.program_id(0)) * 8
    begin = tl.load(chunks + 2 * tl.program_id(0) + 1)
    size = tl.load(row)
    p = tl.load(row + 1).to(tl.pointer_type(tl.float32))
    g = tl.load(row + 2).to(tl.pointer_type(tl.float32))
    m = tl.load(row + 3).to(tl.pointer_type(tl.float32))
    v = tl.load(row + 4).to(tl.pointer_type(tl.float32))
    count = tl.load(tl.load(row + 5).to(tl.pointer_type(tl.float32))).to(tl.float64)
    own = figures + tl.load(row + 6) * 7
    copy = tl.load(row + 7)
    is_copied = copy != 0
    n = copy.to(tl.pointer_type(tl.bfloat16))
    rate = tl.load(own)
    new_m = tl.load(own + 1).to(tl.float32)
    new_v = tl.load(own + 2).to(tl.float32)
    decay = (1.0 - rate * tl.load(own + 3)).to(tl.float32)
    eps = tl.load(own + 4).to(tl.float32)
    size_of_step = (rate / (1.0 - tl.exp(count * tl.load(own + 5)))).to(tl.float32)
    root = tl.sqrt(1.0 - tl.exp(count * tl.load(own + 6))).to(tl.float32)
    by = 1.0 / tl.load(scale)
    for part in range(0, CHUNK, BLOCK):
        at = tl.multiple_of(begin + part, BLOCK) + tl.arange(0, BLOCK)
        if begin + part + BLOCK <= size:  # a mask would have each element loaded by itself
            _move(p, g, m, v, n, is_copied, at, size, by, new_m, new_v, decay, eps, size_of_step, root, False)
        elif begin + part < size:
            _move(p, g, m, v, n, is_copied, at, size, by, new_m, new_v, decay, eps, size_of_step, root, True)


@triton.jit  # type: ignore[untyped-decorator]
def _move(  # type: ignore[no-untyped-def]
    p, g, m, v, n, is_copied, at, size, by, new_m, new_v, decay, eps, size_of_step, root, IS_LAST: tl.constexpr
):
    ps = tl.multiple_of(p + at, 16)
    gs = tl.multiple_of(g + at, 16)
    ms = tl.multiple_of(m + at, 16)
    vs = tl.multiple_of(v + at, 16)
    ns = tl.multiple_of(n + at, 8)  # four at once, as of the others: else all would be shuffled between threads
    if IS_LAST:
        held = at < size
        weight = tl.load(ps, mask=held, other=0.0)
        slope = tl.load(gs, mask=held, other=0.0) * by
        mean = tl.load(ms, mask=held, other=0.0)
        square = tl.load(vs, mask=held, other=0.0)
    else:
        weight = tl.load(ps)
        slope = tl.load(gs) * by
        mean = tl.load(ms)
        square = tl.load(vs)
    mean = mean + new_m * (slope - mean)
    square = square + new_v * (slope * slope - square)
    weight = weight * decay - size_of_step * mean / (tl.sqrt(square) / root + eps)
    if IS_LAST:
        tl.store(ps, weight, mask=held)
        tl.store(ms, mean, mask=held)
        tl.store(vs, square, mask=held)
        if is_copied:
            tl.store(ns, weight.to(tl.bfloat16), mask=held)
    else:
        tl.store(ps, weight)
        tl.store(ms, mean)
        tl.store(vs, square)
        if is_copied:
            tl.store(ns, weight.to(tl.bfloat16))
