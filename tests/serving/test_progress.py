"""How far a start has come, from lines that vLLM 0.32 printed."""

from __future__ import annotations

import pytest

from studio.serving.progress import PHASES, Progress

LOG = {
    "starting engine": "(APIServer pid=2) INFO 11-22 01:52:20 [api_utils.py:286] non-default args: {'host': 'x'}",
    "starting worker": "(EngineCore pid=3) INFO 11-22 01:52:24 [core.py:133] Initializing a V1 LLM engine (v0.32.0)",
    "loading weights": "(Worker pid=4) INFO 11-22 01:52:41 [cpu_model_runner.py:68] Starting to load model /m...",
    "warming up": "(Worker pid=4) INFO 11-22 01:52:42 [default_loader.py:501] Loading weights took 0.03 seconds",
    "opening": "(EngineCore pid=3) INFO 11-22 01:52:43 [core.py:402] init engine (profile, create kv cache, warmup "
    "model) took 0.07 s",
}
SHARDS = "Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:00<00:00, 44.52it/s]"


def test_the_log_leads_through_the_phases() -> None:
    progress = Progress()
    for name, line in LOG.items():
        progress.read(line)
        assert progress.phase.name == name
    progress.enter("checking")
    progress.enter("ready")
    assert list(progress.seconds) == [phase.name for phase in PHASES[:-1]]
    assert progress.eta_s() == 0


def test_no_line_leads_back() -> None:
    progress = Progress()
    progress.read(LOG["warming up"])
    progress.read(LOG["starting engine"])
    assert progress.phase.name == "warming up"


def test_weights_are_counted() -> None:
    progress = Progress()
    progress.read(LOG["loading weights"])
    progress.read(SHARDS)
    assert progress.message == "loading weights: 50%"


def test_an_earlier_start_tells_the_time_that_is_left() -> None:
    earlier = {phase.name: 10.0 for phase in PHASES[:-1]}
    progress = Progress(earlier)
    assert progress.eta_s() == pytest.approx(10.0 * (len(PHASES) - 1), abs=1)
    progress.read(LOG["warming up"])
    assert progress.eta_s() == pytest.approx(30.0, abs=1)


def test_status_counts_phases() -> None:
    status = Progress(index=2).to_json()
    assert (status["step"], status["total_steps"], status["phase"]) == (2, len(PHASES) - 1, "starting worker")
    assert status["eta_s"] > 0
