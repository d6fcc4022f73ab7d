"""Quantised checkpoints made on a CUDA device; one of them served by vLLM, before and after."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.conftest import Finished
from tests.worker.quantizing.conftest import quantise, sums

__all__ = ["quantise", "sums"]
pytestmark = [pytest.mark.gpu, pytest.mark.vllm]
SEEDLING = {"model_name_or_path": "seedling", "group_size": 64, "export_quantization_nsamples": 60}
METHODS = ("awq", "int8", "fp8", "rtn", "bitsandbytes")


@pytest.mark.timeout(600)
def test_every_method_works_there_and_the_result_is_served(quantise, sums: Path) -> None:
    others = {method: {**SEEDLING, "export_quantization_method": method} for method in METHODS}
    made: dict[str, Finished] = quantise(gptq={**SEEDLING, "measure_speed": True}, **others)
    for name, run in made.items():
        assert (run.run_dir / "code").read_text() == "0", (name, run.json("error.json"))
        print((run.run_dir / "report.md").read_text())
        assert run.json("result.json")["perplexity"] < 1.5 * run.json("result.json")["perplexity_before"]
    facts = made["gptq"].json("report.json")["facts"]
    assert facts["server"] == "vllm"
    assert [each["speed"]["failed"] for each in (facts["before"], facts["after"])] == ["", ""]
    assert set(facts["after"]["speed"]["measured"]) == {"1", "8"}
