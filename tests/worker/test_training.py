"""What is computed: rows that share a sequence must not notice, and a resumed run must not either."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from studio.config.load import load_run_config
from studio.config.train import TrainConfig
from studio.datasets.masking import Masking
from studio.datasets.registry import Registry
from studio.errors import DatasetError, ModelError, NotResumable
from studio.worker.divergence import EXPLODED_LOGS, Diverged
from studio.worker.encode import IGNORED, Encoded
from studio.worker.needs import own_machine
from studio.worker.pool import Tokens
from studio.worker.prepared import Figures, Recipe
from studio.worker.rows import Part, Source
from studio.worker.stages import supervised
from studio.worker.stages.supervised import keeps_rows_apart
from tests.worker.conftest import Finished, Train, register, train_here, write_config

BREAKING = {
    "finetuning_type": "full",
    "learning_rate": 1.0,
    "lr_scheduler_type": "constant",
    "optim": "sgd",
    "max_grad_norm": 1e30,
    "max_steps": 60,
}
WHOLE = {"max_steps": 1, "save_steps": 0, "bf16": False}


def hand_over(run: Finished, step: int) -> Path:
    """Move a checkpoint to the run directory `resumed` beside `run`, as the studio does with links."""
    target = run.run_dir.parent / "resumed"
    (target / "checkpoints").mkdir(parents=True)
    (run.run_dir / f"checkpoints/checkpoint-{step}").rename(target / f"checkpoints/checkpoint-{step}")
    return target


def encoded(run_dir: Path, model: Path) -> list[Encoded]:
    """The rows that the training of a run directory sees, made anew."""
    config = load_run_config(run_dir / "config.yaml")
    assert isinstance(config, TrainConfig)
    registry = Registry(Path(config.dataset_dir))
    masking = Masking.of(config)
    recipes = [Recipe(Source.of(config, registry, name), Tokens(model), masking) for name in config.dataset]
    return [row for recipe in recipes for row in recipe.rows(Part(), Figures())]


def one_by_one(model_dir: Path, data: list[Encoded]) -> tuple[float, float]:
    """Loss and gradient norm of all weights from first principles: every row alone, mean over trained tokens."""
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    total = torch.zeros(())
    for row in data:
        logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1]
        labels = torch.tensor(row.labels[1:])
        total = total + torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    loss = total / sum(row.trained for row in data)
    loss.backward()
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in model.parameters()])
    return loss.item(), norm.item()


@pytest.mark.parametrize(
    ("keys"),
    [
        {"per_device_train_batch_size": 24, "gradient_accumulation_steps": 1},
        {"per_device_train_batch_size": 5, "gradient_accumulation_steps": 5},
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 24},
        {
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 99,
            "packing": True,
            "cutoff_len": 90,
        },
        {"per_device_train_batch_size": 24, "gradient_accumulation_steps": 1, "gradient_checkpointing": True},
    ],
    ids=["flat", "flat, accumulated", "alone", "packed", "checkpointed"],
)
def test_loss_and_gradient_are_those_of_each_row_alone(train: Train, tiny_model: Path, keys: dict[str, int]) -> None:
    run = train(**WHOLE, finetuning_type="full", **keys)
    loss, norm = one_by_one(tiny_model, encoded(run.run_dir, tiny_model))
    [step] = run.events("step")
    assert step["loss"] == pytest.approx(loss, abs=1e-5)
    assert step["grad_norm"] == pytest.approx(norm, rel=1e-5)


def test_lora_weights_are_the_same_flat_and_alone(train: Train) -> None:
    steps = {"max_steps": 5, "save_steps": 0, "lora_dropout": 0.0}
    flat = train("flat", per_device_train_batch_size=4, gradient_accumulation_steps=1, **steps)
    alone = train("alone", per_device_train_batch_size=1, gradient_accumulation_steps=4, **steps)
    assert list(flat.losses.values()) == pytest.approx(list(alone.losses.values()), abs=1e-5)
    flat_weights, alone_weights = (
        load_file(run.run_dir / "adapter/adapter_model.safetensors") for run in (flat, alone)
    )
    for name, weight in flat_weights.items():
        torch.testing.assert_close(weight, alone_weights[name], atol=1e-5, rtol=1e-4)


def test_a_model_whose_rows_see_each_other_is_noticed(tiny_model: Path, train: Train) -> None:
    data = encoded(train(**WHOLE).run_dir, tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    ends = data[0].input_ids, data[-1].input_ids
    assert keeps_rows_apart(model, *ends)
    before = torch.get_rng_state()
    dropout = torch.nn.functional.dropout
    model.model.embed_tokens.register_forward_hook(lambda module, _, out: dropout(out, 0.5, module.training))
    assert keeps_rows_apart(model.train(), *ends)  # as an adapter with dropout leaves it
    assert model.training
    assert torch.equal(before, torch.get_rng_state())
    blind = model.forward
    # an architecture that ignores positions, and so cannot know where a row begins
    model.forward = lambda position_ids=None, **inputs: blind(**inputs)  # type: ignore[method-assign]
    assert not keeps_rows_apart(model, *ends)


def test_such_a_model_is_trained_on_padded_rows(
    train: Train, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "keeps_rows_apart", lambda model, *ends: False)
    run = train(**WHOLE, finetuning_type="full", per_device_train_batch_size=5, gradient_accumulation_steps=5)
    loss, _ = one_by_one(tiny_model, encoded(run.run_dir, tiny_model))
    assert run.losses == {1: pytest.approx(loss, abs=1e-5)}
    assert "needs padded batches" in run.notes
    with pytest.raises(ModelError, match="set packing: false"):
        train("packed", **WHOLE, packing=True)


@pytest.mark.parametrize(
    "keys",
    [
        {"lora_dropout": 0.1},
        {"finetuning_type": "full"},
        {"packing": True, "cutoff_len": 64, "per_device_train_batch_size": 1},
    ],
    ids=["lora with dropout", "full", "packed"],
)
def test_a_resumed_run_continues_exactly(train: Train, keys: dict[str, object]) -> None:
    # 24 rows in batches of 4 make 6 steps an epoch; the run is resumed in the first epoch and ends in the third
    steps = {"max_steps": 14, "save_steps": 4, "save_total_limit": 9, **keys}
    whole = train("whole", **steps)
    hand_over(whole, 4)
    resumed = train("resumed", **steps, resume_from_checkpoint="checkpoints/checkpoint-4")
    assert list(resumed.losses) == list(range(5, 15))
    assert resumed.losses == {step: loss for step, loss in whole.losses.items() if step > 4}
    output = "model/model" if keys.get("finetuning_type") else "adapter/adapter_model"
    ours, theirs = (load_file(run.run_dir / f"{output}.safetensors") for run in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_run_resumes_exactly_at_the_end_of_an_epoch(train: Train) -> None:
    steps = {"max_steps": 9, "save_steps": 6, "save_total_limit": 9}
    whole = train("whole", **steps)
    hand_over(whole, 6)
    resumed = train("resumed", **steps, resume_from_checkpoint="checkpoints/checkpoint-6")
    assert resumed.losses == {step: loss for step, loss in whole.losses.items() if step > 6}


def test_tokens_and_speed_of_a_resumed_run_are_its_own(train: Train) -> None:
    whole = train("whole", max_steps=6, save_steps=3)
    resumed_dir = hand_over(whole, 3)
    history = (whole.run_dir / "metrics.jsonl").read_text().splitlines(keepends=True)[:3]
    (resumed_dir / "metrics.jsonl").write_text("".join(history).replace('"tokens":', '"tokens":9000000'))
    resumed = train("resumed", max_steps=6, save_steps=3, resume_from_checkpoint="checkpoints/checkpoint-3")
    last = resumed.events("step")[-1]
    assert last["tokens"] > 9_000_000
    assert last["tokens_per_s"] < 1_000_000


def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(train: Train) -> None:
    first = train("first", max_steps=6, save_steps=2)
    again = first.run_dir.parent / "again"
    again.mkdir()
    (first.run_dir / "checkpoints").rename(again / "checkpoints")
    optimizer = again / "checkpoints/checkpoint-6/optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-50])
    weights = again / "checkpoints/checkpoint-4/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    resumed = train("again", max_steps=6, save_steps=0, resume_from_checkpoint="checkpoints/checkpoint-6")
    assert list(resumed.losses) == [3, 4, 5, 6]
    assert "checkpoint-6 is damaged (optimizer.pt has" in resumed.notes
    assert "checkpoint-4 is damaged" in resumed.notes
    assert "passed over: the training goes on from checkpoint-2" in resumed.notes


def test_without_any_whole_checkpoint_there_is_no_resuming(train: Train) -> None:
    with pytest.raises(NotResumable, match="checkpoint-6 cannot be resumed"):
        train(resume_from_checkpoint="checkpoints/checkpoint-6")


def test_metrics_have_a_line_for_every_step(train: Train) -> None:
    run = train(max_steps=4, warmup_steps=2, learning_rate=1e-3)
    events = run.events("step")
    assert [event["step"] for event in events] == [1, 2, 3, 4]
    assert [event["learning_rate"] for event in events][:3] == pytest.approx([0, 5e-4, 1e-3])
    assert events[-1]["epoch"] == pytest.approx(4 / 6)
    assert all(event["tokens_per_s"] > 0 and 0.1 < event["memory_gb"] < 5 for event in events)
    tokens = [event["tokens"] for event in events]
    assert tokens == sorted(set(tokens))
    result = run.json("result.json")
    [memory_gb] = result.pop("memory_gb_per_device")
    assert memory_gb == pytest.approx(events[-1]["memory_gb"], rel=0.2)
    assert result | {"train_seconds": 0} == {
        "output": "adapter",
        "steps": 4,
        "train_loss": pytest.approx(sum(run.losses.values()) / 4),
        "tokens": tokens[-1],
        "train_seconds": 0,
        "stopped": False,
        "world_size": 1,
        "device": own_machine().device,
        "paths": {"attention": "varlen", "kernels": "plain", "adapters": "together with their layers"},
        "passes": {"tokens": None, "recomputed": 0},
    }


def test_validation_rows_are_held_out_and_validated(train: Train) -> None:
    run = train(val_size=4, eval_steps=2, max_steps=4)
    assert [event["step"] for event in run.events("eval")] == [2, 4]
    assert all(math.isfinite(event["eval_loss"]) for event in run.events("eval"))


def test_a_broken_loss_ends_the_run_and_names_the_last_good_checkpoint(train: Train, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"not a number at step \d+\. The last good checkpoint is checkpoints/"):
        train(**BREAKING, save_steps=3, logging_steps=3)


def test_a_validation_is_a_mean_over_its_tokens_in_whatever_batches(train: Train, data_dir: Path) -> None:
    lengths = [{"instruction": "Count.", "input": "", "output": " ".join(map(str, range(n * n)))} for n in range(1, 8)]
    register(data_dir, demo=lengths[:2], held=lengths)
    keys = {**WHOLE, "finetuning_type": "full", "learning_rate": 1e-9, "eval_dataset": "held"}
    one, many = (train(str(size), **keys, per_device_eval_batch_size=size).events("eval")[0] for size in (1, 5))
    assert one["eval_loss"] == pytest.approx(many["eval_loss"], abs=1e-5)
    assert one["metrics"] == pytest.approx(many["metrics"], abs=1e-4)


def test_an_exploding_loss_ends_the_run_before_it_is_no_number_any_more(train: Train) -> None:
    with pytest.raises(Diverged, match=r"explodes: it began at 5\.9.* before step \d+ may still be good") as error:
        train(**BREAKING)
    facts = error.value.facts
    assert facts["reason"] == "exploding"
    assert facts["loss"] > 3 * facts["began"]
    assert facts["since"] == facts["step"] - EXPLODED_LOGS + 1


def test_a_full_training_leaves_a_model_that_loads(train: Train, tiny_model: Path) -> None:
    run = train(finetuning_type="full", max_steps=2)
    model = AutoModelForCausalLM.from_pretrained(run.run_dir / "model")
    assert model.dtype == torch.bfloat16
    assert AutoTokenizer.from_pretrained(run.run_dir / "model").chat_template
    assert not (run.run_dir / "adapter").exists()


def test_an_adapter_holds_all_that_serving_needs(train: Train, tiny_model: Path) -> None:
    run = train(max_steps=1, use_rslora=True, lora_target="q_proj,down_proj")
    adapter = run.run_dir / "adapter"
    assert {path.name for path in adapter.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "base.json",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert run.json("adapter/base.json")["path"] == str(tiny_model)
    assert sorted(run.json("adapter/adapter_config.json")["target_modules"]) == ["down_proj", "q_proj"]


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        (
            {"lora_target": "q_proj,query"},
            ModelError,
            "no trainable linear layer query; it has .*down_proj.*q_proj",
        ),
        ({"lora_target": "lm_head"}, ModelError, "lm_head"),
        ({"cutoff_len": 8}, DatasetError, "nothing to train on. 24 of 24 rows .* cutoff_len"),
        ({"val_size": 24}, DatasetError, "hold out all 24 rows"),
        ({"dataset": ["absent"]}, DatasetError, "absent"),
        ({"model_name_or_path": "/nowhere/at/all"}, ModelError, "/nowhere/at/all"),
        ({"model_name_or_path": "org/never-downloaded"}, ModelError, "org/never-downloaded is neither"),
        ({"fp16": True}, ModelError, "fp16 needs a GPU"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_a_reason(
    train: Train, keys: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        train(**keys)


def test_a_damaged_model_is_refused(train: Train, tiny_model: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(tiny_model, tmp_path / "damaged")
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        train(model_name_or_path=str(damaged))


def test_an_unreadable_row_is_named(train: Train, tmp_path: Path) -> None:
    folder = register(tmp_path / "broken", demo=[])
    (folder / "demo.jsonl").write_text('{"instruction": "a", "output": "b"}\n{"instruction": "a", "outp\n')
    (folder / "dataset_info.json").write_text(json.dumps({"demo": {"file_name": "demo.jsonl"}}))
    with pytest.raises(DatasetError, match="row 2"):
        train(dataset_dir=str(folder))


def test_placeholders_need_their_two_keys(tmp_path: Path, tiny_model: Path) -> None:
    data = register(tmp_path / "own", me=[{"instruction": "Who?", "input": "", "output": "{{name}} by {{author}}."}])
    write_config(tmp_path / "bare", "train", tiny_model, data, {"dataset": ["me"]})
    with pytest.raises(DatasetError, match=r"row 1: contains .* set model_name and model_author"):
        train_here(tmp_path / "bare")
    named = {"dataset": ["me"], "model_name": "Sprout", "model_author": "Ada", "max_steps": 1}
    write_config(tmp_path / "named", "train", tiny_model, data, named)
    [row] = encoded(tmp_path / "named", tiny_model)
    assert "Sprout by Ada." in AutoTokenizer.from_pretrained(tiny_model).decode(row.input_ids)


def test_faulty_rows_are_left_out_with_a_note(tmp_path: Path, tiny_model: Path, train: Train) -> None:
    rows = [
        {"instruction": "Hi", "input": "", "output": "Ho"},
        {"instruction": "Hi", "input": "", "output": 5},
    ]
    data = register(tmp_path / "own", mixed=rows)
    run = train(dataset=["mixed"], dataset_dir=str(data), max_steps=1)
    assert "dataset mixed: 1 faulty rows left out, first row 2" in run.notes
