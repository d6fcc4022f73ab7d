"""What the studio made, answered by vLLM and measured in a server."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from studio import machine
from studio.runs import process
from studio.runs.store import Store
from studio.serving import servers
from studio.worker.quantizing import speed
from studio.worker.quantizing.speed import measure
from studio.worker.stop import Requests
from tests.serving.conftest import SMALL, ask, wait_gone, wait_ready
from tests.worker.conftest import Finished
from tests.worker.quantizing.conftest import ROWS


@pytest.mark.vllm
def test_a_calibrated_checkpoint_is_answered_by_who_can(made: dict[str, Finished], tmp_path: Path) -> None:
    model = made["calibrated"].run_dir / "model"
    run = servers.start(Store(tmp_path / "saves"), str(model), **SMALL)
    try:
        endpoint = wait_ready(run)
        assert endpoint.backend == ("huggingface" if machine.lacks_avx512() else "vllm")
        name = next(each.name for each in endpoint.served if each.is_base)
        right = [ask(endpoint.server, name, row["instruction"])[0] == row["output"] for row in ROWS[::4]]
        assert sum(right) > 0.9 * len(right)
    finally:
        run.stop_now()
        wait_gone(run, 10)


def test_a_server_is_measured_alone_and_with_eight_clients(tiny_model: Path, tmp_path: Path) -> None:
    told: list[str] = []
    requests = Requests(tmp_path, last_words=lambda: None)
    requests.protect()
    found = measure(tiny_model, "huggingface", tmp_path / "speed", requests, told.append)
    assert found.failed == ""
    assert {clients: each.requests for clients, each in found.measured.items()} == {1: 2, 8: 16}
    assert all(each.tokens_per_s > 0 and each.ttft_p50_ms > 0 for each in found.measured.values())
    assert any("8 clients" in message for message in told)
    assert servers_below(tmp_path) == []


def test_a_stop_ends_the_server_that_is_measured(tiny_model: Path, tmp_path: Path) -> None:
    requests = Requests(tmp_path, last_words=lambda: None)
    requests.protect()
    asked: list[float] = []

    def stop() -> None:
        while not servers_below(tmp_path):
            time.sleep(0.05)
        asked.append(time.monotonic())
        (tmp_path / "STOP").touch()

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(speed.Stopped):
        measure(tiny_model, "huggingface", tmp_path / "speed", requests, lambda message: None)
    assert time.monotonic() - asked[0] < 2 + 10  # a server has ten seconds to go before it is killed
    assert servers_below(tmp_path) == []


def servers_below(folder: Path) -> list[int]:
    """The processes of the servers that were started below `folder`."""
    runs = (path.parent for path in folder.glob("speed/servers/*/config.yaml"))
    return [member.pid for run in runs for member in process.of_run(run)]
