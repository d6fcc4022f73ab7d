"""python -m studio.worker.stand_in --config FILE

FILE has vLLM's keys: model, served-model-name, host, port, dtype, max-model-len, max-num-seqs, trust-remote-code,
chat-template (a file). The key is VLLM_API_KEY of the environment. Lines `phase: NAME` mark the phases of the start.
SIGTERM and SIGINT end the answers under way, then the process. A failure's last line is `Kind: sentence`, its code 1.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import yaml

from studio import models
from studio.errors import SeedbedError, ServingError
from studio.files import read_record
from studio.runs import process
from studio.worker import imports
from studio.worker.door import leave


def main(path: Path) -> None:
    """Serve until told to end."""
    print("phase: process", flush=True)
    process.die_with_parent()
    options = yaml.safe_load(path.read_text())
    api_key = os.environ.get("VLLM_API_KEY")
    if not api_key:
        raise ServingError("VLLM_API_KEY is not set: the server does not answer without a key")
    listener = _listen(options["host"], options["port"])  # before a minute is spent on weights
    imports.trim(_quantised_by(options["model"]))
    from studio.worker.stand_in import loading, routes

    imports.settle()
    print("phase: weights", flush=True)
    desk = loading.load(options)
    print("phase: ready", flush=True)
    routes.run(routes.build(desk, api_key), desk.generation, listener)


def _quantised_by(model: str) -> list[str]:
    """The package that the weights of a checkpoint are packed by, where it is one that is left out otherwise."""
    folder = models.folder_of(model)
    stored = read_record(folder / "config.json").get("quantization_config") if folder else None
    return [str(stored.get("quant_method"))] if isinstance(stored, dict) else []


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


if __name__ == "__main__":
    try:
        main(Path(sys.argv[sys.argv.index("--config") + 1]))
    except (SeedbedError, OSError) as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        leave(1)
