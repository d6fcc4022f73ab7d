"""The proof of a merge: every wrong one is told from the right one, and every figure is the one computed anew here."""

from __future__ import annotations

import gc
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from studio import models
from studio.config.load import parse, save
from studio.config.train import TrainConfig
from studio.exports import report as reports
from studio.worker.merging import account, comparison, live, questions
from studio.worker.merging.comparison import compare
from studio.worker.merging.ledger import Written
from studio.worker.merging.proof import Comparison, Prover, Request, Unproven, objections
from studio.worker.merging.work import Share
from studio.worker.stop import STOPPED
from tests.worker.conftest import Start, make_model, register
from tests.worker.merging import bases

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
DOWN = "model.layers.1.mlp.down_proj.weight"
NORM = "model.norm.weight"
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module", autouse=True)
def _short_answers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "ANSWER_TOKENS", 8)
        yield


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bases.make_adapter(tmp_path_factory.mktemp("adapter") / "it", tiny_model, target_modules=ALL)


@pytest.fixture(scope="module")
def other(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bases.make_adapter(tmp_path_factory.mktemp("other") / "it", tiny_model, seed=2, target_modules=["q_proj"])


@pytest.fixture(scope="module")
def merged(tiny_model: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return merge(tiny_model, [Share(adapter)], tmp_path_factory.mktemp("merged") / "it")


@pytest.fixture(scope="module")
def found(tiny_model: Path, adapter: Path, merged: Path) -> Comparison:
    return compare(request(tiny_model, merged, adapter), lambda what: None)


def merge(base: Path, shares: list[Share], target: Path, dtype: str = "auto") -> Path:
    bases.merged(base, shares, target, dtype)
    for path in base.iterdir():
        if not (target / path.name).exists():
            shutil.copy(path, target)
    return target


def request(base: Path, merged: Path, *adapters: Path, weights: tuple[float, ...] = ()) -> Request:
    shares = weights or (1.0,) * len(adapters)
    return Request(str(base), tuple(map(str, adapters)), shares, str(merged))


def changed(merged: Path, target: Path, change: Callable[[Tensors], object]) -> Path:
    """A copy of a merged model, of which `change` spoils some tensors."""
    shutil.copytree(merged, target)
    tensors = {name: tensor.clone() for name, tensor in load_file(target / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


# what is right passes


def test_a_right_merge_passes(found: Comparison) -> None:
    assert objections(found) == ()
    assert found.probed == 20  # 14 linear layers, the embedding, 5 norms
    assert 0 < found.deviation <= 1
    assert found.same_answers == len(found.asked) == 5
    assert found.kl_base > 1000 * found.kl


def test_one_model_is_in_memory_at_a_time(tiny_model: Path, adapter: Path, merged: Path) -> None:
    def models_held() -> int:
        gc.collect()
        return sum(type(each) is LlamaForCausalLM for each in gc.get_objects())

    before, held = models_held(), []
    compare(request(tiny_model, merged, adapter), lambda what: held.append(models_held()))
    assert held == [before, before]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_merge_into_another_type_passes(tiny_model: Path, adapter: Path, tmp_path: Path, dtype: str) -> None:
    right = merge(tiny_model, [Share(adapter)], tmp_path / "merged", dtype)
    assert objections(compare(request(tiny_model, right, adapter), lambda what: None)) == ()


def test_several_adapters_pass_with_their_own_shares_only(
    tiny_model: Path, adapter: Path, other: Path, tmp_path: Path
) -> None:
    right = merge(tiny_model, [Share(adapter, 0.7), Share(other, -1.5)], tmp_path / "merged")
    asked = request(tiny_model, right, adapter, other, weights=(0.7, -1.5))
    assert objections(compare(asked, lambda what: None)) == ()
    wrong = compare(replace(asked, weights=(0.7, 1.5)), lambda what: None)
    assert set(wrong.wrong) == {f"model.layers.{layer}.self_attn.q_proj" for layer in (0, 1)}


def test_adapters_that_are_no_sums_pass(tiny_model: Path, other: Path, tmp_path: Path) -> None:
    options = {"target_modules": ["down_proj"], "use_dora": True, "modules_to_save": ["norm"]}
    dora = bases.make_adapter(tmp_path / "dora", tiny_model, seed=3, **options)
    right = merge(tiny_model, [Share(dora), Share(other)], tmp_path / "merged")
    assert objections(compare(request(tiny_model, right, dora, other), lambda what: None)) == ()


# what is wrong never does


def lose_a_module(base: Path) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({DOWN: load_file(base / "model.safetensors")[DOWN]})


def scale(share: float) -> Callable[[Path], Callable[[Tensors], object]]:
    def of(base: Path) -> Callable[[Tensors], object]:
        old = load_file(base / "model.safetensors")
        return lambda tensors: tensors.update(
            {name: old[name].lerp(tensor, share) for name, tensor in tensors.items() if "_proj" in name}
        )

    return of


def put(name: str, value: float) -> Callable[[Path], Callable[[Tensors], object]]:
    return lambda base: lambda tensors: tensors[name].view(-1)[3:4].fill_(value)


def turn(base: Path) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update(
        {"model.layers.0.self_attn.q_proj.weight": tensors["model.layers.0.self_attn.q_proj.weight"].T.contiguous()}
    )


SPOILT: dict[str, tuple[Callable[[Path], Callable[[Tensors], object]], str]] = {
    "one module lost": (lose_a_module, "model.layers.1.mlp.down_proj differs by more than rounding"),
    "nothing merged": (scale(0.0), "nats a token away"),
    "scaled too little": (scale(0.9), "differs by more than rounding"),
    "merged twice": (scale(2.0), "differs by more than rounding"),
    "a NaN": (put(DOWN, float("nan")), f"{DOWN} holds NaN or infinite numbers"),
    "an infinity": (put("model.embed_tokens.weight", float("inf")), "holds NaN or infinite numbers"),
    "a norm": (put(NORM, 1.5), f"{NORM} differs by more than rounding"),
    "a weight turned": (turn, "q_proj differs by more than rounding"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_wrong_merge_never_passes(tiny_model: Path, adapter: Path, merged: Path, tmp_path: Path, case: str) -> None:
    spoil, told = SPOILT[case]
    wrong = changed(merged, tmp_path / "wrong", spoil(tiny_model))
    found = compare(request(tiny_model, wrong, adapter), lambda what: None)
    assert told in "; ".join(objections(found))
    verdict = account.report(origin(tiny_model, adapter), found, NOTHING)
    assert not verdict.passed
    assert verdict.verdict.startswith("In quarantine: this is not base plus adapter, because ")


def test_a_lost_module_is_found_where_only_16_bits_fit(
    tiny_model: Path, adapter: Path, merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory: Any = type("Memory", (), {"available": 4 * models.check(tiny_model).parameters})
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    found = compare(request(tiny_model, merged, adapter), lambda what: None)
    assert (found.computed_in, objections(found)) == ("bfloat16", ())
    wrong = changed(merged, tmp_path / "wrong", lose_a_module(tiny_model))
    found = compare(request(tiny_model, wrong, adapter), lambda what: None)
    assert found.wrong == (DOWN.removesuffix(".weight"),)


def test_a_merge_into_another_base_of_equal_shape_never_passes(
    tiny_model: Path, adapter: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    stranger = make_model(tmp_path / "stranger", tokenizer_dir)
    weights = load_file(stranger / "model.safetensors")
    other = {name: tensor.flip(0).contiguous() for name, tensor in weights.items()}
    save_file(other, stranger / "model.safetensors", metadata={"format": "pt"})
    wrong = merge(stranger, [Share(adapter)], tmp_path / "merged")
    found = compare(request(tiny_model, wrong, adapter), lambda what: None)
    assert len(found.wrong) > 14
    assert len(objections(found)) == 2


def test_an_adapter_that_hardly_changes_anything_passes(found: Comparison) -> None:
    assert objections(replace(found, kl=1.6e-5, kl_base=1.4e-4)) == ()
    assert objections(replace(found, kl=2e-3, kl_base=1.9e-2))


@pytest.mark.parametrize("figure", ["kl", "kl_base"])
def test_a_figure_that_is_no_number_never_passes(found: Comparison, figure: str) -> None:
    assert objections(replace(found, **{figure: float("nan")}))


# figures


def test_each_figure_is_the_one_computed_anew(tiny_model: Path, adapter: Path, merged: Path, found: Comparison) -> None:
    tokenizer = AutoTokenizer.from_pretrained(merged)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    model = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
    kls, of_base, differences = [], [], []
    with torch.no_grad():
        rows = []
        for text in questions.FIXED:
            prompt = tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
            )["input_ids"]
            rows.append((prompt, base(prompt).logits))
        tuned = PeftModel.from_pretrained(base, str(adapter)).eval()
        for (prompt, _), asked in zip(rows, found.asked, strict=True):
            ids = prompt
            for _ in range(comparison.ANSWER_TOKENS):
                token = tuned(ids).logits[:, -1].argmax(-1, keepdim=True)
                ids = torch.cat([ids, token], dim=1)
                if token.item() == tokenizer.eos_token_id:
                    break
            assert tokenizer.decode(ids[0, prompt.shape[1] :], skip_special_tokens=True) == asked.adapter
            wanted, got = tuned(ids).logits[0, -64:].double(), model(ids).logits[0, -64:].double()
            with tuned.disable_adapter():
                untouched = tuned(ids).logits[0, -64:].double()
            p = torch.softmax(wanted, -1)
            kl = (p * (torch.log(p) - torch.log_softmax(got, -1))).sum(-1)
            of_base.append((p * (torch.log(p) - torch.log_softmax(untouched, -1))).sum(-1))
            assert asked.positions == len(kl)
            assert asked.kl == pytest.approx(kl.mean().item(), rel=1e-3, abs=1e-10)
            assert asked.max_difference == pytest.approx((wanted - got).abs().max().item(), rel=1e-3)
            kls.append(kl)
            differences.append((wanted - got).abs())
    assert found.kl == pytest.approx(torch.cat(kls).mean().item(), rel=1e-3, abs=1e-10)
    assert found.kl_base == pytest.approx(torch.cat(of_base).mean().item(), rel=1e-3)
    assert found.max_difference == pytest.approx(max(each.max().item() for each in differences), rel=1e-3)
    assert found.mean_difference == pytest.approx(torch.cat(differences).mean().item(), rel=1e-3)


NOTHING = Written(inputs={"/a": "12"}, outputs={"model.safetensors": "34"}, bytes_read=1, bytes_written=2)


def origin(base: Path, adapter: Path) -> account.Origin:
    return account.Origin(str(base), (str(adapter),), (1.0,), warnings=("it is another model",))


def test_the_report_tells_what_was_found(tiny_model: Path, adapter: Path, found: Comparison, tmp_path: Path) -> None:
    written = replace(NOTHING, seconds={"merging": 1.25}, peak_bytes=300_000_000)
    told = account.report(origin(tiny_model, adapter), found, written)
    reports.write(told, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert told.passed
    assert "5 of 5 greedy answers are the same, and each of 20 weights" in told.verdict
    for figure in (f"{found.kl:.2e}", f"{found.kl_base:.2e}", f"{found.max_difference:.2e}", "1.25", "300 MB", "34"):
        assert figure in text
    assert "Beware: it is another model." in text
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["facts"]["proof"]["kl"] == found.kl
    assert record["facts"]["written"]["outputs"] == {"model.safetensors": "34"}
    assert reports.read(tmp_path) is not None


def test_a_merge_that_was_not_compared_says_so(tiny_model: Path, adapter: Path) -> None:
    unproven = account.report(origin(tiny_model, adapter), "it is too large", NOTHING)
    assert (unproven.passed, "because it is too large" in unproven.verdict) == (False, True)
    unasked = account.report(origin(tiny_model, adapter), None, NOTHING)
    assert (unasked.passed, "as asked" in unasked.verdict) == (True, True)


# what is asked


def test_the_training_s_own_rows_are_asked(tmp_path: Path, adapter: Path) -> None:
    rows = [{"instruction": f"Row {number}?", "input": "", "output": "Yes."} for number in range(3)]
    data = register(tmp_path / "data", mine=rows)
    run = tmp_path / "run"
    run.mkdir()
    values = {"dataset": "mine", "dataset_dir": str(data), "default_system": "Be brief."}
    save(parse(TrainConfig, values), run / "config.yaml")
    asked = questions.questions([run / "adapter", adapter])
    assert [question[-1]["content"] for question in asked] == ["Row 0?", "Row 1?", "Row 2?", *questions.FIXED[:2]]
    assert asked[0][0] == {"role": "system", "content": "Be brief."}


def test_rows_that_are_gone_are_not_missed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save(parse(TrainConfig, {"dataset": "gone", "dataset_dir": str(tmp_path)}), run / "config.yaml")
    assert [question[-1]["content"] for question in questions.questions([run / "adapter"])] == list(questions.FIXED)


# the process


@pytest.fixture(scope="module")
def prover() -> Iterator[Prover]:
    with Prover() as made:
        yield made


def test_the_process_finds_what_is_found_here(
    prover: Prover, tiny_model: Path, adapter: Path, merged: Path, found: Comparison
) -> None:
    heard: list[str] = []
    got = prover.compare(request(tiny_model, merged, adapter), heard.append)
    assert (got.deviation, got.probed) == (pytest.approx(found.deviation, rel=1e-3), found.probed)
    assert [each.adapter[:4] for each in got.asked] == [each.adapter[:4] for each in found.asked]
    assert heard == ["base plus adapter answers", "the merged model answers"]
    assert got.peak_bytes > 100_000_000


def test_what_cannot_be_compared_is_told_in_words(prover: Prover, tiny_model: Path, adapter: Path) -> None:
    with pytest.raises(Unproven, match="nowhere"):
        prover.compare(request(tiny_model, Path("/nowhere"), adapter), lambda what: None)


def test_a_process_that_was_killed_is_told_as_such(tiny_model: Path, adapter: Path) -> None:
    with Prover() as prover:
        prover._process.kill()
        with pytest.raises(Unproven, match="killed, most likely for want of memory"):
            prover.compare(request(tiny_model, tiny_model, adapter), lambda what: None)


def test_a_model_that_does_not_fit_is_not_loaded(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    free: Any = type("Memory", (), {"available": 1000})
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    with pytest.raises(Unproven, match="too large for"):
        live.precision(tiny_model)


def test_a_stop_during_the_comparison_ends_both_processes(start: Start, adapter: Path) -> None:
    worker = start("merge", adapter_name_or_path=str(adapter))
    worker.until(lambda: worker.phase == "verifying")
    children = psutil.Process(worker.process.pid).children()
    started = time.monotonic()
    (worker.run_dir / "STOP").touch()
    assert worker.wait() == STOPPED, worker.log
    assert time.monotonic() - started < 2
    _, alive = psutil.wait_procs(children, timeout=2)
    assert children
    assert alive == []
    assert {path.name for path in worker.run_dir.iterdir()} == {"config.yaml", "log.txt", "status.json", "STOP"}
