"""How far a start has come, from lines that vLLM 0.32 printed."""

from __future__ import annotations

import pytest

from studio.serving.progress import ADAPTERS, PHASES, READY, STAND_IN_PHASES, Progress

LOG = {
    "starting the engine process": "(APIServer pid=2) INFO 11-22 01:52:20 [api_utils.py:286] non-default args: {}",
    "starting the worker process": "(EngineCore pid=3) INFO 11-22 01:52:24 [core.py:133] Initializing a V1 LLM engine",
    "loading the weights": "(Worker pid=4) INFO 11-22 01:52:41 [cpu_model_runner.py:68] Starting to load model /m...",
    "compiling and warming up": "(Worker pid=4) INFO 11-22 01:52:42 [default_loader.py:501] Loading weights took 0.03 "
    "seconds",
    "reserving the KV cache": "(EngineCore pid=3) INFO 11-22 01:52:43 [kv_cache_utils.py:1720] CPU KV cache size: "
    "21,845 tokens, Maximum concurrency for 512 tokens per request: 42.67x",
    "opening the HTTP interface": "(EngineCore pid=3) INFO 11-22 01:52:43 [core.py:402] init engine (profile, create "
    "kv cache, warmup model) took 0.07 s",
}
BEGINS = ["process", "process", "weights", "compile", "KV cache", "KV cache"]
SHARDS = "Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:00<00:00, 44.52it/s]"


def test_the_log_leads_through_the_phases() -> None:
    progress = Progress()
    for (message, line), phase in zip(LOG.items(), BEGINS, strict=True):
        progress.read(line)
        assert (progress.phase.name, progress.message) == (phase, message)
    progress.enter(ADAPTERS)
    progress.enter(READY)
    assert list(progress.seconds) == [phase.name for phase in PHASES[:-1]]
    assert progress.eta_s() == 0


def test_a_phase_that_says_nothing_took_no_time() -> None:
    progress = Progress()
    progress.read(LOG["compiling and warming up"])
    assert progress.seconds["weights"] == 0
    progress.enter(ADAPTERS)
    assert progress.seconds["KV cache"] == 0


def test_the_stand_in_has_fewer_phases() -> None:
    progress = Progress(phases=STAND_IN_PHASES)
    for line in ("phase: process", "phase: weights", "phase: ready"):
        progress.read(line)
    assert progress.phase.name == "weights"
    progress.enter(ADAPTERS)
    assert list(progress.seconds) == ["process", "weights"]


def test_what_a_server_prints_of_answers_moves_nothing() -> None:
    progress = Progress()
    progress.enter(READY)
    progress.read(SHARDS)
    assert progress.message == "ready"


def test_no_line_leads_back() -> None:
    progress = Progress()
    progress.read(LOG["compiling and warming up"])
    progress.read(LOG["starting the engine process"])
    assert progress.phase.name == "compile"


def test_weights_are_counted() -> None:
    progress = Progress()
    progress.read(LOG["loading the weights"])
    progress.read(SHARDS)
    assert progress.message == "loading the weights: 50%"


def test_an_earlier_start_tells_the_time_that_is_left() -> None:
    earlier = {phase.name: 10.0 for phase in PHASES[:-1]}
    progress = Progress(earlier)
    assert progress.eta_s() == pytest.approx(10.0 * (len(PHASES) - 1), abs=1)
    progress.read(LOG["compiling and warming up"])
    assert progress.eta_s() == pytest.approx(30.0, abs=1)


def test_status_counts_phases() -> None:
    status = Progress(index=2).to_json()
    assert (status["step"], status["total_steps"], status["phase"]) == (2, len(PHASES) - 1, "compile")
    assert status["eta_s"] > 0


def test_status_names_every_phase_and_what_it_took() -> None:
    progress = Progress({"process": 20.0})
    progress.read(LOG["loading the weights"])
    first, second, *_ = progress.to_json()["phases"]
    assert first == {"name": "process", "seconds": progress.seconds["process"], "usual_s": 20.0}
    assert (second["name"], second["seconds"]) == ("weights", None)
