"""The operators that replace vLLM's on a CPU, against the plain formula."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from types import ModuleType
from typing import Any

import pytest

from studio.serving.command import PLUGIN

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    spec = importlib.util.spec_from_file_location("seedbed_vllm_plugin", PLUGIN / "seedbed_vllm_plugin.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=[[-1, 0, 2, -1, 0, 1], [0, 0, -1, 1, 1, 2]], ids=["scattered", "neighbours"])
def batch(request: pytest.FixtureRequest) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "inputs": torch.randn(6, 16, generator=generator),
        "weights": torch.randn(3, 1, 4, 16, generator=generator),
        "indices": torch.tensor(request.param),
    }


def plain(batch: dict[str, Any], row: int) -> Any:
    slot = batch["indices"][row]
    return batch["weights"][slot, 0] @ batch["inputs"][row]


def test_shrink_scales_and_leaves_rows_without_an_adapter(plugin: ModuleType, batch: dict[str, Any]) -> None:
    output = torch.full((6, 4), 7.0)
    plugin.bgmv_shrink(batch["inputs"], batch["weights"], output, batch["indices"], 0.5)
    for row in range(6):
        wanted = torch.full((4,), 7.0) if batch["indices"][row] < 0 else 0.5 * plain(batch, row)
        torch.testing.assert_close(output[row], wanted)


@pytest.mark.parametrize("add", [True, False])
def test_expand_adds_or_sets(plugin: ModuleType, batch: dict[str, Any], add: bool) -> None:
    output = torch.ones(6, 5)
    plugin.bgmv_expand(batch["inputs"], batch["weights"], output, batch["indices"], add)
    for row in range(6):
        wanted = torch.ones(5)
        if batch["indices"][row] >= 0:
            wanted[:4] = plain(batch, row) + (1.0 if add else 0.0)
        torch.testing.assert_close(output[row], wanted)


def test_expand_slice_keeps_to_its_columns(plugin: ModuleType, batch: dict[str, Any]) -> None:
    output = torch.zeros(6, 9)
    plugin.bgmv_expand_slice(batch["inputs"], batch["weights"], output, batch["indices"], 3, 4, True)
    torch.testing.assert_close(output[1, 3:7], plain(batch, 1))
    assert not output[:, :3].any()
    assert not output[:, 7:].any()


def test_prefill_gives_one_index_per_sequence(plugin: ModuleType, batch: dict[str, Any]) -> None:
    lengths, slots = torch.tensor([2, 1, 3]), torch.tensor([0, -1, 2])
    batch["indices"] = torch.tensor([0, 0, -1, 2, 2, 2])
    output = torch.zeros(6, 4)
    plugin.sgmv_shrink(batch["inputs"], batch["weights"], output, lengths, lengths, slots, 3, 3, 6, 1.0)
    for row in (0, 1, 3, 4, 5):
        torch.testing.assert_close(output[row], plain(batch, row))
    assert not output[2].any()


@pytest.mark.parametrize("slot", [1, -1])
def test_one_index_for_all_rows(plugin: ModuleType, batch: dict[str, Any], slot: int) -> None:
    output = torch.zeros(6, 4)
    plugin.bgmv_shrink(batch["inputs"], batch["weights"], output, torch.tensor([slot]), 1.0)
    batch["indices"] = torch.full((6,), slot)
    for row in range(6):
        torch.testing.assert_close(output[row], torch.zeros(4) if slot < 0 else plain(batch, row))


def test_output_keeps_its_type(plugin: ModuleType, batch: dict[str, Any]) -> None:
    output = torch.zeros(6, 4, dtype=torch.float32)
    inputs, weights = batch["inputs"].bfloat16(), batch["weights"].bfloat16()
    plugin.bgmv_shrink(inputs, weights, output, batch["indices"], 1.0)
    torch.testing.assert_close(output[1], weights[0, 0].float() @ inputs[1].float())


@pytest.fixture
def vllm_modules(plugin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """vLLM's operators and their caller, put back after the test."""
    names = ("vllm.lora.ops.torch_ops", "vllm.lora.ops.torch_ops.lora_ops", "vllm.lora.punica_wrapper.punica_cpu")
    package, operators, wrapper = map(importlib.import_module, names)
    for operator in plugin.OPERATORS:
        for module in (package, operators, wrapper):
            monkeypatch.setattr(module, operator.__name__, getattr(module, operator.__name__))
    return operators, wrapper


@pytest.mark.vllm
def test_vllms_operators_are_replaced(plugin: ModuleType, vllm_modules: tuple[ModuleType, ModuleType]) -> None:
    operators, wrapper = vllm_modules
    plugin.replace_operators()
    assert wrapper.bgmv_expand is plugin.bgmv_expand
    assert operators.sgmv_shrink is plugin.sgmv_shrink


@pytest.mark.vllm
def test_operators_of_another_version_are_left_alone_and_that_is_said(
    plugin: ModuleType, vllm_modules: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    operators, wrapper = vllm_modules
    before = wrapper.bgmv_expand
    monkeypatch.setattr(operators, "bgmv_shrink", lambda inputs, weights: None)
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    plugin.logger.addHandler(handler)
    plugin.replace_operators()
    plugin.logger.removeHandler(handler)
    assert wrapper.bgmv_expand is before
    assert said == ["Seedbed left vLLM's LoRA operators alone: bgmv_shrink differ in this version"]
