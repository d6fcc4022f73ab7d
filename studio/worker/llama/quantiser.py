"""One GGUF file of floating point weights written again with smaller ones, tensor by tensor, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFValueType, GGUFWriter, Keys, LlamaFileType, ReaderTensor
from gguf.quants import quant_shape_to_byte_shape
from numpy.typing import NDArray

from studio.errors import ModelError
from studio.worker.llama import library, mixture
from studio.worker.llama.mixture import Architecture, Shape

Tell = Callable[[int, int], None]
SLAB = 4_000_000  # values that one thread takes at a time: 16 MB as float32
QUANTISATION_VERSION = 2  # of ggml's blocks, since 2023


def quantise(source: Path, target: Path, outtype: str, tell: Tell) -> None:
    """Write `source` as `target` with the types that llama.cpp gives to `outtype`. `tell(done, total)` in bytes read.

    Raises:
        ModelError: a weight is not a number.
    """
    reader = GGUFReader(source)
    types = mixture.choose(map(shape, reader.tensors), architecture(reader), outtype)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    writer = GGUFWriter(target, str(_value(reader, Keys.General.ARCHITECTURE)))
    _copy_facts(reader, writer, outtype)
    for name, wanted in types.items():
        _announce(writer, tensors[name], Type[wanted])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    total, done = sum(int(tensor.n_bytes) for tensor in reader.tensors), 0
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name, wanted in types.items():
            writer.write_tensor_data(_written(tensors[name], Type[wanted], pool))
            done += int(tensors[name].n_bytes)
            tell(done, total)
    writer.close()


def architecture(reader: GGUFReader) -> Architecture:
    """What the rules of a mixture ask of the model in a file."""
    name = str(_value(reader, Keys.General.ARCHITECTURE))
    heads, shared = (_number(reader, f"{name}.attention.head_count{end}") for end in ("", "_kv"))
    return Architecture(
        name=name,
        layers=_number(reader, f"{name}.block_count"),
        experts=_number(reader, f"{name}.expert_count"),
        sharing=heads // shared if shared else 1,
    )


def shape(tensor: ReaderTensor) -> Shape:
    """A tensor as the rules see it."""
    lengths = [int(length) for length in tensor.shape]
    dimensions = max((place for place, length in enumerate(lengths, start=1) if length > 1), default=1)
    return Shape(tensor.name, lengths[0], dimensions, tensor.tensor_type.name)


def _copy_facts(reader: GGUFReader, writer: GGUFWriter, outtype: str) -> None:
    """Everything that the file says of itself, but for how its weights are stored."""
    own = (Keys.General.ARCHITECTURE, Keys.General.FILE_TYPE, Keys.General.QUANTIZATION_VERSION)
    for field in reader.fields.values():
        if field.name in own or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        sub = field.types[-1] if kind is GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=sub)
    writer.add_file_type(LlamaFileType[f"MOSTLY_{outtype.upper()}"])
    writer.add_quantization_version(QUANTISATION_VERSION)


def _announce(writer: GGUFWriter, tensor: ReaderTensor, wanted: Type) -> None:
    lengths = [int(length) for length in reversed(tensor.shape)]
    stored = quant_shape_to_byte_shape(lengths, wanted)
    size = int(np.prod(stored, dtype=np.int64))
    writer.add_tensor_info(tensor.name, stored, np.dtype(np.uint8), size, raw_dtype=wanted)


def _written(tensor: ReaderTensor, wanted: Type, pool: Executor) -> NDArray[np.uint8]:
    """The bytes of a tensor in its new type."""
    if wanted == tensor.tensor_type:
        return tensor.data.view(np.uint8).reshape(-1)
    columns = int(tensor.shape[0])
    rows = tensor.data.reshape(-1, tensor.data.shape[-1])
    slabs = _slabs(rows, max(1, SLAB // columns))
    return np.concatenate(list(pool.map(lambda slab: _quantised(tensor, slab, wanted, columns), slabs)))


def _slabs(rows: NDArray[Any], count: int) -> Iterator[NDArray[Any]]:
    for start in range(0, len(rows), count):
        yield rows[start : start + count]


def _quantised(tensor: ReaderTensor, rows: NDArray[Any], wanted: Type, columns: int) -> NDArray[np.uint8]:
    lib, values = library.load(), np.ascontiguousarray(_float32(rows, tensor.tensor_type))
    made = np.empty(len(rows) * lib.ggml_row_size(wanted, columns), np.uint8)
    lib.ggml_quantize_chunk(wanted, values.ctypes.data, made.ctypes.data, 0, len(rows), columns, None)
    # ggml passes over a single NaN; a value too large for a block's half-precision scale shows only afterwards
    if not (np.isfinite(values).all() and lib.ggml_validate_row_data(wanted, made.ctypes.data, made.nbytes)):
        raise ModelError(f"{tensor.name} holds values that are not numbers, or too large: the model is damaged")
    return made


def _float32(rows: NDArray[Any], stored: Type) -> NDArray[np.float32]:
    """bfloat16, which numpy does not know and the reader hands over as bytes, is the upper half of a float32."""
    if stored is Type.BF16:
        return (rows.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return rows.astype(np.float32)


def _value(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _number(reader: GGUFReader, key: str) -> int:
    """An entry, of a list that has one for each layer the largest; 0 where there is none."""
    value = _value(reader, key) or 0
    return max(value) if isinstance(value, list) else int(value)
