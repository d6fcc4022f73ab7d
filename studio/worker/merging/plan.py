"""What a merge will do to every weight of the base, read from headers alone.

Every key of every adapter must find its weight in the base and fit it. What does not is refused by name, because a
merge that is silently wrong is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from studio.errors import ModelError, some
from studio.worker.merging import adapter as adapters
from studio.worker.merging import ends, names, parameters
from studio.worker.merging.adapter import Adapter, Held, Layer
from studio.worker.merging.lora import Bias, LowRank, Remainder
from studio.worker.merging.quantised import Rounded, Rounding, is_linear
from studio.worker.merging.sheet import Sheet
from studio.worker.merging.work import Plan, Share

SQUARE_TURNED = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")  # their linear layers are [in, out]
# entries of config.json that give layers biases, by the models that have them and the layers that get one
SWITCHES = {
    "attention_bias": (
        {"llama", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "granite"},
        ("q_proj", "k_proj", "v_proj", "o_proj"),
    ),
    "mlp_bias": ({"llama", "granite"}, ("gate_proj", "up_proj", "down_proj")),
}


def plan(folder: Path, shares: Sequence[Share], export_dtype: str = "auto", rounding: Rounding | None = None) -> Plan:
    """Every tensor of the merged model: the base's, with the changes of all adapters added up.

    With `rounding`, the base is first rounded as a training that held it in fewer bits saw it.

    Raises:
        ModelError: naming the options or keys of an adapter that cannot be merged, or do not fit the base.
    """
    sheet = Sheet(folder, export_dtype)
    if rounding:
        _round(sheet, rounding)
    for share in shares:
        sheet.next_adapter()
        adapter = adapters.read(share.adapter)
        _require_share(adapter, share)
        ends.require_known(sheet, share.adapter)
        _put(sheet, adapter, share.weight)
    ends.require_even(sheet)
    return sheet.plan()


def _round(sheet: Sheet, rounding: Rounding) -> None:
    linear = [name for name, tensor in sheet.tensors.items() if is_linear(name, tensor.shape)]
    for name in linear:
        sheet.prepare(name, Rounded(rounding, sheet.model_type in SQUARE_TURNED))
    sheet.notes.append(
        f"{len(linear)} weights were rounded to {rounding.kind} first, as the adapter's training saw them."
    )


def _require_share(adapter: Adapter, share: Share) -> None:
    """Only sums can be taken in part: not lengths of weights, nor weights that were trained whole."""
    parts = {
        "DoRA": bool(adapter.options.get("use_dora")),
        "trainable_token_indices": any("tokens" in layer.tensors for layer in adapter.layers),
        "weights that were trained whole (modules_to_save, bias)": bool(adapter.trained),
        f"init_lora_weights: {adapter.start}": adapter.start is not None,
    }
    if share.weight != 1 and (found := [what for what, has in parts.items() if has]):
        raise ModelError(
            f"adapter_weights: {adapter.folder} uses {', '.join(found)}, of which a part ({share.weight:g}) is not "
            "defined: give it the share 1"
        )


def _put(sheet: Sheet, adapter: Adapter, share: float) -> None:
    """All that an adapter holds: first what it holds whole, on which its other changes stand."""
    ends.settle(sheet, adapter)
    whole = {**adapter.copied, **adapter.trained}
    lost = [name for name in whole if not _put_whole(sheet, name, whole[name])]
    rows_first = sorted(adapter.layers, key=lambda layer: "tokens" not in layer.tensors)  # as PEFT wraps them
    lost += [f"{layer.name}.weight" for layer in rows_first if not _put_change(sheet, adapter, layer, share)]
    if lost:
        raise ModelError(
            f"the base {sheet.folder} has no weights for {some(lost)}. Is it the model that the adapter was trained on?"
        )
    _require_complete(sheet, adapter)


def _require_complete(sheet: Sheet, adapter: Adapter) -> None:
    """An adapter that says it changes a kind of layer has something for all of that kind.

    Only in the stacks of layers that it changes, and of what is loaded of them: some bases also store layers that
    predict several tokens at once, behind the others or in a stack of their own, or keys that the layers share.
    """
    if any(adapter.options.get(key) for key in ("layers_to_transform", "exclude_modules")):
        return
    linear = {name: _place(name) for name, tensor in sheet.tensors.items() if is_linear(name, tensor.shape)}
    kinds = {(stack, tail) for name, (stack, _, tail) in linear.items() if sheet.is_touched(name)}
    is_meant = _meant(adapter.options.get("target_modules"), {tail for _, tail in kinds})
    stacks = {stack for stack, _ in kinds}
    here = [name for name, (stack, number, tail) in linear.items() if stack in stacks and sheet.is_loaded(number, tail)]
    if lacking := [name for name in here if is_meant(name) and not sheet.is_touched(name)]:
        raise ModelError(
            f"{adapter.folder} is incomplete: by its target_modules it changes {some(lacking)}, and it holds nothing "
            "for that. Copy it again from where it was trained"
        )


def _place(name: str) -> tuple[str, int, str]:
    """The stack that a weight's layer is in, its number there, and what the weight is called in the layer."""
    stack, number, tail = re.split(r"\.(\d+)\.", name, maxsplit=1)
    return stack, int(number), tail


def _meant(targets: Any, touched: Collection[str]) -> Callable[[str], bool]:
    """Whether target_modules mean a weight, as PEFT reads them. Of all-linear those `touched` in other layers count."""
    if targets == "all-linear":
        return lambda name: _place(name)[2] in touched
    if isinstance(targets, str):
        return lambda name: re.fullmatch(targets, name.removesuffix(".weight")) is not None
    endings = tuple(f".{target}.weight" for target in targets or ())
    return lambda name: f".{name}".endswith(endings)


def _put_whole(sheet: Sheet, name: str, whole: Held) -> bool:
    """Take a tensor from the adapter; False where the base has none of that name."""
    if ends.is_end(sheet, name):
        return True  # done where embedding and head are settled
    found = names.stored(name, sheet.tensors)
    if found is None:
        return False
    if sheet.tensors[found].shape != whole.shape:
        raise _misfit(found, sheet.tensors[found].shape, whole.shape)
    sheet.replace(found, whole)
    return True


def _put_change(sheet: Sheet, adapter: Adapter, layer: Layer, share: float) -> bool:
    """Add what changes one module; False where the base has no weight for it."""
    if "tokens" in layer.tensors:
        ends.put_rows(sheet, adapter, layer.name, layer.tensors["tokens"])
    elif parameters.is_target(adapter, layer.name):
        parameters.put(sheet, adapter, layer, share)
    elif found := names.stored(f"{layer.name}.weight", sheet.tensors):
        _put_layer(sheet, adapter, layer, found, share)
    else:
        return parameters.put_single(sheet, adapter, layer, share)
    return True


def _put_layer(sheet: Sheet, adapter: Adapter, layer: Layer, found: str, share: float) -> None:
    a, b = layer.tensors["a"], layer.tensors["b"]
    shape, rank = sheet.tensors[found].shape, a.shape[0]
    transposed = layer.is_embedding or _is_transposed(sheet, adapter, found, (b.shape[0], a.shape[1]))
    delta = (a.shape[1], b.shape[0]) if transposed else (b.shape[0], *a.shape[1:])
    if rank != b.shape[1] or shape != delta:
        raise _misfit(found, shape, delta)
    scale = adapter.scale(layer.name, rank)
    magnitude = layer.tensors.get("magnitude")
    if magnitude or adapter.start:
        sheet.require_untouched(found, "DoRA" if magnitude else str(adapter.start))
    if adapter.start and not layer.is_embedding and len(shape) == 2:
        sheet.change(found, Remainder(adapter.start, rank, scale, transposed))
    lengths = magnitude.source if magnitude else None
    sheet.change(found, LowRank(a.source, b.source, scale * share, transposed, lengths))
    if "bias" in layer.tensors:
        _put_bias(sheet, layer, found, scale * share)


def _is_transposed(sheet: Sheet, adapter: Adapter, found: str, delta: tuple[int, int]) -> bool:
    """Whether a weight is [in, out]. Its shape tells unless it is square; then only the kind of model does."""
    shape = sheet.tensors[found].shape
    if len(shape) != 2 or shape != delta[::-1]:
        return False
    if shape != delta:
        return True
    if sheet.model_type not in SQUARE_TURNED and adapter.options.get("fan_in_fan_out"):
        raise ModelError(
            f"{found} is square, and whether it is [in, out], as fan_in_fan_out: true in the adapter_config.json of "
            f"{adapter.folder} says, cannot be told of a {sheet.model_type} model: set it to false if its layers are "
            "nn.Linear, as all but GPT-2's kin have them, or choose merge_method: full_memory, which sees the layer"
        )
    return found != sheet.head and sheet.model_type in SQUARE_TURNED


def _put_bias(sheet: Sheet, layer: Layer, weight: str, scale: float) -> None:
    bias = layer.tensors["bias"]
    name = weight.removesuffix("weight") + "bias"
    if name not in sheet.tensors:
        _add_biases(sheet, name)
    if sheet.tensors[name].shape != bias.shape:
        raise _misfit(name, sheet.tensors[name].shape, bias.shape)
    sheet.change(name, Bias(bias.source, scale))


def _add_biases(sheet: Sheet, name: str) -> None:
    """Give the layers of a kind biases, all of them: the model has either all or none.

    Raises:
        ModelError: models of this type cannot have biases there.
    """
    layer = name.removesuffix(".bias").rpartition(".")[2]
    found = [key for key, (types, layers) in SWITCHES.items() if sheet.model_type in types and layer in layers]
    if not found:
        raise ModelError(
            f"the adapter has a bias for {name} (lora_bias), and a {sheet.model_type} model has no place for one "
            "there: serve it as an adapter, or train one without lora_bias"
        )
    endings = tuple(f".{other}.weight" for other in SWITCHES[found[0]][1])
    for weight in [other for other in sheet.tensors if other.endswith(endings)]:
        bias = weight.removesuffix("weight") + "bias"
        if bias not in sheet.tensors:
            sheet.zeros(bias, sheet.tensors[weight].shape[0], like=weight)
    sheet.set(found[0], True)
    sheet.notes.append(f"The layers got biases ({found[0]}: true in config.json), because the adapter has some.")


def _misfit(name: str, there: tuple[int, ...], wanted: tuple[int, ...]) -> ModelError:
    return ModelError(f"{name} is {list(there)} in the base and {list(wanted)} in the adapter")
