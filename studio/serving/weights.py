"""Whether an adapter's weights are numbers at all: those of a training that diverged are not.

vLLM on a CPU answers everybody with NaN once it has computed one, the base included, until it is started again. So
this is looked at before the server sees the adapter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from studio.models import ADAPTER_WEIGHTS, read_header

# safetensors' type -> unsigned integers of its size, and the bits of the exponent: all set in NaN and infinity
EXPONENTS = {
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F32": ("<u4", 0x7F80_0000),
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
}


def not_finite(adapter: Path) -> str | None:
    """The first tensor of an adapter that holds NaN or infinity; None where all are finite. Reads all of them.

    Raises:
        ModelError: its file is missing or damaged.
    """
    path = adapter / ADAPTER_WEIGHTS
    header = read_header(path)
    begin = path.stat().st_size - max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    for name, tensor in header.items():
        if tensor["dtype"] not in EXPONENTS:
            continue
        kind, exponent = EXPONENTS[tensor["dtype"]]
        start, end = tensor["data_offsets"]
        bits = np.fromfile(path, kind, (end - start) // np.dtype(kind).itemsize, offset=begin + start)
        if np.any((bits & exponent) == exponent):
            return str(name)
    return None
