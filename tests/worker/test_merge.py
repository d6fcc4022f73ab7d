"""Merges: what comes out is what PEFT computes, and what cannot be merged is refused by name."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from studio.worker.merging import plan, stream, verification
from studio.worker.outputs import DiskFull
from studio.worker.stop import STOPPED
from tests.worker.conftest import Disk, Start, Worker, make_model, spawn, write_config

EMBEDDING = "model.embed_tokens.weight"
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def make_adapter(folder: Path, model_dir: Path, **options: Any) -> Path:
    """A LoRA adapter with weights large enough to matter, as PEFT saves it."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    peft = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **options))
    for name, weight in peft.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
        elif "modules_to_save" in name:
            weight.data *= 1.5
    peft.save_pretrained(folder, save_embedding_layers=False)
    return folder


def merged(model_dir: Path, adapter: Path, target: Path, dtype: str = "auto", shard_bytes: int = 10**9) -> Path:
    target.mkdir()
    stream.write(plan(model_dir, [Share(adapter)], dtype), target, shard_bytes, lambda done, total: None)
    shutil.copy(model_dir / "config.json", target)
    return target


@pytest.mark.parametrize("dtype", ["auto", "float32", "float16", "bfloat16"])
def test_shards_and_types_are_as_asked(tiny_model: Path, tmp_path: Path, dtype: str) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model, target_modules=ALL)
    folder = merged(tiny_model, adapter, tmp_path / "merged", dtype, shard_bytes=60_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    sizes = {path.name: sum(w.nbytes for w in load_file(path).values()) for path in folder.glob("*.safetensors")}
    assert index["metadata"]["total_size"] == sum(sizes.values())
    assert set(index["weight_map"].values()) == set(sizes)
    assert len(sizes) > 2
    assert max(sizes.values()) <= 90_000  # one weight at least, however large
    expected = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
    assert {w.dtype for path in folder.glob("*.safetensors") for w in load_file(path).values()} == {expected}
    AutoModelForCausalLM.from_pretrained(folder)


def rewrite(adapter: Path, more: dict[str, torch.Tensor], without: str = "nothing") -> None:
    """Add weights to an adapter's file, or leave some out."""
    weights = load_file(adapter / "adapter_model.safetensors")
    kept = {name: weight for name, weight in weights.items() if without not in name}
    save_file({**kept, **more}, adapter / "adapter_model.safetensors")


def test_a_merge_that_lost_a_module_does_not_pass(tiny_model: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model, target_modules=ALL)
    part = shutil.copytree(adapter, tmp_path / "part")
    rewrite(part, {}, without="layers.1.mlp.down_proj")
    folder = merged(tiny_model, part, tmp_path / "merged")
    for path in tiny_model.glob("tokenizer*"):
        shutil.copy(path, folder)
    shutil.copy(tiny_model / "chat_template.jinja", folder)
    report = verification.compare(tiny_model, adapter, folder)
    with pytest.raises(verification.MergeFailed, match="differs from base plus adapter"):
        verification.require(report)
    verification.require(verification.compare(tiny_model, part, folder))


@pytest.fixture
def adapter(tiny_model: Path, tmp_path: Path) -> Path:
    """An adapter folder as a training leaves it."""
    folder = make_adapter(tmp_path / "adapter", tiny_model, target_modules=ALL)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny_model / name, folder)
    return folder


def test_a_merge_from_run_directory_to_model(start: Start, adapter: Path, tiny_model: Path) -> None:
    worker = start("merge", adapter_name_or_path=str(adapter))
    assert worker.wait() == 0, worker.log
    model = AutoModelForCausalLM.from_pretrained(worker.run_dir / "model")
    assert model.dtype == torch.bfloat16
    assert model.config.tie_word_embeddings
    assert AutoTokenizer.from_pretrained(worker.run_dir / "model").chat_template
    report = worker.json("report.json")
    assert report["kl"] < 0.02 * report["kl_base"]
    assert "Same greedy answers" in (worker.run_dir / "report.md").read_text()
    assert worker.json("result.json")["merged_weights"] == 14
    assert not (worker.run_dir / "tmp").exists()


def test_a_merge_in_float32_is_exact(start: Start, adapter: Path) -> None:
    worker = start("merge", adapter_name_or_path=str(adapter), export_dtype="float32")
    assert worker.wait() == 0, worker.log
    report = worker.json("report.json")
    assert report["max_difference"] < 1e-3
    assert report["same_answers"] == len(report["answers"])
    assert AutoModelForCausalLM.from_pretrained(worker.run_dir / "model").dtype == torch.float32


def test_what_cannot_be_merged_leaves_a_card_and_no_model(start: Start, adapter: Path) -> None:
    rewrite(adapter, {}, without="layers.0.self_attn.q_proj.lora_B")
    worker = start("merge", adapter_name_or_path=str(adapter))
    assert worker.wait() == 1
    assert "layers.0.self_attn.q_proj.lora_B.weight" in worker.json("error.json")["message"]
    assert not (worker.run_dir / "model").exists()


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> tuple[Path, Path]:
    """A model of 400 MB and its adapter: a merge that takes long enough to be interrupted."""
    folder = tmp_path_factory.mktemp("heavy")
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 12}
    model = make_model(folder / "model", tokenizer_dir, **sizes)
    return model, make_adapter(folder / "adapter", model, target_modules=ALL)


def under_way(worker: Worker) -> bool:
    return any((worker.run_dir / "tmp/model").glob("*.safetensors"))


def test_a_stop_leaves_nothing_behind(start: Start, heavy: tuple[Path, Path]) -> None:
    worker = start("merge", adapter_name_or_path=str(heavy[1]))
    worker.until(lambda: under_way(worker))
    started = time.monotonic()
    (worker.run_dir / "STOP").touch()
    assert worker.wait() == STOPPED, worker.log
    assert time.monotonic() - started < 2
    left = {path.name for path in worker.run_dir.iterdir()}
    assert left == {"config.yaml", "log.txt", "status.json", "STOP"}


def test_a_kill_leaves_no_model(start: Start, heavy: tuple[Path, Path]) -> None:
    worker = start("merge", adapter_name_or_path=str(heavy[1]))
    worker.until(lambda: under_way(worker))
    worker.kill()
    assert not (worker.run_dir / "model").exists()


def test_too_little_room_is_seen_before_anything_is_written(
    disk: Disk, heavy: tuple[Path, Path], tiny_model: Path
) -> None:
    run_dir = disk.path / "run"
    write_config(run_dir, "merge", tiny_model, tiny_model, {"adapter_name_or_path": str(heavy[1])})
    worker = spawn("merge", run_dir)
    assert worker.wait() == 1
    assert worker.json("error.json")["kind"] == DiskFull.__name__
    assert "GB left" in worker.json("error.json")["message"]


def test_memory_stays_below_the_size_of_the_model(heavy: tuple[Path, Path], tmp_path: Path) -> None:
    """The fold itself, without the verification: counted in a process of its own."""
    import subprocess
    import sys

    target = tmp_path / "merged"
    target.mkdir()
    code = (
        "import resource; from pathlib import Path; from studio.worker.merging import stream; "
        "from studio.worker.merging.plan import plan; from studio.worker.merging.work import Share\n"
        f"model, adapter, target = Path({str(heavy[0])!r}), Path({str(heavy[1])!r}), Path({str(target)!r})\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3\n"
        "before = peak(); stream.write(plan(model, [Share(adapter)]), target, 10**9, lambda *_: None)\n"
        "print(peak() - before)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    size_mb = (target / "model.safetensors").stat().st_size / 1e6
    assert float(output) < 0.5 * size_mb
