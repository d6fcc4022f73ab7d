"""Files of floats written again in smaller types: what ggml makes of them, and what gguf's own reader gets back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.quants import dequantize, quantize

from studio.errors import ModelError
from studio.worker.llama import quantiser

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((96, 256)).astype(np.float32)


def write(path: Path, weight: np.ndarray, stored: GGMLQuantizationType) -> Path:
    """A file of one layer's ffn_up, two facts and a norm."""
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_token_list(["a", "é", "▁b"])
    writer.add_tensor("blk.0.ffn_norm.weight", np.ones(256, np.float32))
    writer.add_tensor("blk.0.ffn_up.weight", quantize(weight, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def rewritten(tmp_path: Path, outtype: str, stored: GGMLQuantizationType = GGMLQuantizationType.F32) -> GGUFReader:
    source, target = write(tmp_path / "f.gguf", WEIGHT, stored), tmp_path / "q.gguf"
    quantiser.quantise(source, target, outtype, lambda done, total: None)
    return GGUFReader(target)


@pytest.mark.parametrize("outtype", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"])
def test_blocks_are_those_of_ggufs_own_quantiser(tmp_path: Path, outtype: str) -> None:
    tensor = rewritten(tmp_path, outtype).tensors[1]
    wanted = quantize(WEIGHT, GGMLQuantizationType[outtype.upper()])
    assert (tensor.data.reshape(wanted.shape) == wanted).mean() > 0.999  # a tie may round either way


@pytest.mark.parametrize(("outtype", "error"), [("q2_k", 0.4), ("q4_k_s", 0.09), ("q6_k", 0.03)])
def test_weights_come_back_within_what_a_type_costs(tmp_path: Path, outtype: str, error: float) -> None:
    tensor = rewritten(tmp_path, outtype, GGMLQuantizationType.BF16).tensors[1]
    back = dequantize(tensor.data, tensor.tensor_type).reshape(WEIGHT.shape)
    assert 0 < np.abs(back - WEIGHT).mean() < error


def test_facts_and_norms_stay(tmp_path: Path) -> None:
    reader = rewritten(tmp_path, "q4_k_m")
    facts = {name: field.contents() for name, field in reader.fields.items()}
    assert facts["tokenizer.ggml.tokens"] == ["a", "é", "▁b"]
    assert (facts["llama.block_count"], facts["general.file_type"]) == (1, 15)
    assert reader.tensors[0].tensor_type is GGMLQuantizationType.F32


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    source = write(tmp_path / "f.gguf", WEIGHT, GGMLQuantizationType.F32)
    quantiser.quantise(source, tmp_path / "q.gguf", "q8_0", lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == WEIGHT.nbytes + 1024


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    broken = WEIGHT.copy()
    broken[5, 7] = np.nan
    source = write(tmp_path / "f.gguf", broken, GGMLQuantizationType.F32)
    with pytest.raises(ModelError, match=r"ffn_up\.weight holds values that are not numbers"):
        quantiser.quantise(source, tmp_path / "q.gguf", "q8_0", lambda done, total: None)
