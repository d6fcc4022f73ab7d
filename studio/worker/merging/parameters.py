"""LoRA on parameters that are no layer of their own (PEFT's target_parameters), such as the stacked experts."""

from __future__ import annotations

from studio.errors import ModelError
from studio.worker.merging import experts, names
from studio.worker.merging.adapter import Adapter, Layer
from studio.worker.merging.experts import OneOfStack, PartOfStack, Stack
from studio.worker.merging.lora import LowRank
from studio.worker.merging.sheet import Sheet

TURNED = ("gpt_oss", "aria", "aria_text", "openai_privacy_filter")  # stacks that are [experts, in, out] in memory too


def is_target(adapter: Adapter, module: str) -> bool:
    """Whether the adapter changes parameters of `module`, not its layer."""
    return bool(_targets(adapter, module))


def put(sheet: Sheet, adapter: Adapter, layer: Layer, share: float) -> None:
    """Add the change of one parameter of a module: of those that are targeted the one whose shape it has.

    Raises:
        ModelError: none has, or it cannot be told which way around.
    """
    targets = _targets(adapter, layer.name)
    if adapter.start:
        raise ModelError(f"target_parameters: a start by {adapter.start} is not defined for {layer.name}")
    for parameter in targets:
        name = f"{layer.name}.{parameter}"
        found = names.stored(name, sheet.tensors)
        if found and _put_stored(sheet, adapter, layer, name, found, share):
            return
        if not found and _put_singles(sheet, adapter, layer, parameter, share):
            return
    wanted = ", ".join(f"{layer.name}.{parameter}" for parameter in targets)
    raise ModelError(f"the base {sheet.folder} has no weights of the shape that the adapter has for {wanted}")


def put_single(sheet: Sheet, adapter: Adapter, layer: Layer, share: float) -> bool:
    """Add the change of one expert to the stack that the base stores; False where it stores no such stack."""
    place = experts.place(layer.name)
    if place is None or layer.tensors.keys() != {"a", "b"}:
        return False
    stack, number, parameter, is_second = place
    found = names.stored(f"{stack}.{parameter}", sheet.tensors)
    a, b = layer.tensors["a"], layer.tensors["b"]
    halves = 2 if parameter == "gate_up_proj" else 1
    if not found or sheet.tensors[found].shape[1:] != (halves * b.shape[0], a.shape[1]):
        return False
    if number >= sheet.tensors[found].shape[0]:
        return False
    scale = adapter.scale(layer.name, a.shape[0]) * share
    sheet.change(found, PartOfStack(a.source, b.source, scale, number, b.shape[0] if is_second else 0))
    return True


def _targets(adapter: Adapter, module: str) -> list[str]:
    """The parameters of `module` that target_parameters names, in the order in which PEFT looks at them."""
    stated = sorted(adapter.options.get("target_parameters") or ())
    parts = [target.rpartition(".") for target in stated]
    named = [name for owner, _, name in parts if not owner or module == owner or module.endswith(f".{owner}")]
    known = [name for name in named if name in experts.SINGLE] if module.endswith("experts") else []
    return known or [name for name in named if name == "weight" and _owns_weight(stated, module)]


def _owns_weight(stated: list[str], module: str) -> bool:
    return any(f".{module}.weight".endswith(f".{target}") for target in stated)


def _put_stored(sheet: Sheet, adapter: Adapter, layer: Layer, name: str, found: str, share: float) -> bool:
    a, b = layer.tensors["a"], layer.tensors["b"]
    shape = sheet.tensors[found].shape
    experts_n = shape[0] if len(shape) == 3 else 1
    straight, turned = (b.shape[0], a.shape[1]), (a.shape[1], b.shape[0])
    if shape[-2:] not in (straight, turned) or a.shape[0] % experts_n or len(shape) not in (2, 3):
        return False
    is_turned = shape[-2:] == turned
    if straight == turned and len(shape) == 3:
        is_turned = sheet.model_type in TURNED
        _require_clear(sheet, found)
    scale = adapter.scale(name, a.shape[0] // experts_n) * share
    if len(shape) == 3:
        sheet.change(found, Stack(a.source, b.source, scale, experts_n, is_turned))
    else:
        sheet.change(found, LowRank(a.source, b.source, scale, is_turned and straight != turned))
    return True


def _put_singles(sheet: Sheet, adapter: Adapter, layer: Layer, parameter: str, share: float) -> bool:
    """The stack is stored expert by expert, gate and up apart."""
    stacked = experts.singles(layer.name, parameter, sheet.tensors)
    a, b = layer.tensors["a"], layer.tensors["b"]
    heights = [sheet.tensors[name].shape[0] for name in stacked[0]] if stacked else []
    if sum(heights) != b.shape[0] or sheet.tensors[stacked[0][0]].shape[1] != a.shape[1] or a.shape[0] % len(stacked):
        return False
    scale = adapter.scale(f"{layer.name}.{parameter}", a.shape[0] // len(stacked)) * share
    for number, parts in enumerate(stacked):
        for half, name in enumerate(parts):
            first = sum(heights[:half])
            sheet.change(name, OneOfStack(a.source, b.source, scale, len(stacked), number, first))
    return True


def _require_clear(sheet: Sheet, found: str) -> None:
    """Where the loader turns a stack around, a square one does not show how it is stored."""
    if sheet.model_type.startswith("qwen3_vl_moe"):
        raise ModelError(f"{found} is square, and whether it is stored [in, out] or [out, in] cannot be told")
