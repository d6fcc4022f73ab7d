"""Attention by the lengths of rows on a CUDA device: the kernel beside sdpa, and nothing that waits for the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from transformers import AutoConfig, PreTrainedModel

from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.worker.fast import attention
from tests.worker.fast.test_attention import CUDA, LENGTHS, SIZES, alone, batch, flat, slopes, tiny

pytestmark = pytest.mark.gpu


@contextmanager
def no_wait() -> Iterator[None]:
    """In here whatever waits for the device raises."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def off(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """How far, as a share of what was wanted."""
    return float((got.float() - wanted.float()).norm() / wanted.float().norm())


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("window", [None, 37], ids=["all", "window"])
@pytest.mark.parametrize(
    "shape", [(4, 4, 64), (32, 8, 128), (8, 1, 256), (32, 32, 96)], ids=["small", "shared", "wide", "odd"]
)
def test_the_kernel_is_that_of_sdpa(shape: tuple[int, int, int], window: int | None, precision: torch.dtype) -> None:
    assert attention._error(shape, window, precision, CUDA) < attention.TOLERANCE


def test_a_longest_row_may_be_said_to_be_longer() -> None:
    """As it is where lengths are known on the device alone."""
    model = on_device("llama")
    given = batch(CUDA)
    longer = {**given, "max_length_q": 4 * max(LENGTHS), "max_length_k": 4 * max(LENGTHS)}
    with torch.no_grad():
        assert torch.equal(model(**given, use_cache=False).logits, model(**longer, use_cache=False).logits)


def test_it_is_chosen() -> None:
    config, shape = parse(TrainConfig, {"dataset": ["demo"]}), AutoConfig.for_model("mistral", **SIZES)
    assert attention.choose(config, shape, torch.bfloat16, CUDA).way == "varlen"
    assert "float32" in attention.choose(config, shape, torch.float32, CUDA).why


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "gemma3_text", "phi3", "gpt_neox"])
def test_flat_rows_are_each_row_alone(kind: str) -> None:
    model = on_device(kind)
    got, wanted = flat(model), alone(model)
    assert off(got, wanted) < 0.02
    for one, other in zip(slopes(model, got), slopes(model, wanted), strict=True):
        assert off(one, other) < 0.08


def test_wide_weights_are_computed_in_the_shorter_type() -> None:
    """Under autocast rotated queries are as wide as the weights, and sdpa alone is known to it."""
    model = tiny("llama").to(CUDA)
    wanted = alone(model)
    with torch.autocast("cuda", torch.bfloat16):
        got = flat(model)
    assert off(got, wanted) < 0.02
    for one, other in zip(slopes(model, got.float()), slopes(model, wanted), strict=True):
        assert off(one, other) < 0.08


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3_text"])
def test_nothing_waits_for_the_device(kind: str) -> None:
    model, given = on_device(kind), batch(CUDA)
    for attempt in range(2):  # the first one sets things up
        with no_wait() if attempt else torch.enable_grad():
            model(**given, use_cache=False).logits.float().square().mean().backward()


def on_device(kind: str) -> PreTrainedModel:
    return tiny(kind).to(CUDA, torch.bfloat16)
