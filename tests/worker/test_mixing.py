"""Which rows of which dataset a training sees, and how often."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.datasets.masking import Masking
from studio.datasets.registry import Registry
from studio.errors import DatasetError
from studio.worker import stages
from studio.worker.mixing import Rows, mix, stream
from studio.worker.pool import Tokens
from studio.worker.prepared import Hooks, Prepared, Recipe, prepare
from studio.worker.rows import Source
from tests.worker.conftest import Finished, register, train_here, write_config

SIZES = {"one": 300, "two": 100, "three": 20}
QUIET = Hooks(lambda done, total: None, lambda: None)
Mixed = Callable[..., Rows]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sets of numbered rows."""
    rows = {
        name: [{"instruction": name, "input": "", "output": str(number)} for number in range(size)]
        for name, size in SIZES.items()
    }
    late = [{"instruction": "why " * 100, "input": "", "output": "so"}] * 2
    novels = [{"instruction": "go on", "input": "", "output": f"{number} " * 90} for number in range(30)]
    return register(tmp_path_factory.mktemp("data"), **rows, long=late, novels=novels)


@pytest.fixture(scope="module")
def mixed(data_dir: Path, tokenizer_dir: Path) -> Mixed:
    """The rows of a training on all three with these keys."""
    registry = Registry(data_dir)

    def recipe(config: TrainConfig, name: str) -> Recipe:
        columns = stages.of(config).columns
        return Recipe(
            Source.of(config, registry, name), Tokens(tokenizer_dir), Masking.of(config), config.stage, columns
        )

    def made(recipe: Recipe) -> Prepared:
        return prepare(recipe, data_dir / "prepared", registry.cache_dir, QUIET)

    def _mixed(**keys: Any) -> Rows:
        config = parse(TrainConfig, {"dataset": list(SIZES), "dataset_dir": str(data_dir), "cutoff_len": 64, **keys})
        recipes = [recipe(config, name) for name in config.dataset]
        own, remarks = [made(recipe(config, name)) for name in config.eval_dataset], list[str]()
        if config.streaming:
            return stream(config, recipes, own, config.cutoff_len, remarks.append)
        return mix(config, [made(each) for each in recipes], own, config.cutoff_len)

    return _mixed


@pytest.fixture(scope="module")
def said(tokenizer_dir: Path) -> Callable[[Any], list[tuple[str, int]]]:
    """Rows as (set, number)."""
    tokenizer = Tokens(tokenizer_dir).load()

    def _said(rows: Any) -> list[tuple[str, int]]:
        texts = (tokenizer.decode(row["input_ids"]) for row in rows)
        return [
            (text.split("user\n")[1].split("<")[0], int(text.split("assistant\n")[1].split("<")[0])) for text in texts
        ]

    return _said


Said = Callable[[Any], list[tuple[str, int]]]


def everything() -> list[tuple[str, int]]:
    return [(name, number) for name, size in SIZES.items() for number in range(size)]


def test_concatenation_takes_every_row_once(mixed: Mixed, said: Said) -> None:
    assert said(mixed().train) == everything()


def test_taking_turns_stops_with_the_first_that_is_used_up(mixed: Mixed, said: Said) -> None:
    rows = said(mixed(mix_strategy="interleave_under").train)
    assert rows[:4] == [("one", 0), ("two", 0), ("three", 0), ("one", 1)]
    assert Counter(name for name, _ in rows) == {"one": 20, "two": 20, "three": 20}


def test_taking_turns_goes_on_until_every_row_was_there(mixed: Mixed, said: Said) -> None:
    rows = said(mixed(mix_strategy="interleave_over").train)
    assert Counter(name for name, _ in rows) == {"one": 300, "two": 300, "three": 300}
    assert set(rows) == set(everything())
    assert Counter(rows)["three", 7] == 15


def test_shares_are_kept_until_the_first_is_used_up(mixed: Mixed, said: Said) -> None:
    shares = {"one": 0.6, "two": 0.35, "three": 0.05}
    rows = said(mixed(mix_strategy="interleave_under", interleave_probs="0.6,0.35,0.05").train)
    counts = Counter(name for name, _ in rows)
    assert len(set(rows)) == len(rows)
    assert any(counts[name] == size for name, size in SIZES.items())
    assert {name: counts[name] / len(rows) for name in shares} == pytest.approx(shares, abs=0.05)


def test_shares_are_kept_until_all_are_used_up(mixed: Mixed, said: Said) -> None:
    shares = {"one": 0.5, "two": 0.3, "three": 0.2}
    rows = said(mixed(mix_strategy="interleave_over", interleave_probs=[0.5, 0.3, 0.2]).train)
    counts = Counter(name for name, _ in rows)
    assert set(rows) == set(everything())
    assert {name: counts[name] / len(rows) for name in shares} == pytest.approx(shares, abs=0.05)


@pytest.mark.parametrize("keys", [{}, {"streaming": True, "max_steps": 5}], ids=["prepared", "streamed"])
def test_the_seed_decides(mixed: Mixed, said: Said, keys: dict[str, Any]) -> None:
    options = {"mix_strategy": "interleave_under", "interleave_probs": "0.6,0.3,0.1", **keys}
    first, again, other = (said(mixed(**options, seed=seed).train) for seed in (1, 1, 2))
    assert first == again != other


def test_rows_held_out_are_never_trained_on(mixed: Mixed, said: Said) -> None:
    rows = mixed(val_size=0.1, mix_strategy="interleave_over")
    trained, held_out = said(rows.train), said(rows.validation)
    assert len(held_out) == 42
    assert not set(trained) & set(held_out)
    assert set(trained) | set(held_out) == set(everything())
    assert said(mixed(val_size=42).validation) == held_out
    assert said(mixed(val_size=42, seed=1).validation) != held_out


def test_too_many_held_out_is_refused(mixed: Mixed) -> None:
    with pytest.raises(DatasetError, match="val_size 420 would hold out all 420 rows"):
        mixed(val_size=420)


def test_sets_of_their_own_are_validated_together_or_each(mixed: Mixed, said: Said) -> None:
    keys = {"dataset": ["one"], "eval_dataset": ["two", "three"]}
    assert len(said(mixed(**keys).validation)) == 120
    each = mixed(**keys, eval_on_each_dataset=True).validation
    assert isinstance(each, dict)
    assert {name: len(rows) for name, rows in each.items()} == {"two": 100, "three": 20}


def test_max_samples_is_for_each_set(mixed: Mixed, said: Said) -> None:
    assert Counter(name for name, _ in said(mixed(max_samples=50).train)) == {"one": 50, "two": 50, "three": 20}


STREAMED = {"streaming": True, "max_steps": 5}


def test_a_stream_has_every_row_in_an_order_of_its_own(mixed: Mixed, said: Said) -> None:
    rows = said(mixed(**STREAMED, dataset=["one"], buffer_size=50).train)
    assert sorted(rows) == sorted((name, number) for name, number in everything() if name == "one")
    assert rows != sorted(rows)
    assert max(number for _, number in rows[:10]) < 60, "only the buffer has been read"


def test_rows_held_out_of_a_stream_are_never_trained_on(mixed: Mixed, said: Said) -> None:
    rows = mixed(**STREAMED, val_size=6)
    held_out = said(rows.validation)
    assert held_out == [(name, number) for name in SIZES for number in (0, 1)]
    assert sorted(said(rows.train)) == sorted(set(everything()) - set(held_out))


@pytest.mark.parametrize("streaming", [False, True])
def test_the_pieces_of_a_row_are_held_out_together(mixed: Mixed, tokenizer_dir: Path, streaming: bool) -> None:
    tokenizer = Tokens(tokenizer_dir).load()

    def numbers(rows: Any) -> Counter[str]:
        texts = (tokenizer.decode(row["input_ids"]) for row in rows)
        return Counter(Counter(re.findall(r"\d+", text)).most_common(1)[0][0] for text in texts)

    rows = mixed(stage="pt", dataset="novels", val_size=6, streaming=streaming, max_steps=9)
    trained, held = numbers(rows.train), numbers(rows.validation)
    assert min((trained | held).values()) > 1  # each became several
    assert (len(trained), len(held)) == (24, 6)
    assert not trained.keys() & held.keys()


def test_a_stream_with_nothing_to_learn_ends_with_the_reason(mixed: Mixed) -> None:
    with pytest.raises(DatasetError, match=r"nothing to train on. 300 of 300 rows .* cutoff_len"):
        mixed(**STREAMED, dataset=["one"], cutoff_len=8)


def test_a_stream_smaller_than_a_step_is_learned_from(tmp_path: Path, tiny_model: Path) -> None:
    rows = [{"instruction": "Hi", "input": "", "output": f"Number {n}"} for n in range(3)]
    request = {"dataset": ["demo"], "streaming": True, "max_steps": 3, "save_steps": 0}
    request |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    write_config(tmp_path / "run", "train", tiny_model, register(tmp_path / "data", demo=rows), request)
    train_here(tmp_path / "run")
    steps = Finished(tmp_path / "run").events("step")
    assert [event["step"] for event in steps] == [1, 2, 3]
    assert steps[2]["tokens"] == 3 * steps[0]["tokens"], "every step has as many rows"


def test_rows_left_out_of_a_stream_are_told_once(tmp_path: Path, tiny_model: Path) -> None:
    rows = [{"instruction": "Hi", "input": "", "output": 5 if n % 4 == 1 else f"Number {n}"} for n in range(12)]
    request = {"dataset": ["demo"], "streaming": True, "max_steps": 6, "save_steps": 0}
    write_config(tmp_path / "run", "train", tiny_model, register(tmp_path / "data", demo=rows), request)
    train_here(tmp_path / "run")
    told = Finished(tmp_path / "run").notes.splitlines()
    assert [line for line in told if "first row 2" in line] == [line for line in told if "faulty" in line]
    assert len(told) == len(set(told)) == 2
    assert "3 faulty rows left out" in told[1]


def test_a_set_without_usable_rows_cannot_be_interleaved(mixed: Mixed, said: Said) -> None:
    keys = {"dataset": ["one", "long"], "cutoff_len": 64}
    assert len(said(mixed(**keys).train)) == 300
    with pytest.raises(DatasetError, match=r"cannot be interleaved. 2 of 302 rows left out: .* cutoff_len"):
        mixed(**keys, mix_strategy="interleave_under")


@pytest.mark.parametrize(
    "keys",
    [
        {"streaming": True, "buffer_size": 16},
        {"streaming": True, "buffer_size": 16, "packing": True, "cutoff_len": 90},
        {"mix_strategy": "interleave_over", "interleave_probs": "0.5,0.3,0.2"},
    ],
    ids=["streamed", "streamed and packed", "interleaved"],
)
def test_a_resumed_training_goes_on_exactly(
    tmp_path: Path, tiny_model: Path, data_dir: Path, keys: dict[str, Any]
) -> None:
    request = {"dataset": list(SIZES), "max_steps": 4, "save_steps": 2, "lora_dropout": 0.0, **keys}
    write_config(tmp_path / "whole", "train", tiny_model, data_dir, request)
    train_here(tmp_path / "whole")
    resumed = tmp_path / "resumed"
    (resumed / "checkpoints").mkdir(parents=True)
    (tmp_path / "whole/checkpoints/checkpoint-2").rename(resumed / "checkpoints/checkpoint-2")
    again = {**request, "resume_from_checkpoint": "checkpoints/checkpoint-2"}
    write_config(resumed, "train", tiny_model, data_dir, again)
    train_here(resumed)
    whole = Finished(tmp_path / "whole").losses
    assert sorted(whole) == [1, 2, 3, 4]
    assert Finished(resumed).losses == {step: loss for step, loss in whole.items() if step > 2}


def test_each_validation_set_has_losses_of_its_own(tmp_path: Path, tiny_model: Path, data_dir: Path) -> None:
    request = {"dataset": ["one"], "eval_dataset": ["two", "three"], "eval_steps": 2, "max_steps": 2, "save_steps": 0}
    write_config(tmp_path / "each", "train", tiny_model, data_dir, {**request, "eval_on_each_dataset": True})
    train_here(tmp_path / "each")
    evals = Finished(tmp_path / "each").events("eval")
    assert [(event["step"], event["dataset"]) for event in evals] == [(2, "two"), (2, "three")]
    write_config(tmp_path / "all", "train", tiny_model, data_dir, request)
    train_here(tmp_path / "all")
    [together] = Finished(tmp_path / "all").events("eval")
    low, high = sorted(event["eval_loss"] for event in evals)
    assert low < together["eval_loss"] < high


def test_conversations_that_a_template_rewrites_become_several_rows_and_that_is_told(
    tmp_path: Path, tokenizer_dir: Path
) -> None:
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
    (tmp_path / "talk.json").write_text(json.dumps([{"conversations": turns * count} for count in (1, 2, 3)]))
    entry = {"file_name": "talk.json", "formatting": "sharegpt"}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"talk": entry}))
    registry = Registry(tmp_path)
    config = parse(TrainConfig, {"dataset": "talk", "dataset_dir": str(tmp_path), "template": "qwen3"})
    tokens, masking = Tokens.of(config, tokenizer_dir), Masking.of(config)
    done = []
    made = prepare(
        Recipe(Source.of(config, registry, "talk"), tokens, masking),
        tmp_path / "prepared",
        registry.cache_dir,
        Hooks(lambda count, total: done.append(count), lambda: None),
    )
    rows = mix(config, [made], [], 512)
    assert len(rows.train) == 6
    assert [remark for remark in rows.remarks if "3 rows became 6 sequences" in remark]
    assert done[-1] == 3, "progress is told in rows"
