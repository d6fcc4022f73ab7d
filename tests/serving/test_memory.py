"""Memory looked at before a start: what is told, and that nothing was started."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.config.serve import ServeConfig
from studio.errors import ServingError
from studio.machine import GB, Gpu
from studio.runs import launchers
from studio.runs.store import Store
from studio.serving import memory
from tests.serving.conftest import wait_until

H100 = Gpu(0, "NVIDIA H100", int(80 * GB), int(30 * GB), 0)


def test_what_a_server_takes_on_a_cpu() -> None:
    found = memory.need(ServeConfig(kv_cache_memory="1G"))
    assert found.cache == pytest.approx(1.074, abs=0.001)
    assert found.total == pytest.approx(found.processes + found.weights + found.cache)
    wide = memory.need(ServeConfig(dtype="float32"))
    assert wide.weights > 1.9 * found.weights  # stored in 16 bits
    two = memory.need(ServeConfig(kv_cache_memory="1G", tensor_parallel_size=2))
    assert two.cache == 2 * found.cache
    assert memory.need(ServeConfig(infer_backend="huggingface")).total < 1.0


def test_a_model_without_weights_of_our_kind_is_left_to_the_server(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert memory.need(ServeConfig(model_name_or_path=str(tmp_path))).weights == 0


def test_a_cache_that_does_not_fit_is_answered_with_one_that_does() -> None:
    said = memory.cpu_shortage(ServeConfig(kv_cache_memory="8G"), free_gb=4.0)
    assert said
    assert "4.0 GB of memory are free: lower kv_cache_memory (now 8G) to" in said
    fitting = said.rpartition(" to ")[2].split()[0]
    assert memory.cpu_shortage(ServeConfig(kv_cache_memory=fitting), free_gb=4.0) is None


def test_a_model_that_does_not_fit_at_all() -> None:
    said = memory.cpu_shortage(ServeConfig(), free_gb=1.0)
    assert said
    assert said.endswith("choose a smaller model")


def test_a_share_of_a_gpu_that_is_taken_is_answered_with_one_that_is_free() -> None:
    said = memory.gpu_shortage(ServeConfig(), [H100])
    assert said
    assert "takes 85% of GPU 0, 68.0 GB, and 50.0 GB are free: lower gpu_memory_utilization to 0.60" in said
    assert memory.gpu_shortage(ServeConfig(gpu_memory_utilization=0.6), [H100]) is None


def test_a_start_that_cannot_fit_fails_before_anything_is_spawned(tmp_path: Path) -> None:
    store = Store(tmp_path / "saves")
    run = launchers.begin(store, ServeConfig(kv_cache_memory="9000G"))
    wait_until(lambda: run.exit, 30)
    assert run.error["kind"] == ServingError.__name__
    assert "lower kv_cache_memory (now 9000G)" in run.reason
    assert not (run.path / "serve.yaml").exists()


def test_who_holds_the_memory_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path / "saves")
    holder = launchers.begin(store, ServeConfig(infer_backend="huggingface"))
    wait_until(lambda: holder.status.get("phase"), 30)
    run = launchers.begin(store, ServeConfig(kv_cache_memory="9000G"))
    wait_until(lambda: run.exit, 30)
    holder.stop_now()
    wait_until(lambda: holder.exit, 30)
    assert f"or stop the server {holder.id} (" in run.reason
