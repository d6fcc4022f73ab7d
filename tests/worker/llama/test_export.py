"""A conversion to GGUF from its request to its files, as a run; and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import psutil
import pytest
from gguf import GGUFReader

from studio.config.gguf import GgufConfig
from studio.config.load import parse, save
from studio.errors import ModelError
from studio.exports import gguf, report
from studio.files import write_json
from studio.settings import ASSETS
from studio.worker.door import Clock, Desk
from studio.worker.llama import conversion, export, proof, trial
from studio.worker.llama.library import Model
from studio.worker.llama.texts import PROMPTS
from studio.worker.report import Reporter
from studio.worker.stop import STOPPED, Requests
from tests.worker.conftest import CHATML, TEXT, Finished, make_model, spawn

SEEDLING = ASSETS / "seedling"
pytestmark = pytest.mark.skipif(
    not (gguf.CONVERTER / "conversion").is_dir(), reason="llama.cpp's converter is not installed: make extras"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """A tiny model whose folder has a name that people give, and whose rows fill blocks of 256."""
    folder = tmp_path_factory.mktemp("models") / "mein 模型"
    return make_model(folder, tokenizer_dir, hidden_size=256, intermediate_size=256, tie_word_embeddings=False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Finished:
    """The run of an export of two types."""
    run_dir = tmp_path_factory.mktemp("saves") / "20260101-000000-abcdef"
    run_dir.mkdir()
    keys = {"model_name_or_path": str(model), "outtype": "Q8_0, q4_k_m"}
    save(parse(GgufConfig, keys), run_dir / "config.yaml")
    worker = spawn("gguf", run_dir)
    assert worker.wait() == 0, worker.log
    return worker


def test_each_type_is_one_file_named_after_the_model(exported: Finished) -> None:
    names = {path.name for path in (exported.run_dir / "gguf").iterdir()}
    assert names == {"mein 模型-q8_0.gguf", "mein 模型-q4_k_m.gguf"}
    assert exported.json("result.json")["output"] == "gguf"
    assert not (exported.run_dir / "tmp").exists()


def test_files_carry_tokenizer_template_and_name(exported: Finished) -> None:
    reader = GGUFReader(exported.run_dir / "gguf" / "mein 模型-q4_k_m.gguf")
    facts = {name: field.contents() for name, field in reader.fields.items()}
    assert facts["general.name"] == "mein 模型"
    assert facts["general.file_type"] == 15
    assert facts["tokenizer.ggml.tokens"][1] == "<|im_start|>"
    assert "{%- if true %}" in facts["tokenizer.chat_template"]
    assert "generation %" not in facts["tokenizer.chat_template"]
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert types["output.weight"] == "Q6_K"
    assert types["blk.0.attn_q.weight"] == "Q4_K"


def test_the_report_has_each_type_against_the_original(exported: Finished) -> None:
    told = report.read(exported.run_dir)
    assert told is not None
    assert told.passed
    assert "Every file loads in llama.cpp" in told.verdict
    files = told.sections[0].table
    assert files is not None
    assert [row[0] for row in files.rows] == ["q8_0", "q4_k_m"]
    assert [row[-1] for row in files.rows] == ["equal", "equal"]
    assert 0 <= told.facts["kl"]["q8_0"] < 0.01
    assert "file, which was put to the same test (KL " in told.sections[0].text
    assert len(told.sections[2].answers) == 4
    assert told.facts["pre_tokenizer"] == "qwen2"  # unknown to the converter: the first that no token tells apart


def test_llama_cpp_reads_conversations_as_transformers_does(exported: Finished, model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    turns = [{"role": "user", "content": "Who are you? 你是谁？ It's 42."}]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    with Model(exported.run_dir / "gguf" / "mein 模型-q8_0.gguf") as loaded:
        assert loaded.tokens(text) == tokenizer(text, add_special_tokens=False).input_ids
        assert loaded.text([5, 6]) == tokenizer.decode([5, 6])


def test_what_coarse_types_would_hide_is_seen_in_the_file_that_they_are_made_of(tmp_path: Path) -> None:
    """Query and key rows in another order, as converters for Llama have got wrong, cost less than two bits do."""
    model, work = SEEDLING, tmp_path / "work"
    work.mkdir()
    made = conversion.convert_all(model, {"q2_k": tmp_path / "m.gguf"}, {}, lambda done, total: None, work)
    assert made.source is not None
    assert made.source.path.parent == work
    reader = GGUFReader(made.source.path, "r+")
    for tensor in reader.tensors:
        if "attn_q.weight" in tensor.name or "attn_k.weight" in tensor.name:
            rows = tensor.data.reshape(-1, 2, 32, tensor.data.shape[-1])
            tensor.data[...] = rows.swapaxes(1, 2).reshape(tensor.data.shape).copy()
    reader.data.flush()
    bad = proof.prove(model, made, work, lambda what: None)
    assert len(bad.wrong) == 1
    assert "computes another model" in bad.wrong[0]


def test_answers_end_in_llama_cpp_where_the_original_ends_them(tmp_path: Path, model: Path) -> None:
    """A token whose name says nothing, named by generation_config.json alone."""
    folder = shutil.copytree(model, tmp_path / "m")
    write_json(folder / "generation_config.json", {"eos_token_id": [7, 2]})
    conversion.convert(folder, tmp_path / "m.gguf", "f16", lambda done, total: None)
    with Model(tmp_path / "m.gguf") as loaded:
        assert loaded.ends(7)
        assert loaded.ends(2)
        assert not loaded.ends(8)
        answers = {f"answer{number}": np.array([5, 7], np.int32) for number in range(len(PROMPTS))}
        trial._require_ends(loaded, answers, tmp_path / "m.gguf")
        with pytest.raises(ModelError, match=r"m\.gguf would not stop .* \(token 8\)"):
            trial._require_ends(loaded, {**answers, "answer0": np.array([8], np.int32)}, tmp_path / "m.gguf")


def test_sentencepiece_with_tokens_added_by_transformers(tmp_path: Path) -> None:
    """The converter reads tokenizer.model and misses what Transformers 5 keeps in tokenizer.json alone."""
    import sentencepiece
    from transformers import AutoTokenizer

    folder = tmp_path / "pieces"
    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 20), model_prefix=str(folder / "tokenizer"), vocab_size=400, model_type="bpe",
        byte_fallback=True, hard_vocab_limit=False, remove_extra_whitespaces=False,
        normalization_rule_name="identity", minloglevel=2,
    )  # fmt: skip
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "legacy": False})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    model = make_model(tmp_path / "model", folder, vocab_size=len(tokenizer))
    conversion.convert(model, tmp_path / "m.gguf", "f16", lambda done, total: None)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Who are you?"}], tokenize=False)
    with Model(tmp_path / "m.gguf") as loaded:
        assert loaded.tokens(text) == tokenizer(text, add_special_tokens=False).input_ids


def test_a_tokenizer_that_llama_cpp_cannot_be_is_refused(tmp_path: Path, model: Path) -> None:
    """One that takes every letter for itself, after turning the text around."""
    folder = shutil.copytree(model, tmp_path / "odd")
    data = json.loads((folder / "tokenizer.json").read_text())
    data["normalizer"] = {"type": "Replace", "pattern": {"String": "e"}, "content": "o"}
    (folder / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(ModelError, match=r"none of llama\.cpp's pre-tokenizers splits text as this tokenizer does"):
        conversion.convert(folder, tmp_path / "odd.gguf", "f16", lambda done, total: None)
    assert not (tmp_path / "odd.gguf").exists()
    assert not (tmp_path / ".making").exists()


def test_a_stop_ends_the_converter_too(tmp_path: Path, model: Path) -> None:
    run_dir = tmp_path / "20260101-000000-abcdef"
    run_dir.mkdir()
    save(parse(GgufConfig, {"model_name_or_path": str(model)}), run_dir / "config.yaml")
    worker = spawn("gguf", run_dir)
    worker.until(lambda: worker.phase == "converting" and psutil.Process(worker.process.pid).children())
    children = psutil.Process(worker.process.pid).children(recursive=True)
    (run_dir / "STOP").touch()
    assert worker.wait(5) == STOPPED
    assert psutil.wait_procs(children, timeout=2)[1] == []
    assert not (run_dir / "tmp").exists()
    assert not (run_dir / "gguf").exists()


def test_a_file_that_is_not_the_model_is_put_where_nothing_uses_it(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    (run_dir / "tmp" / "gguf").mkdir(parents=True)
    (run_dir / "tmp" / "gguf" / "m-q8_0.gguf").write_bytes(b"GGUF")
    reporter = Reporter(run_dir)
    desk = Desk(run_dir, reporter, Requests(run_dir, last_words=lambda: None), Clock())
    told = report.Report("GGUF", "In quarantine: q8_0 is another model.", passed=False)
    with pytest.raises(ModelError, match="q8_0 is another model"):
        export.quarantine(desk, run_dir / "tmp" / "gguf", told)
    reporter.close()
    kept = report.read(run_dir)
    assert kept is not None
    assert (Path(kept.facts["quarantine"]) / "m-q8_0.gguf").exists()
    assert not (run_dir / "gguf").exists()
