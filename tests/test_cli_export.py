"""`python -m studio export` and the commands that are built like it: what words mean before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from studio.cli import front
from studio.cli.export import KINDS, command
from studio.config.load import load_run_config
from studio.config.merge import MergeConfig
from studio.config.option import options
from studio.config.push import PushConfig
from studio.errors import ConfigError

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDBED_SAVES", str(tmp_path / "saves"))
    monkeypatch.chdir(tmp_path)


def test_without_a_kind_it_names_those_there_are(capsys: Captured) -> None:
    assert front.main(["export"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n  {kind} " in told for kind in KINDS)
    assert front.main(["export", "onnx"]) == 2
    told = capsys.readouterr().err
    assert "There is no export 'onnx'." in told
    assert all(kind in told for kind in KINDS)


def test_help_lists_every_option(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        front.main(["merge", "--help"])
    told = capsys.readouterr().out
    assert all(f"\n  {option.key}=" in told for option in options(MergeConfig))
    assert "export_dtype=auto|float32|bfloat16|float16 [auto]" in told


@pytest.mark.parametrize("words", [["merge"], ["export", "merge"]], ids=" ".join)
def test_a_dry_run_prints_the_whole_configuration(words: list[str], tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "here").mkdir()
    assert front.main([*words, "here", "20260101-run", "adapter_weights=0.5,0.5", "export_dir=out", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    values = yaml.safe_load(printed)
    assert values["adapter_name_or_path"] == [str(tmp_path / "here"), "20260101-run"]
    assert values["export_dir"] == str(tmp_path / "out")
    (tmp_path / "again.yaml").write_text(printed)
    assert front.main(["export", "again.yaml", "--dry-run"]) == 0
    assert capsys.readouterr().out == printed
    assert load_run_config(tmp_path / "again.yaml").kind == "merge"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("adapter_name_or_path: a", "merge"),
        (
            "{model_name_or_path: seedling, export_quantization_bit: 4, export_quantization_dataset: identity}",
            "quantize",
        ),
        ("{kind: gguf, model_name_or_path: seedling}", "gguf"),
        ("{kind: quantize, model_name_or_path: seedling, export_quantization_dataset: identity}", "quantize"),
    ],
    ids=["merge", "quantised", "ours", "ours quantised"],
)
def test_a_file_says_by_its_keys_what_it_wants(text: str, kind: str, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "it.yaml").write_text(text)
    extra = ["eval_dataset=alpaca_demo"] if kind == "quantize" else []
    assert front.main(["export", "it.yaml", *extra, "--dry-run"]) == 0, capsys.readouterr().err
    assert yaml.safe_load(capsys.readouterr().out)["kind"] == kind


def test_keys_without_effect_are_told(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "it.yaml").write_text("adapter_name_or_path: a\nstage: sft\nlearning_rate: 1.0e-4\n")
    front.main(["export", "it.yaml", "--dry-run"])
    told = capsys.readouterr().err
    assert "left out: stage: it only matters in training" in told
    assert "left out: learning_rate" in told


def test_what_llamafactory_cannot_do_takes_none_of_its_keys(capsys: Captured) -> None:
    assert front.main(["export", "gguf", "seedling", "stage=sft", "--dry-run"]) == 2
    assert capsys.readouterr().err == "stage: there is no such option\n"


def test_every_problem_is_told_before_a_run_is_made(tmp_path: Path, capsys: Captured) -> None:
    assert front.main(["merge", "nowhere", "model_name_or_path=./gone"]) == 2
    told = capsys.readouterr().err
    assert "adapter_name_or_path: 'nowhere' is neither an adapter folder nor a run" in told
    assert f"model_name_or_path: {tmp_path / 'gone'} is not a folder" in told
    assert not (tmp_path / "saves").exists() or not any((tmp_path / "saves").iterdir())


def test_a_folder_with_an_equals_sign_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "r=8").mkdir()
    assert command.read(MergeConfig, ["r=8", "export_size=2"]) == {"adapter_name_or_path": ["r=8"], "export_size": 2}


def test_words_without_a_key_are_taken_in_order() -> None:
    wanted = {"model_name_or_path": "model", "hub_model_id": "rosa/bramble"}
    assert command.read(PushConfig, ["model", "rosa/bramble"]) == wanted
    with pytest.raises(ConfigError, match="one word too many"):
        command.read(PushConfig, ["model", "rosa/bramble", "more"])


def test_a_file_that_is_not_there_is_told(capsys: Captured) -> None:
    assert front.main(["export", "gone.yaml"]) == 2
    assert "there is no such file" in capsys.readouterr().err
