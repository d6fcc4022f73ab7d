"""The stand-in's answers on a CUDA device: in turns as alone, base and adapter, and a seed repeats them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from peft import LoraConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from studio.worker.stand_in import adapters
from studio.worker.stand_in.generation import Generation
from studio.worker.stand_in.sampling import Sampling
from tests.worker.stand_in.conftest import greedy, make_adapter, model, model_dir, tokenizer
from tests.worker.stand_in.test_generation import collect, task, tokens

__all__ = ["model", "model_dir", "tokenizer"]
pytestmark = pytest.mark.gpu


def test_base_and_adapter_answer_as_alone(
    model: PreTrainedModel, model_dir: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    make_adapter(model_dir, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"), tmp_path)
    base = model.to("cuda")  # type: ignore[arg-type]
    models = [base, adapters.load(base, tmp_path)]
    assert {weight.device.type for each in models for weight in each.parameters()} == {"cuda"}
    generation = Generation(tokenizer, limit=4)
    answers = asyncio.run(collect(generation, [task(each) for each in models]))
    assert [tokens(answer) for answer in answers] == [greedy(each) for each in models]
    warm = [task(base, sampling=Sampling(temperature=1.5, seed=seed, logprobs=2)) for seed in (1, 2, 1)]
    first, other, again = (tokens(answer) for answer in asyncio.run(collect(generation, warm)))
    assert first == again != other
