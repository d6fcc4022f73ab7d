"""Why a server ended, from lines that vLLM really printed."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from studio.config.serve import ServeConfig
from studio.serving import command, diagnosis, installed
from studio.serving.child import Child
from tests.serving.conftest import apart

WORKER = "(Worker pid=27487) ERROR 11-22 01:50:58 [multiproc_executor.py:953] "
CORE = "(EngineCore pid=3) ERROR 11-22 01:50:58 [core.py:1750] "
API = "(APIServer pid=2) ERROR 11-22 01:50:58 [x.py:1] "
SHAPES = "RuntimeError: start (0) + length (1536) exceeds dimension size (768)."
USELESS = (
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}"
)
CACHE = (
    "ValueError: To serve at least one request with the model's max seq len (2048), (0.01 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (0.0 GiB). Based on the available memory, the estimated "
    "maximum model length is 128. Try increasing `gpu_memory_utilization` (which also controls CPU memory on the CPU "
    "backend)."
)
PIGEON = (
    "  Value error, The checkpoint you are trying to load has model type `pigeon` but Transformers does not recognize "
    "this architecture. This could be because of an issue with the checkpoint."
)


def test_the_workers_word_counts_most() -> None:
    lines = [CORE + "RuntimeError: Worker failed", WORKER + SHAPES, API + "KeyError: x", USELESS]
    assert diagnosis.root_cause(lines) == SHAPES


def test_the_engines_word_counts_before_the_servers() -> None:
    assert diagnosis.root_cause([API + "KeyError: x", CORE + "OSError: no room"]) == "OSError: no room"


def test_lines_that_only_point_elsewhere_are_no_cause() -> None:
    dead = "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above)."
    of_a_killed_worker = CORE + "RuntimeError: cancelled"
    assert diagnosis.root_cause([USELESS, of_a_killed_worker, API + dead, "all well", "RuntimeError: cancelled"]) == ""


def test_long_causes_end_at_a_sentence() -> None:
    cause = diagnosis.root_cause([CORE + CACHE])
    assert cause.endswith("the estimated maximum model length is 128.") or cause.endswith("(0.0 GiB).")
    assert len(cause) <= 300


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        (WORKER + SHAPES, "config.json"),
        (CORE + CACHE, "Raise kv_cache_memory"),
        (PIGEON, "does not know this kind of model"),
        (
            "  Value error, User-specified max_model_len (99999) is greater than the derived max_model_len",
            "Lower max_model",
        ),
        (WORKER + "safetensors_rust.SafetensorError: Error while deserializing header: header too large", "damaged"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'lscpu'", "util-linux"),
        (
            CORE
            + "ValueError: Free memory on device cuda:0 (38.38/79.18 GiB) on startup is less than desired GPU memory "
            "utilization (0.92, 72.84 GiB).",
            "gpu_memory_utilization",
        ),
        (
            "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot",
            "not on this machine",
        ),
        ("  Value error, Unknown quantization method: bitsandbytes. Must be one of [...]", "unquantised"),
        ("api_server.py: error: unrecognized arguments: --make-it-faster 3", "vllm_args"),
        ("SIGKILL", ""),
    ],
)
def test_known_causes_come_with_advice(line: str, advice: str) -> None:
    cause = diagnosis.root_cause([line])
    assert advice in diagnosis.hint(cause)
    assert bool(cause) == bool(advice)


def test_a_kill_by_the_kernel_is_answered_like_any_lack_of_memory() -> None:
    assert "lower kv_cache_memory" in diagnosis.hint(diagnosis.KERNEL_KILL)


def start_on(port: int, folder: Path) -> tuple[str, int | None]:
    """Start vLLM on a port, and what became of it: cause and exit code."""

    async def start() -> tuple[str, int | None]:
        config = ServeConfig(max_model_len=512, kv_cache_memory="64M")
        path = folder / "serve.yaml"
        path.write_text(command.to_yaml(command.options(config, port, installed.platform()[0])))
        child = await Child.start((*command.COMMAND, str(path)), command.environment(config, "k", "cpu", None), folder)
        await child.listen(lambda line: None)
        await child.end(politely=False)
        return diagnosis.root_cause(child.lines), child.code

    return asyncio.run(start())


@pytest.mark.vllm
def test_a_taken_port_is_named_by_the_real_server(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((command.HOST, 0))
        taken.listen()
        cause, code = apart(start_on, taken.getsockname()[1], tmp_path)
    assert code == 1
    assert "Address already in use" in cause
    assert "with another port" in diagnosis.hint(cause)
