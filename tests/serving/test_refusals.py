"""What this machine cannot do is said before anything starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from studio import templates
from studio.config.serve import ServeConfig
from studio.errors import ConfigError
from studio.serving import command, refusals


def refused(config: ServeConfig, on: command.Platform = "cpu") -> dict[str, str]:
    return {problem.where: problem.what for problem in refusals.refusals(config, on)}


def template(folder: Path, text: str) -> ServeConfig:
    path = folder / "mine.jinja"
    path.write_text(text)
    return ServeConfig(chat_template=str(path))


def test_what_only_gpus_can() -> None:
    config = ServeConfig(
        pipeline_parallel_size=2, devices="0,1", enable_sleep_mode=True, quantization="fp8", enforce_eager=False
    )
    assert list(refused(config)) == [
        "pipeline_parallel_size", "devices", "enable_sleep_mode", "quantization", "enforce_eager",
    ]  # fmt: skip
    assert refused(config, "cuda") == {}


def test_more_workers_than_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    assert refused(ServeConfig(tensor_parallel_size=min(cores, 64))) == {}
    assert "cores" in refused(ServeConfig(tensor_parallel_size=2, threads=cores))["tensor_parallel_size"]


def test_parsers_that_vllm_does_not_know_are_answered_with_those_it_knows() -> None:
    found = refused(ServeConfig(tool_call_parser="herms", reasoning_parser="qwen3"))
    assert "did you mean hermes?" in found["tool_call_parser"]
    assert "llama3_json" in found["tool_call_parser"]
    assert "reasoning_parser" not in found


def test_a_hub_model_that_is_not_here_is_refused_at_once_where_nothing_may_be_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    config = ServeConfig(model_name_or_path="org/model", infer_backend="huggingface")
    with pytest.raises(ConfigError, match="'org/model' is not on this machine, and HF_HUB_OFFLINE is set"):
        refusals.check(config)
    (tmp_path / "models--org--model" / "snapshots" / "abc").mkdir(parents=True)
    (tmp_path / "models--org--model" / "refs").mkdir()
    (tmp_path / "models--org--model" / "refs" / "main").write_text("abc")
    refusals.check(config)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    refusals.check(config.model_copy(update={"model_name_or_path": "org/another"}))


def test_a_broken_template_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine.jinja, line 2: .*endfor"):
        refusals.check(template(tmp_path, "{% for message in messages %}\n{% endif %}"))


def test_a_template_that_is_no_text_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "weights.jinja").write_bytes(b"\xff\xfe\x00\x81")
    for name in ("weights.jinja", "nowhere.jinja"):
        with pytest.raises(ConfigError, match=f"{name} cannot be read"):
            refusals.check(ServeConfig(chat_template=str(tmp_path / name)))


@pytest.mark.parametrize("name", templates.names())
def test_every_template_of_our_own_is_taken(tmp_path: Path, name: str) -> None:
    refusals.check(template(tmp_path, templates.text(name)))


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    config = template(tmp_path, "{{").model_copy(update={"pipeline_parallel_size": 2, "tool_call_parser": "x"})
    with pytest.raises(ConfigError) as caught:
        refusals.check(config)
    assert {"chat_template", "tool_call_parser"} <= {problem.where for problem in caught.value.problems}
