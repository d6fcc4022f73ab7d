"""What templates leave out of conversations with tools, tried on the templates of models that people train."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trl
from transformers import AutoTokenizer

from studio.datasets.formats import chat
from studio.datasets.loading import load
from studio.datasets.registry import Registry
from studio.errors import DatasetError
from studio.models import BUNDLED, resolve
from studio.worker.omission import left_out
from studio.worker.rendering import Renderer
from tests.worker.conftest import Train, register

SHARED = Path(__file__).resolve().parents[3] / "shared/data/llamafactory"
TEMPLATES = Path(trl.__file__).parent / "chat_templates"
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"place": "Paris"}}}
ASKED = [
    {"role": "user", "content": "The weather in Paris?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
]
MESSAGES: list[dict[str, Any]] = [
    *ASKED,
    {"role": "tool", "content": "Rain."},
    {"role": "assistant", "content": "Rain."},
]
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Tells the weather.", "parameters": {}}}]


def losses(template: str) -> Counter[str]:
    """What kinds of things `template` leaves out of how many rows of a real set; calls are told without their name."""
    if not SHARED.exists():
        pytest.skip("needs the public demo sets")
    tokenizer = AutoTokenizer.from_pretrained(resolve(BUNDLED))
    tokenizer.chat_template = template
    renderer, found = Renderer(tokenizer), Counter[str]()
    for _, row in load(Registry(SHARED), "glaive_toolcall_en_demo", leave_out=lambda fault: None):
        tools = json.loads(row.tools) if row.tools else None
        lost = left_out(chat(row.messages), tools, lambda messages, kit: renderer.render(0, messages, kit)[0])
        found[" ".join(lost.split()[:2])] += 1
    return found


@pytest.mark.parametrize("name", ["qwen2_5_training", "qwen3", "llama3_1", "glm4moe", "lfm2_v2", "nemotron_3_nano"])
def test_a_template_that_knows_tools_loses_nothing(name: str) -> None:
    assert losses((TEMPLATES / f"{name}.jinja").read_text()) == {"": 300}


@pytest.mark.parametrize("name", ["qwen2_5_vl", "phi3", "llama3_training"])
def test_a_template_without_tools_loses_every_call_and_every_tool(name: str) -> None:
    assert losses((TEMPLATES / f"{name}.jinja").read_text()) == {"its call": 153, "the tool": 38, "": 109}


def test_the_bundled_model_knows_no_tools() -> None:
    assert losses(AutoTokenizer.from_pretrained(resolve(BUNDLED)).chat_template)["its call"] == 153


def rendered(*shown: str) -> str:
    """What is left out where only these parts of the conversation are shown."""

    def render(messages: list[dict[str, Any]], tools: Any) -> str:
        function = messages[1]["tool_calls"][0]["function"]
        known = {
            "name": function["name"],
            "arguments": json.dumps(function["arguments"]),
            "keys": ",".join(function["arguments"]),
            "answer": messages[2]["content"],
            "tools": json.dumps(tools),
        }
        return " ".join(known[part] for part in shown)

    return left_out(MESSAGES, TOOLS, render)


@pytest.mark.parametrize(
    ("shown", "lost"),
    [
        (("name", "arguments", "answer", "tools"), ""),
        (("arguments", "answer", "tools"), "its call of weather"),
        (("name", "keys", "answer", "tools"), "place in its call of weather"),
        (("name", "arguments", "tools"), "what a tool answered"),
        (("name", "arguments", "answer"), "the tool weather"),
    ],
)
def test_each_part_is_missed_by_its_own_name(shown: tuple[str, ...], lost: str) -> None:
    """Although the question names the place, and the tools the function."""
    assert rendered(*shown) == lost


def test_every_one_of_several_calls_counts() -> None:
    other = {"type": "function", "function": {"name": "news", "arguments": {}}}
    messages = [ASKED[0], {**ASKED[1], "tool_calls": [CALL, other]}, *MESSAGES[2:]]
    first_only = left_out(messages, None, lambda turns, _: str([*turns[2:], turns[1]["tool_calls"][0]]))
    assert first_only == "its call of news"


def test_a_conversation_without_tools_costs_no_rendering() -> None:
    def refuse(messages: Any, tools: Any) -> str:
        raise AssertionError

    assert left_out([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}], None, refuse) == ""


@pytest.mark.parametrize("tools", [{"weather": {}}, ["weather"], [{"function": 5}]], ids=str)
def test_tools_of_an_unknown_form_are_left_as_they_are(tools: Any) -> None:
    assert left_out(MESSAGES[:1], tools, lambda messages, kit: json.dumps(kit)) == ""


def calling(*names: str) -> list[dict[str, Any]]:
    """Rows in which a function is called, and one plain row for each empty name."""
    calls = [f'{{"name": "{name}", "arguments": {{}}}}' for name in names]
    answers = [
        {"from": "function_call", "value": call} if name else {"from": "gpt", "value": "Ho"}
        for name, call in zip(names, calls, strict=True)
    ]
    return [{"conversations": [{"from": "human", "value": "Hi"}, answer]} for answer in answers]


@pytest.mark.parametrize("streaming", [False, True], ids=["prepared", "streamed"])
def test_rows_whose_calls_the_template_leaves_out_are_not_trained_as_empty_answers(
    tmp_path: Path, train: Train, streaming: bool
) -> None:
    data = register(tmp_path / "own", some=calling(*[""] * 4, "weather", "news"), all=calling("weather", "news"))
    spec = {name: {"file_name": f"{name}.json", "formatting": "sharegpt"} for name in ("some", "all")}
    (data / "dataset_info.json").write_text(json.dumps(spec))
    why = "the model's chat template leaves out what they say of tools, first its call of weather: choose a model"
    keys = {"dataset_dir": str(data), "max_steps": 4, "per_device_train_batch_size": 1, "streaming": streaming}
    run = train(dataset=["some"], **keys)
    assert f"2 of 6 rows left out: {why}" in run.notes
    with pytest.raises(DatasetError, match=f"nothing to train on. 2 of 2 rows left out: {why}"):
        train("none", dataset=["all"], **keys)
