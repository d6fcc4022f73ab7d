"""The types that tensors get, against those that llama.cpp's own quantiser gave the same tensors (mixtures.json)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.config.gguf import FLOATS, OUTTYPES
from studio.worker.llama.mixture import DEFAULTS, Architecture, Shape, choose

RECORDED = json.loads((Path(__file__).parent / "mixtures.json").read_text())


@pytest.mark.parametrize("outtype", sorted(DEFAULTS))
@pytest.mark.parametrize("name", sorted(RECORDED))
def test_types_are_those_of_llama_cpp(name: str, outtype: str) -> None:
    record = RECORDED[name]
    shapes = [Shape(*tensor) for tensor in record["tensors"]]
    wanted = dict(zip((shape.name for shape in shapes), record["types"][outtype].split(), strict=True))
    chosen = choose(reversed(shapes), Architecture(**record["model"]), outtype)
    assert {tensor: (chosen[tensor], wanted[tensor]) for tensor in wanted if chosen[tensor] != wanted[tensor]} == {}
    assert list(chosen) == list(wanted)


def test_every_type_that_is_no_float_has_a_rule() -> None:
    assert {*DEFAULTS, *FLOATS} == set(OUTTYPES)


def test_values_of_large_models_that_share_them_get_more_bits() -> None:
    shape = [Shape("blk.40.attn_v.weight", 8192, 2, "BF16")]
    assert choose(shape, Architecture("llama", 80, 0, 8), "q3_k_s") == {"blk.40.attn_v.weight": "Q5_K"}
    assert choose(shape, Architecture("llama", 80, 0, 1), "q3_k_s") == {"blk.40.attn_v.weight": "Q3_K"}
    assert choose(shape, Architecture("llama", 32, 0, 8), "q3_k_s") == {"blk.40.attn_v.weight": "Q3_K"}


def test_rows_that_fit_no_block_stay_halves() -> None:
    assert choose([Shape("blk.0.ffn_up.weight", 40, 2, "F32")], Architecture("llama", 1, 0, 1), "q4_k_m") == {
        "blk.0.ffn_up.weight": "F16"
    }
