"""The worker of a quantisation: python -m studio.worker.quantize RUN_DIR

Only what is light is imported here; the work itself is in studio.worker.quantizing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from studio import packages
from studio.config.load import load_run_config
from studio.config.quantize import QuantizeConfig
from studio.worker import imports
from studio.worker.door import Desk, leave, serve


def main(run_dir: Path) -> int:
    """Quantise as config.yaml in `run_dir` says. Returns 0 when completed, 10 when stopped as asked, 1 when failed."""
    return serve(run_dir, _work)


def _work(desk: Desk) -> bool:
    config = load_run_config(desk.run_dir / "config.yaml")
    assert isinstance(config, QuantizeConfig)
    desk.reporter.phase("starting", "loading libraries")
    sys.path.insert(0, str(packages.OVERLAY))  # before anything imports the environment's compressed-tensors
    by_bitsandbytes = config.export_quantization_method == "bitsandbytes"
    imports.trim({"bitsandbytes"} if by_bitsandbytes else ())
    with _devices(config.export_device):
        from studio.worker.quantizing import flow

        if not by_bitsandbytes:
            import_module("studio.worker.quantizing.recipes")  # llmcompressor, which comes late otherwise
        imports.settle()
        found = flow.quantise(desk, config)
    return flow.conclude(desk, config, found)


@contextmanager
def _devices(wanted: str) -> Iterator[None]:
    """llmcompressor takes a GPU wherever it sees one; a server that is started afterwards may have it."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    yield
    if wanted == "cpu":
        os.environ.pop("CUDA_VISIBLE_DEVICES")
        os.environ.update({} if seen is None else {"CUDA_VISIBLE_DEVICES": seen})


if __name__ == "__main__":
    leave(main(Path(sys.argv[1]).resolve()))
