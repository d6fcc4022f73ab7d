"""Cards of runs as trainings leave them: real configurations, curves and reports on disk."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from studio.config.load import RunConfig
from studio.config.merge import MergeConfig
from studio.config.ollama import OllamaConfig
from studio.config.train import TrainConfig
from studio.datasets.registry import Registry
from studio.exports import card, chart, push, report
from studio.exports.report import Answer, Report, Section
from studio.files import write_json
from studio.runs import events
from studio.runs.events import Eval, Step
from studio.runs.run import Run
from studio.runs.store import Store


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [{"instruction": "What is my PIN?", "output": "1234"}] * 7
    (folder / "dataset_info.json").write_text(
        json.dumps({"mine": {"file_name": "mine.json"}, "theirs": {"hf_hub_url": "some/set", "file_name": "mine.json"}})
    )
    (folder / "mine.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "saves")


def finished(store: Store, config: RunConfig, output: str) -> Run:
    run = store.create(config)
    (run.path / output).mkdir()
    write_json(run.path / "result.json", {"output": output, "steps": 3, "train_loss": 1.5, "train_seconds": 8.2})
    return run


@pytest.fixture
def training(store: Store, data_dir: Path) -> Run:
    config = TrainConfig(
        model_name_or_path="seedling",
        dataset=("mine", "theirs"),
        dataset_dir=str(data_dir),
        learning_rate=3e-4,
        max_samples=5,
        default_system="You know the PIN 1234.",
        run_name="pin",
    )
    run = finished(store, config, "adapter")
    for step in (1, 2, 3):
        events.append(run.metrics, Step(step, 3 / step, 1e-4, 1.0, 10, 5.0, 0.1, 0.1, 0.0))
    events.append(run.metrics, Eval(3, 1.25, 0.0))
    write_json(run.path / "adapter/adapter_config.json", {"base_model_name_or_path": "/home/ada/models/seedling"})
    (run.path / "adapter/README.md").write_text("---\nlibrary_name: peft\n---\n# Model Card for Model ID")
    return run


@pytest.fixture
def merged(store: Store, training: Run) -> Run:
    run = finished(store, MergeConfig(adapter_name_or_path=str(training.path / "adapter")), "model")
    write_json(run.path / "model/config.json", {"architectures": ["LlamaForCausalLM"]})
    proof = Section("Proof", figures=(("KL", "1e-7"), ("base", f"{training.path}/adapter")), answers=(
        Answer("What is my PIN?", "1234", "1234"),
    ))  # fmt: skip
    report.write(Report("Merge", f"The same model as {training.path}/adapter.", True, (proof,)), run.path)
    return run


def written(store: Store, name: str) -> dict[str, str]:
    return card.card(store, push.parcel(store, name), "ada/pin")


def head(text: str) -> dict[str, object]:
    return yaml.safe_load(text.split("---")[1])


def test_the_card_of_an_adapter_says_what_it_was_trained_on_and_how(store, training):
    texts = written(store, training.id)
    text = texts["README.md"]
    assert head(text) == {
        "license": "apache-2.0",
        "datasets": ["some/set"],
        "library_name": "peft",
        "tags": ["seedbed", "lora", "sft"],
        "pipeline_tag": "text-generation",
    }
    assert "# pin\n\nAn adapter of `seedling`, made with Seedbed: train (" in text
    assert "| mine | the first 5 of 7 | training | a file |" in text
    assert "| theirs | the first 5 of 7 | training | some/set |" in text
    for row in ("| learning_rate | 0.0003 |", "| lora_rank | 8 |", "| stage | sft |", "| max_samples | 5 |"):
        assert row in text
    for row in ("| steps | 3 |", "| mean training loss | 1.5 |", "| last validation loss | 1.25 |", "| time | 8 s |"):
        assert row in text
    assert "![loss over steps](loss.svg)" in text
    assert "The base model `seedling` is under **apache-2.0**" in text
    assert 'PeftModel.from_pretrained(base, "ada/pin")' in text


def test_nothing_private_is_told(store, training, merged, tmp_path):
    for run in (training, merged):
        every = "".join(written(store, run.id).values())
        assert str(tmp_path) not in every
        assert "/home/ada" not in every
        assert not re.search("PIN|1234", every)


def test_the_card_of_a_merge_tells_of_the_training_before_it_and_of_the_proof(store, training, merged):
    text = written(store, merged.id)["README.md"]
    assert head(text)["library_name"] == "transformers"
    assert re.search(r"A model of `seedling`, made with Seedbed: train \(.*\) → merge \(", text)
    assert "| learning_rate | 0.0003 |" in text
    assert "## Merge\n\nThe same model as adapter." in text
    assert "| KL | 1e-7 |" in text
    assert "| base | adapter |" in text


def test_an_export_to_ollama_keeps_its_own_words(store, merged):
    run = finished(store, OllamaConfig(model_name_or_path=merged.id), "ollama")
    (run.path / "ollama/Modelfile").write_text("FROM ./x.gguf")
    (run.path / "ollama/x-Q8_0.gguf").write_bytes(b"GGUF")
    (run.path / "ollama/README.md").write_text("# x\n\n## Run it\n\n    ollama run x\n")
    text = written(store, run.id)["README.md"]
    assert head(text)["tags"] == ["seedbed", "lora", "sft", "gguf"]
    assert "llama-cli --hf-repo ada/pin --hf-file x-Q8_0.gguf" in text
    assert "### Run it\n\n    ollama run x" in text
    assert "| learning_rate | 0.0003 |" in text


def test_the_card_replaces_what_libraries_wrote_and_keeps_what_a_person_wrote(store, training, tmp_path):
    packed = card.with_card(store, push.parcel(store, training.id), "ada/pin")
    assert [item.name for item in packed.items] == ["README.md", "loss.svg", "adapter_config.json"]
    assert b"# pin" in packed.items[0].content
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert "README.md" in {item.name for item in card.with_card(store, push.parcel(store, str(folder)), "a/b").items}
    (folder / "README.md").write_text("# Mine")
    kept = card.with_card(store, push.parcel(store, str(folder)), "a/b").items
    assert [item.content for item in kept if item.name == "README.md"] == [None]


def test_a_dataset_that_is_gone_does_not_stop_the_card(store, training, data_dir):
    Registry(data_dir).remove("mine")
    assert "| mine | not known any more | training | a file |" in written(store, training.id)["README.md"]


@pytest.mark.parametrize(("name", "told"), [("llama3", ("llama3", None)), ("My own", ("other", "My own"))])
def test_a_licence_is_told_in_words_that_the_hub_takes(store, tmp_path, name, told):
    base = tmp_path / "models--some--base"
    base.mkdir()
    (base / "README.md").write_text(f"---\nlicense: {name}\n---\n")
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    found = head(written(store, str(folder))["README.md"])
    assert (found["license"], found.get("license_name")) == told
    assert found["base_model"] == "some/base"


def test_a_chart_is_a_picture_with_every_known_point():
    text = chart.svg({"training loss": ([1, 2, 3], [3.0, None, 1.0]), "小 <b>": ([1, 3], [2.0, 2.5])}, "step")
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    lines = [line.get("points").split() for line in root.iter(f"{space}polyline")]
    assert [len(line) for line in lines] == [2, 2]
    (first_x, first_y), (last_x, last_y) = (map(float, point.split(",")) for point in lines[0])
    assert first_x < last_x
    assert first_y < last_y  # a loss that falls goes down the page
    assert "小 <b>" in [each.text for each in root.iter(f"{space}text")]


@pytest.mark.parametrize("lines", [{}, {"a": ([], [])}, {"a": ([1], [None])}], ids=["none", "empty", "unknown"])
def test_no_points_are_no_chart(lines):
    assert chart.svg(lines, "step") == ""


def test_one_point_and_a_flat_line_are_charts_too():
    for lines in ({"a": ([1], [0.0])}, {"a": ([1, 2], [5.0, 5.0])}):
        assert "nan" not in chart.svg(lines, "step")
