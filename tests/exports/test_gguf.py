"""What a conversion to GGUF says and refuses before it starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from studio.cli import front
from studio.config.gguf import OUTTYPES, GgufConfig
from studio.config.load import parse
from studio.config.merge import MergeConfig
from studio.config.train import TrainConfig
from studio.errors import ConfigError
from studio.exports import gguf
from studio.exports.gguf import plan
from studio.files import write_json
from studio.runs.store import Store
from studio.settings import ASSETS

needs_converter = pytest.mark.skipif(
    not (gguf.CONVERTER / "conversion").is_dir(), reason="llama.cpp's converter is not installed: make extras"
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "saves")


@pytest.fixture
def seedling(tmp_path: Path) -> Path:
    """A copy whose config.json may be changed."""
    return Path(shutil.copytree(ASSETS / "seedling", tmp_path / "seedling"))


def change(folder: Path, **entries: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, **entries})


def request(model: Path | str = "seedling", outtype: str = "q8_0", **keys: object) -> GgufConfig:
    return parse(GgufConfig, {"model_name_or_path": str(model), "outtype": outtype, **keys})


def test_types_are_read_in_any_spelling() -> None:
    assert request(outtype="Q4_K_M, q8_0,q8_0").outtype == ("q4_k_m", "q8_0")
    with pytest.raises(ConfigError, match=r"outtype: q9_9 cannot be written: choose from f32, f16"):
        request(outtype="q9_9,f16")
    with pytest.raises(ConfigError, match="outtype: choose one or more"):
        request(outtype="")


@needs_converter
def test_the_plan_has_a_size_for_each_type(store: Store) -> None:
    told = plan(store, request(outtype=",".join(OUTTYPES)))
    assert [line.partition(":")[0] for line in told.lines[: len(OUTTYPES)]] == list(OUTTYPES)
    assert told.lines[0] == "f32: about 23.1 MB"
    assert any("q4_k_m is the common choice" in warning for warning in told.warnings)


@needs_converter
@pytest.mark.parametrize(
    ("outtype", "scratch"), [("q8_0,f16", None), ("q4_0", "bf16"), ("q4_0,bf16", None), ("q4_0,f16", "bf16")]
)
def test_a_file_to_make_others_of_is_counted(store: Store, outtype: str, scratch: str | None) -> None:
    model = gguf.source(store, request())
    assert gguf.scratch_type(model, request(outtype=outtype).outtype) == scratch
    lines = " ".join(plan(store, request(outtype=outtype)).lines)
    assert ("for the bf16 file" in lines) == bool(scratch)


@needs_converter
def test_unknown_architectures_and_packed_weights_are_refused_together(store: Store, seedling: Path) -> None:
    change(seedling, architectures=["DreamOfTomorrowForCausalLM"], quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(ConfigError) as refused:
        plan(store, request(seedling))
    assert "does not know DreamOfTomorrowForCausalLM" in str(refused.value)
    assert "it is quantised (bitsandbytes)" in str(refused.value)


@needs_converter
def test_what_was_quantised_before_is_warned_of(store: Store, seedling: Path) -> None:
    change(seedling, quantization_config={"quant_method": "gptq"})
    assert "It is quantised (gptq) already" in plan(store, request(seedling)).warnings[0]


def test_without_the_converter_one_sentence_says_how_to_get_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf, "CONVERTER", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"llama\.cpp's converter is not installed: run `make extras` once"):
        plan(store, request())


@needs_converter
def test_a_full_disk_is_seen_before_anything_is_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=40_000_000))
    with pytest.raises(ConfigError, match=r"the conversion needs 53\.1 MB, 40 MB are free: make room"):
        plan(store, request(outtype="f32"))


def test_files_are_called_after_the_steps_that_made_the_model(store: Store) -> None:
    trained = store.create(parse(TrainConfig, {"model_name_or_path": "seedling", "dataset": "identity"}))
    merged = store.create(parse(MergeConfig, {"adapter_name_or_path": trained.id}))
    write_json(merged.path / "result.json", {"output": "model"})
    (merged.path / "model").mkdir()
    assert gguf.name_of(store, request(merged.id)) == "identity-merged"
    assert gguf.name_of(store, request(merged.id, run_name="sprout")) == "sprout"
    assert gguf.name_of(store, request(str(merged.path / "model"))) == "identity-merged"
    assert gguf.name_of(store, request()) == "seedling"
    facts = gguf.facts(store, request(merged.id))
    assert facts["general.base_models"] == [{"name": "seedling"}]
    assert facts["general.datasets"] == [{"name": "identity"}]


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert front.main(["export", "gguf", "seedling", "outtype=q9_9"]) == 2
    assert "q9_9 cannot be written" in capsys.readouterr().err


def test_the_command_reads_types_in_any_spelling(capsys: pytest.CaptureFixture[str]) -> None:
    assert front.main(["export", "gguf", "seedling", "outtype=Q8_0,q4_k_m", "--dry-run"]) == 0
    assert "- q8_0\n- q4_k_m\n" in capsys.readouterr().out
