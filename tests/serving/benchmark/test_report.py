"""What the report says beside the figures."""

import pytest

from studio.config.bench import BenchConfig
from studio.machine import Gpu
from studio.serving.benchmark.demand import Demand
from studio.serving.benchmark.figures import Answer, measured, rows
from studio.serving.benchmark.report import machine, text
from studio.serving.benchmark.workload import Case


@pytest.mark.parametrize(
    ("variant", "gpu_gb", "told"), [("int8", None, True), ("int8", 1.5, False), ("vllm", None, False)]
)
def test_that_int8_goes_without_adapters_on_a_cpu_is_told(variant: str, gpu_gb: float | None, told: bool) -> None:
    found = measured(variant, Case(1, 12, 6), [Answer(0, 1, 2, 6)], Demand(1, gpu_gb, 0))
    report = text(BenchConfig(), rows([found]), {})
    assert ("takes no adapters beside it" in report) is told


@pytest.mark.parametrize(("platform", "named"), [("cuda", True), ("cpu", False)])
def test_the_gpu_is_named_where_the_servers_run_on_it(
    monkeypatch: pytest.MonkeyPatch, platform: str, named: bool
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("studio.machine.gpus", lambda: iter([Gpu(0, "NVIDIA H100 80GB HBM3", 80 * 10**9, 0, 0)]))
    monkeypatch.setattr("studio.serving.installed.platform", lambda: (platform, "0.32"))
    assert machine().startswith("NVIDIA H100 80GB HBM3, 80 GB; ") is named
    assert "cores" in machine()
