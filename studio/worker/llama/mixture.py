"""Which type each tensor of a file gets: llama.cpp's own rules (llama-quant.cpp, MIT), so that "Q4_K_M" means the same.

A mixture gives more bits to what suffers most: the value projections, ffn_down in the first, last and some layers
between, and the output. Nothing here computes; sizes are those of ggml, a tensor's `columns` its contiguous rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

DEFAULTS: Mapping[str, str] = {
    "q8_0": "Q8_0", "q6_k": "Q6_K", "q5_k_m": "Q5_K", "q5_k_s": "Q5_K", "q4_k_m": "Q4_K", "q4_k_s": "Q4_K",
    "q3_k_l": "Q3_K", "q3_k_m": "Q3_K", "q3_k_s": "Q3_K", "q2_k": "Q2_K", "q5_1": "Q5_1", "q5_0": "Q5_0",
    "q4_1": "Q4_1", "q4_0": "Q4_0",
}  # fmt: skip
# rows that do not divide into blocks of 256 take the next type with blocks of 32
FALLBACKS = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
NEVER = (
    *("_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel", "per_layer_model_proj"),
    *("ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight", "attn_rel_b.weight"),
    *(f"time_mix_{part}.weight" for part in ("first", "w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2", "g1")),
    *(f"time_mix_{part}.weight" for part in ("g2", "decay_w1", "decay_w2", "lerp_fused")),
    *(".position_embd", ".rel_pos", ".patch_embd", ".patch_merger"),
)
WHOLE = ("position_embd.weight", "token_types.weight")
EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
VALUES = ("attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight")
PARTS = (*VALUES, "attn_k.weight", "attn_output.weight", "ffn_down")
BLOCK = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True)
class Shape:
    """A tensor of the file: `dimensions` counts those longer than one, `type` is what it is stored in."""

    name: str
    columns: int
    dimensions: int
    type: str


@dataclass(frozen=True)
class Architecture:
    """What the rules ask of a model. `sharing` is how many heads share one of keys and values, 0 where none do."""

    name: str
    layers: int
    experts: int
    sharing: int

    @property
    def is_large_shared(self) -> bool:
        """The 70 B models of Llama and Qwen 2: 80 layers whose values are an eighth of the size of the queries."""
        return self.layers == 80 and self.name in ("llama", "qwen2") and self.sharing != 1


def choose(shapes: Iterable[Shape], model: Architecture, outtype: str) -> dict[str, str]:
    """Tensor name -> ggml type, in the order in which llama.cpp goes through them."""
    ordered = sorted(shapes, key=lambda shape: (_layer(shape.name), shape.name))
    return dict(_Chooser(ordered, model, outtype))


def _layer(name: str) -> int:
    found = BLOCK.match(name)
    return int(found[1]) if found else -1


def _is_quantised(shape: Shape) -> bool:
    if shape.dimensions < 2 or not shape.name.endswith("weight") or shape.name in WHOLE:
        return False
    return not any(part in shape.name for part in NEVER)


def _part(name: str) -> str:
    return next((part for part in PARTS if part in name), "")


def _has_more_bits(index: int, count: int) -> bool:
    return index < count // 8 or index >= 7 * count // 8 or (index - count // 8) % 3 == 2


class _Chooser:
    """Goes through the tensors, counting the layers as it meets them."""

    def __init__(self, shapes: list[Shape], model: Architecture, outtype: str) -> None:
        self.shapes, self.model, self.outtype = shapes, model, outtype
        self.default = DEFAULTS[outtype]
        self.is_tied = all(shape.name != "output.weight" for shape in shapes)
        self.values = sum(_part(shape.name) in VALUES for shape in shapes)
        self.values_met = self.downs_met = 0

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for shape in self.shapes:
            yield shape.name, self._fitting(shape, self._wanted(shape)) if _is_quantised(shape) else shape.type

    def _fitting(self, shape: Shape, wanted: str) -> str:
        """`wanted`, or a type whose blocks the rows of the tensor divide into."""
        if shape.columns % _block(wanted) == 0:
            return wanted
        smaller = FALLBACKS.get(wanted, wanted)
        return smaller if shape.columns % _block(smaller) == 0 else "F16"

    def _wanted(self, shape: Shape) -> str:
        if shape.name == "output.weight" or (self.is_tied and shape.name in EMBEDDINGS):
            return self._output(shape)
        part = _part(shape.name)
        if shape.name in EMBEDDINGS or not part:
            return self.default
        if part in VALUES:
            return self._value()
        if part == "ffn_down":
            return self._down(shape)
        if part == "attn_k.weight":
            return "Q8_0" if self.model.experts == 8 else self.default
        return self._attention_output()

    def _output(self, shape: Shape) -> str:
        if self.model.name == "falcon" or shape.columns % _block(self.default):
            return "Q8_0"
        return "Q8_0" if self.default == "Q8_0" else "Q6_K"

    def _value(self) -> str:
        met, self.values_met = self.values_met, self.values_met + 1
        if self.model.experts == 8:
            return "Q8_0"
        chosen = self._value_by_type(met)
        return "Q5_K" if self.model.is_large_shared and chosen in ("Q3_K", "Q4_K") else chosen

    def _value_by_type(self, met: int) -> str:
        if self.outtype in ("q4_k_m", "q5_k_m"):
            return "Q6_K" if _has_more_bits(met, self.values) else self.default
        return {
            "q2_k": "Q4_K" if self.model.sharing >= 4 else "Q3_K",
            "q3_k_m": "Q5_K" if met < 2 else "Q4_K",
            "q3_k_l": "Q5_K",
            "q4_k_s": "Q5_K" if met < 4 else "Q4_K",
        }.get(self.outtype, self.default)

    def _down(self, shape: Shape) -> str:
        met, self.downs_met = self.downs_met, self.downs_met + 1
        layer = _layer(shape.name) if self.model.experts > 1 else met  # experts come in no order
        if self.model.name == "falcon":
            return self._falcon_down(layer)
        early, count = self.outtype, self.model.layers
        return {
            "q2_k": "Q3_K",
            "q3_k_m": "Q5_K" if layer < count // 16 else "Q4_K",
            "q3_k_l": "Q5_K",
            "q4_k_m": "Q6_K" if _has_more_bits(layer, count) else "Q4_K",
            "q5_k_m": "Q6_K" if _has_more_bits(layer, count) else "Q5_K",
            "q4_k_s": "Q5_K" if layer < count // 8 else "Q4_K",
        }.get(early, self.default)

    def _falcon_down(self, layer: int) -> str:
        count = self.model.layers
        more = _has_more_bits(layer, count)
        return {
            "q2_k": "Q3_K",
            "q3_k_m": "Q5_K" if layer < count // 16 else "Q4_K" if more else "Q3_K",
            "q3_k_l": "Q4_K",
            "q4_k_m": "Q6_K" if layer < count // 16 else "Q5_K" if more else "Q4_K",
            "q5_k_m": "Q6_K" if more else "Q5_K",
        }.get(self.outtype, self.default)

    def _attention_output(self) -> str:
        if self.model.name == "falcon":
            return "Q4_K" if self.outtype == "q3_k_l" else self.default
        if self.model.experts == 8:
            more = ("q2_k", "q3_k_s", "q3_k_m", "q4_k_s", "q4_k_m")
            return "Q5_K" if self.outtype in more else self.default
        return {"q2_k": "Q3_K", "q3_k_m": "Q4_K", "q3_k_l": "Q5_K"}.get(self.outtype, self.default)


def _block(type_name: str) -> int:
    return 256 if type_name.endswith("_K") else 32
