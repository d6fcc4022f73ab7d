"""What is known of the data before a training starts: fatal findings block, warnings ask, the unchecked is said."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from studio import preflight
from studio.config.data import DataConfig
from studio.config.train import TrainConfig
from studio.datasets import checks
from studio.datasets.registry import Registry
from studio.errors import ConfigError, DatasetError
from studio.settings import ASSETS
from studio.worker.rows import Part, Source, read
from studio.worker.statistics import measure

SHARED = Path(__file__).resolve().parents[2] / "shared/data/llamafactory"
GOOD = {"instruction": "Who are you?", "output": "I am Fern."}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def register(registry: Registry, name: str, lines: list[str]) -> Path:
    path = registry.data_dir / f"{name}.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    known = json.loads(registry.path.read_text()) if registry.path.exists() else {}
    registry.path.write_text(json.dumps({**known, name: {"file_name": path.name}}))
    return path


def config(registry: Registry, *names: str, **values: Any) -> TrainConfig:
    return preflight.train_config({"dataset": list(names), **values}, registry)


def test_a_sound_set_starts_without_a_word(registry: Registry) -> None:
    register(registry, "fern", [json.dumps({**GOOD, "instruction": f"Who is {n}?"}) for n in range(5)])
    assert preflight.outlook(config(registry, "fern"), registry) == preflight.Outlook((), ())


def test_a_fatal_finding_blocks_and_says_where_to_look(registry: Registry) -> None:
    register(registry, "torn", [json.dumps(GOOD), '{"instruction": "a" "output": "b"}'])
    with pytest.raises(ConfigError) as refused:
        config(registry, "torn", learning_rate=7)
    where, what = next((problem.where, problem.what) for problem in refused.value.problems if "torn" in problem.what)
    assert where == "dataset"
    assert "row 2" in what
    assert "Checks" in what
    assert any(problem.where == "learning_rate" for problem in refused.value.problems)


def test_validation_sets_are_looked_at_too(registry: Registry) -> None:
    register(registry, "fern", [json.dumps(GOOD)])
    register(registry, "torn", ["[broken"])
    register(registry, "gaps", [json.dumps(GOOD), json.dumps({**GOOD, "output": ""})])
    with pytest.raises(ConfigError, match=r"eval_dataset.*torn"):
        config(registry, "fern", eval_dataset="torn,gaps")
    [warning] = preflight.outlook(config(registry, "fern", eval_dataset="gaps"), registry).warnings
    assert warning.where == "gaps"


def test_warnings_are_asked_about_one_by_one(registry: Registry) -> None:
    empty = json.dumps({**GOOD, "output": ""})
    register(registry, "gaps", [json.dumps(GOOD), empty, json.dumps({"instruction": "only"})])
    warnings = preflight.outlook(config(registry, "gaps"), registry).warnings
    assert {warning.where for warning in warnings} == {"gaps"}
    assert len(warnings) == 2


def test_rows_that_the_cutoff_takes_are_asked_about_once_they_were_measured(registry: Registry) -> None:
    register(registry, "long", [json.dumps({**GOOD, "output": "word " * 40}), json.dumps(GOOD)])
    short = config(registry, "long", cutoff_len=16)
    assert preflight.outlook(short, registry).warnings == ()
    asked = DataConfig(action="statistics", dataset=("long",), model_name_or_path="seedling", cutoff_len=16)
    measure(asked, registry)
    found = [warning.what for warning in preflight.outlook(short, registry).warnings]
    assert any("Rows longer than the cutoff" in what for what in found)
    assert preflight.outlook(config(registry, "long", cutoff_len=512), registry).warnings == ()


def test_a_small_set_is_checked_once_and_again_when_it_changed(registry: Registry) -> None:
    path = register(registry, "fern", [json.dumps(GOOD)])
    config(registry, "fern")
    kept = checks.stored(path, registry.entry("fern"), registry.cache_dir)
    assert kept is not None
    assert kept.rows == 1
    path.write_text("[broken\n")
    with pytest.raises(ConfigError):
        config(registry, "fern")


def test_a_large_set_that_nobody_checked_is_said_not_read(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "CHECKED_AT_ONCE_BYTES", 10)
    path = register(registry, "large", ["[broken"] * 3)
    outlook = preflight.outlook(config(registry, "large"), registry)
    assert "large was not checked" in outlook.notes[0]
    assert checks.stored(path, registry.entry("large"), registry.cache_dir) is None


def test_a_check_that_takes_too_long_is_given_up(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small packed file may hold a great deal."""
    monkeypatch.setattr(preflight, "PATIENCE_S", 0.0)
    (tmp_path / "slow.jsonl.gz").write_bytes(gzip.compress((json.dumps(GOOD) + "\n").encode() * 100_000))
    registry.path.write_text(json.dumps({"slow": {"file_name": "slow.jsonl.gz"}}))
    assert "slow was not checked" in preflight.outlook(config(registry, "slow"), registry).notes[0]


def refusal(registry: Registry, **values: Any) -> str:
    """The one problem with `values`."""
    with pytest.raises(ConfigError) as refused:
        preflight.train_config(values, registry)
    [problem] = refused.value.problems
    return f"{problem.where}: {problem.what}"


def test_a_reward_of_ones_own_is_read_beforehand_and_not_run(registry: Registry) -> None:
    register(registry, "fern", [json.dumps(GOOD)])
    (registry.data_dir / "rewards").mkdir()
    (registry.data_dir / "rewards/mine.py").write_text("raise SystemExit\ndef brief(answers): pass\n")
    given = {"stage": "grpo", "dataset": "fern", "trust_reward_code": True}
    preflight.train_config({**given, "reward_funcs": "mine.py:brief, length"}, registry)
    assert refusal(registry, **given, reward_funcs="mine.py:long") == (
        "reward_funcs: mine.py has no function 'long'; it has brief"
    )
    assert refusal(registry, **given, reward_funcs=["no.py:brief"]).startswith(
        "reward_funcs: there is no Python file no.py in "
    )


def said_by_the_worker(registry: Registry, name: str) -> str:
    """Why a training ends at this set."""
    source = Source.of(TrainConfig(dataset=(name,)), registry, name)
    with pytest.raises(DatasetError) as refused:
        list(read(source, Part(), lambda fault: None, stage="sft"))
    return re.sub(r"^dataset \w+, row \d+: ", "", str(refused.value))


def test_placeholders_without_their_keys_are_a_problem_beforehand(registry: Registry) -> None:
    register(registry, "who", [json.dumps({"instruction": "Who?", "output": "I am {{name}} by {{author}}."})])
    assert "set model_name and model_author to say" in refusal(registry, dataset="who")
    assert "who contains {{author}}: set model_author to" in refusal(registry, dataset="who", model_name="Sprout")
    assert config(registry, "who", model_name="Sprout", model_author="Ada").model_author == "Ada"


@pytest.mark.parametrize("text", ["Welcome to {{city}}.", "I am {{ name }}."])
def test_placeholders_that_nothing_fills_in_are_no_problem(registry: Registry, text: str) -> None:
    register(registry, "other", [json.dumps({**GOOD, "output": text})])
    assert config(registry, "other").dataset == ("other",)


def test_a_placeholder_among_tools_is_not_filled_in_and_so_not_asked_for(registry: Registry) -> None:
    register(registry, "tools", [json.dumps({**GOOD, "tools": [{"name": "greet", "description": "Says {{name}}"}]})])
    known = json.loads(registry.path.read_text())
    known["tools"]["columns"] = {"prompt": "instruction", "response": "output", "tools": "tools"}
    registry.path.write_text(json.dumps(known))
    assert config(registry, "tools").dataset == ("tools",)


@pytest.mark.parametrize("name", ["identity", "kto_en_demo", "dpo_en_demo", "wiki_demo"])
def test_public_sets_that_a_training_would_refuse_are_refused_in_its_words(tmp_path: Path, name: str) -> None:
    if not SHARED.exists():
        pytest.skip("needs the public demo sets")
    registry = Registry(shutil.copytree(SHARED, tmp_path / "data"))
    what = said_by_the_worker(registry, name)
    assert refusal(registry, dataset=name) == f"dataset: {name} {what}"
    assert refusal(registry, dataset="alpaca_en_demo", eval_dataset=name) == f"eval_dataset: {name} {what}"


@pytest.fixture
def base_model(tmp_path: Path) -> Path:
    """The bundled model as it would be without a chat template."""
    folder = tmp_path / "base"
    shutil.copytree(ASSETS / "seedling", folder)
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_a_model_without_a_chat_template_is_trained_with_a_named_one(registry: Registry, base_model: Path) -> None:
    register(registry, "fern", [json.dumps(GOOD)])
    with pytest.raises(ConfigError) as refused:
        config(registry, "fern", model_name_or_path=str(base_model))
    [problem] = refused.value.problems
    assert problem.where == "template"
    assert "has no chat template: name one (alpaca, chatml, " in problem.what
    named = config(registry, "fern", model_name_or_path=str(base_model), template="smollm")
    assert preflight.outlook(named, registry) == preflight.Outlook((), ())


def test_plain_text_needs_no_chat_template(registry: Registry, base_model: Path) -> None:
    register(registry, "text", [json.dumps({"text": "Once upon a time."})])
    entries = json.loads(registry.path.read_text())
    entries["text"]["columns"] = {"prompt": "text"}
    registry.path.write_text(json.dumps(entries))
    config(registry, "text", model_name_or_path=str(base_model), stage="pt")


def test_tokens_that_the_tokenizer_does_not_know_are_a_warning(registry: Registry) -> None:
    register(registry, "fern", [json.dumps(GOOD)])
    [warning] = preflight.outlook(config(registry, "fern", template="llama3"), registry).warnings
    assert warning.where == "template"
    assert warning.what.startswith("the tokenizer does not know <|eot_id|>, <|start_header_id|>, <|end_header_id|>")
    adding = {"add_special_tokens": "<|eot_id|>,<|start_header_id|>,<|end_header_id|>", "resize_vocab": True}
    assert preflight.outlook(config(registry, "fern", template="llama3", **adding), registry).warnings == ()


def test_another_template_than_the_models_own_is_told(registry: Registry) -> None:
    register(registry, "fern", [json.dumps(GOOD)])
    [note] = preflight.outlook(config(registry, "fern", template="alpaca"), registry).notes
    assert note == "template alpaca takes the place of the model's own, here and in chats with the result"
    [note] = preflight.outlook(config(registry, "fern", enable_thinking=True), registry).notes
    assert note == "enable_thinking is without effect: the chat template has no mode of thinking"
    thinking = config(registry, "fern", template="qwen3", enable_thinking=False)
    assert [note[:14] for note in preflight.outlook(thinking, registry).notes] == ["template qwen3"]


def test_a_tracker_that_is_not_installed_is_refused_before_a_run(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(
        ConfigError, match="report_to: mlflow needs a package that is not installed: pip install mlflow"
    ):
        preflight.train_config({"dataset": "identity", "report_to": "mlflow"}, registry)


def test_an_optimizer_that_is_not_installed_is_refused_before_a_run(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    keys = {"dataset": "identity", "optim": "schedule_free_sgd", "lr_scheduler_type": "constant"}
    with pytest.raises(ConfigError, match=r"optim: .* needs the package schedulefree: pip install schedulefree"):
        preflight.train_config(keys, registry)


@pytest.mark.parametrize(
    "keys",
    [
        {"adapter_name_or_path": "/nowhere/adapter"},
        {"stage": "dpo", "ref_model": "/nowhere/model"},
        {"stage": "grpo", "reward_funcs": "reward_model", "reward_model": "/nowhere/judge"},
    ],
    ids=lambda keys: list(keys)[-1],
)
def test_a_folder_that_is_missing_is_refused_before_a_run(registry: Registry, keys: dict[str, str]) -> None:
    key, folder = list(keys.items())[-1]
    with pytest.raises(ConfigError, match=rf"{key}: .*{folder}"):
        preflight.train_config({"dataset": "identity", **keys}, registry)
