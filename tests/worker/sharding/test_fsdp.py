"""FSDP2 on two processes: its checkpoints fit any number of processes and one, and what it cannot train is refused.

That it trains as one process does is tried beside the other strategies, in tests/worker/test_strategies.py."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from studio.errors import ParallelError
from studio.worker.sharding import fsdp
from tests.worker.conftest import Finished, Start, Train, register

CLOSE = 1e-5
FULL = {"finetuning_type": "full"}
AVERAGED = {**FULL, "optim": "schedule_free_adamw", "lr_scheduler_type": "constant"}
STEPS: dict[str, Any] = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "save_steps": 3}


@pytest.fixture
def shard(start: Start, tmp_path: Path) -> Any:
    """Train in parts, and hand back the run."""

    def _shard(name: str, processes: int = 2, **keys: Any) -> Finished:
        keys = {**STEPS, "per_device_train_batch_size": 2 // processes, **keys}
        (tmp_path / name).mkdir(exist_ok=True)
        worker = start("launch", tmp_path / name, parallel_strategy="fsdp2", nproc_per_node=processes, **keys)
        assert worker.wait() == 0, worker.log
        return worker

    return _shard


def hand_over(run: Finished, name: str) -> dict[str, str]:
    """Make a run that goes on from step 3 of `run`; the key that says so."""
    folder = "checkpoints/checkpoint-3"
    shutil.copytree(run.run_dir / folder, run.run_dir.parent / name / folder)
    return {"resume_from_checkpoint": folder}


def apart(left: Finished, right: Finished) -> float:
    """How far the losses of two runs are from each other from step 4 on."""
    assert set(range(4, 7)) <= left.losses.keys() & right.losses.keys()
    return max(abs(left.losses[step] - right.losses[step]) for step in range(4, 7))


def test_goes_on_with_any_number_of_processes(shard: Any, train: Train) -> None:
    run = shard("run", **FULL)
    again = shard("again", **FULL, **hand_over(run, "again"))
    assert apart(run, again) == 0
    for left, right in zip(outputs(run), outputs(again), strict=True):
        assert torch.equal(left, right)
    assert apart(run, shard("alone", 1, **FULL, **hand_over(run, "alone"))) < CLOSE
    assert apart(run, train("single", **STEPS, **FULL, **hand_over(run, "single"))) < CLOSE


@pytest.mark.parametrize("keys", [{}, FULL], ids=["lora", "full"])
def test_goes_on_from_one_process(shard: Any, train: Train, keys: dict[str, Any]) -> None:
    run = train("run", **STEPS, **keys)
    assert apart(run, shard("again", **keys, **hand_over(run, "again"))) < CLOSE


def test_goes_on_with_averaged_weights(shard: Any) -> None:
    run = shard("run", **AVERAGED)
    assert apart(run, shard("again", **AVERAGED, **hand_over(run, "again"))) == 0


def test_experts_go_on(shard: Any, train: Train, tmp_path: Path, tokenizer_dir: Path) -> None:
    """Files hold each expert by itself, and the model all of them in one weight."""
    torch.manual_seed(0)
    shape = Qwen3MoeConfig(
        vocab_size=320, hidden_size=32, moe_intermediate_size=16, num_experts=4, num_experts_per_tok=2, head_dim=8,
        num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    Qwen3MoeForCausalLM(shape).save_pretrained(tmp_path / "experts")
    shutil.copytree(tokenizer_dir, tmp_path / "experts", dirs_exist_ok=True)
    keys = {**FULL, "model_name_or_path": str(tmp_path / "experts")}
    run = train("run", **STEPS, **keys)
    assert apart(run, train("single", **STEPS, **keys, **hand_over(run, "single"))) == 0
    assert apart(run, shard("parts", **keys, **hand_over(run, "parts"))) < CLOSE


def outputs(run: Finished) -> list[torch.Tensor]:
    return list(load_file(run.run_dir / "model/model.safetensors").values())


def test_the_best_adapter_is_kept_and_answers_are_looked_at(shard: Any, train: Train) -> None:
    best = {"eval_dataset": ["demo"], "eval_steps": 3, "load_best_model_at_end": True}
    # so slow that no more tokens are right after step 6 than after step 3
    slow = {"metric_for_best_model": "token_accuracy", "learning_rate": 1e-6, "save_total_limit": 9}
    keys = {**best, **slow, "sample_prompts": "What is 3 plus one?", "sample_steps": 99}
    run, expected = (make("run" + make.__name__, **STEPS, **keys) for make in (shard, train))
    assert run.json("result.json")["best_step"] == expected.json("result.json")["best_step"] == 3
    name = "adapter_model.safetensors"
    left, kept = (load_file(run.run_dir / folder / name) for folder in ("adapter", "checkpoints/checkpoint-3"))
    assert all(torch.equal(left[key], kept[key]) for key in kept)
    last = load_file(run.run_dir / "checkpoints/checkpoint-6" / name)
    assert not all(torch.equal(left[key], last[key]) for key in last)
    assert [each["step"] for each in run.events("sample")] == [each["step"] for each in expected.events("sample")]
    first = [each.events("sample")[0]["answer"] for each in (run, expected)]
    assert first[0] == first[1]


def test_the_reference_model_is_in_parts_too(shard: Any, train: Train, data_dir: Path) -> None:
    words = [
        {"instruction": f"What is {n} plus one?", "input": "", "chosen": f"{n + 1}.", "rejected": "No."}
        for n in range(24)
    ]
    register(data_dir, demo=words)
    path = data_dir / "dataset_info.json"
    path.write_text(path.read_text().replace('"demo.json"', '"demo.json", "ranking": true'))
    keys = {**FULL, "stage": "dpo"}
    assert apart(shard("run", **keys), train("single", **STEPS, **keys)) < CLOSE


def test_ends_beside_an_adapter_and_what_is_no_weight_are_refused(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    adapter = LoraConfig(target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [5]})
    fsdp.check_model(get_peft_model(model, LoraConfig(target_modules=["q_proj"])))
    with pytest.raises(ParallelError, match="embeddings, an output head or new tokens beside an adapter"):
        fsdp.check_model(get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), adapter))
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.register_buffer("scale", torch.ones(1))
    with pytest.raises(ParallelError, match="cannot deal out scale, which LlamaForCausalLM stores beside"):
        fsdp.check_model(model)


class Small(nn.Module):
    """A body with a head, as TRL looks at one."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm, self.head = nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 8)

    def get_output_embeddings(self) -> nn.Module:
        return self.head


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A group of this process alone."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_what_came_out_in_another_way_is_refused() -> None:
    def begin(model: nn.Module) -> None:
        fsdp.Sharded().on_train_begin(None, None, None, model)

    model = Small()
    with pytest.raises(ParallelError, match=r"fsdp2 left body\.weight whole"):
        begin(model)
    fully_shard([model.norm, model.head])
    fully_shard(model)
    begin(model)
    model = Small()
    fully_shard(model.head)
    fully_shard(model)
    with pytest.raises(ParallelError, match="does not find the last norm of"):
        begin(model)
    model.head.requires_grad_(False)
    begin(model)
