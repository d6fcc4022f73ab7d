"""Rows laid end to end are attended to as if each were alone, and no mask is made for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, masking_utils
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.worker import fast
from studio.worker.fast import attention
from tests.worker.conftest import Train

LENGTHS = (11, 3, 17, 1)
WINDOW = 5
SIZES = {
    **{"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    **{"sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 1},
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2}
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def tiny(kind: str, **keys: Any) -> PreTrainedModel:
    """A random model of that kind that computes by lengths, small but with shared keys and, if it can, a window."""
    attention.register()
    torch.manual_seed(0)
    sizes = {**SIZES, **(EXPERTS if "moe" in kind or kind == "mixtral" else {}), **keys}
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **sizes), attn_implementation=attention.NAME, dtype=torch.float32
    )
    attention.skip_masks(model)
    return model.eval()


def rows(device: torch.device = CPU) -> list[torch.Tensor]:
    chance = torch.Generator().manual_seed(1)
    return [torch.randint(3, 96, (1, length), generator=chance).to(device) for length in LENGTHS]


def batch(device: torch.device = CPU) -> dict[str, Any]:
    """All rows end to end."""
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None].to(device)
    return {"input_ids": torch.cat(rows(device), 1), "position_ids": positions, **attention.row_keys(LENGTHS, device)}


def flat(model: PreTrainedModel) -> torch.Tensor:
    """Logits of all rows, of one forward pass."""
    return model(**batch(model.device), use_cache=False).logits


def alone(model: PreTrainedModel) -> torch.Tensor:
    """The same logits, each row by itself as sdpa computes it."""
    model.set_attn_implementation("sdpa")
    try:
        return torch.cat([model(input_ids=row, use_cache=False).logits for row in rows(model.device)], 1)
    finally:
        model.set_attn_implementation(attention.NAME)


def slopes(model: PreTrainedModel, logits: torch.Tensor) -> list[torch.Tensor]:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    found = torch.autograd.grad(logits.square().mean(), weights, allow_unused=True)
    return [slope for slope in found if slope is not None]


def assert_same(model: PreTrainedModel, got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)
    for one, other in zip(slopes(model, got), slopes(model, wanted), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-3)


@pytest.fixture
def no_mask(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called on, nothing may look for rows in positions, which waits for a device."""

    def refuse(position_ids: torch.Tensor) -> None:
        raise AssertionError("a mask is being made")

    return lambda: monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", refuse)


@pytest.mark.parametrize("kind", attention.ATTENDING)
def test_flat_rows_are_each_row_alone(kind: str, no_mask: Callable[[], None]) -> None:
    assert kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    model = tiny(kind)
    wanted = alone(model)
    no_mask()
    assert_same(model, flat(model), wanted)


def test_a_window_is_cut() -> None:
    """A token is seen by as many as its window says in each layer, and by none of another row."""
    model = tiny("mistral", num_hidden_layers=1)
    given = batch()
    first = model.get_input_embeddings()(given.pop("input_ids")).detach().requires_grad_()
    out = model(inputs_embeds=first, use_cache=False, **given).logits[0]

    def seen_by(token: int) -> list[int]:
        [slope] = torch.autograd.grad(out[token].sum(), first, retain_graph=True)
        return slope[0].abs().sum(-1).nonzero()[:, 0].tolist()

    assert seen_by(10) == list(range(11 - WINDOW, 11))  # the last token of the first row
    assert seen_by(12) == [11, 12]  # the second one of the next


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not reentrant"])
def test_checkpointed_layers_attend_the_same(kind: str, reentrant: bool) -> None:
    model = tiny(kind).train()
    wanted = alone(model)
    plain = slopes(model, wanted)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    logits = flat(model)
    logits.square().mean().backward()  # what is reentrant knows no other way
    found = [weight.grad for weight in model.parameters() if weight.grad is not None]
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=1e-4)
    for one, other in zip(found, plain, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3_text"])
def test_padded_rows_and_answers_are_those_of_sdpa(kind: str) -> None:
    """What follows a training, with the hooks still there."""
    model = tiny(kind)
    flat(model).mean().backward()
    ids = torch.nn.utils.rnn.pad_sequence([row[0] for row in rows()], batch_first=True)
    mask = (ids != 0).long()
    found = []
    for way in (attention.NAME, "sdpa"):
        model.set_attn_implementation(way)
        answer = model.generate(ids[:1, :11], max_new_tokens=9, min_new_tokens=9, do_sample=False)
        found.append((model(input_ids=ids, attention_mask=mask).logits, answer))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_in_autocast_it_computes_in_the_shorter_type() -> None:
    model = tiny("qwen3")
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        torch.testing.assert_close(flat(model).float(), alone(model).float(), atol=0.02, rtol=0.05)


def test_a_saved_model_is_one_for_any_attention(tmp_path: Path) -> None:
    tiny("llama").save_pretrained(tmp_path)
    assert attention.NAME not in (tmp_path / "config.json").read_text()


def test_batches_tell_where_rows_begin() -> None:
    keys = attention.row_keys([3, 1, 5])
    assert keys["cu_seq_lens_q"].tolist() == keys["cu_seq_lens_k"].tolist() == [0, 3, 4, 9]
    assert keys["cu_seq_lens_q"].dtype == torch.int32
    assert (keys["max_length_q"], keys["max_length_k"]) == (5, 5)


def chosen(kind: str, precision: torch.dtype = torch.float32, device: torch.device = CPU, **keys: Any) -> fast.Path:
    asked = {name: keys.pop(name) for name in ("flash_attn", "trust_remote_code") if name in keys}
    config = parse(TrainConfig, {"dataset": ["demo"], **asked})
    return attention.choose(config, AutoConfig.for_model(kind, **keys), precision, device)


def test_lengths_are_taken_where_the_model_allows() -> None:
    assert chosen("llama") == fast.Path("attention", "varlen")
    assert chosen("gemma3_text", head_dim=512).way == "varlen"  # on the CPU any width goes


@pytest.mark.parametrize(
    ("kind", "keys", "why"),
    [
        ("gemma2", {}, "a gemma2 model is not known"),
        ("llama", {"trust_remote_code": True, "auto_map": {"AutoModel": "code.Model"}}, "a llama model is not known"),
        ("llama", {"attention_dropout": 0.1}, "attention_dropout"),
        ("llama", {"output_attentions": True}, "output_attentions"),
        ("llama", {"device": CUDA}, "float32"),
        ("llama", {"device": CUDA, "precision": torch.bfloat16, "head_dim": 264}, "heads of width 264"),
        ("llama", {"device": CUDA, "precision": torch.bfloat16, "hidden_size": 384}, "heads of width 12"),
    ],
    ids=["unknown", "own code", "dropout", "weights", "float32", "wide", "odd"],
)
def test_elsewhere_sdpa_computes_and_says_why(kind: str, keys: dict[str, Any], why: str) -> None:
    path = chosen(kind, **keys)
    assert path.way == "sdpa"
    assert why in path.why
    with pytest.raises(ModelError, match=f"flash_attn: varlen cannot be used, .*{why}.*: set it to auto"):
        chosen(kind, flash_attn="varlen", **keys)


@pytest.mark.parametrize(
    ("rows_seen", "window_off", "verdict"),
    [((4, 9, WINDOW), 0, ""), ((18,), 0, "is off by"), ((4, 9, WINDOW), 1, "is off by")],
    ids=["right", "rows see each other", "short window"],
)
def test_a_kernel_is_tried_before_it_is_trusted(
    rows_seen: tuple[int, ...], window_off: int, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kernel(query: Any, key: Any, value: Any, starts: Any, longest: int, scaling: Any, window: Any) -> torch.Tensor:
        states = (part.transpose(0, 1)[None] for part in (query, key, value))
        return attention._one_by_one(*states, rows_seen, scaling, window and window - window_off)[0]

    config = AutoConfig.for_model("mistral", **SIZES)
    assert "does not run here" in attention._fault(config, torch.bfloat16, CPU)  # torch has it for CUDA alone
    monkeypatch.setattr(attention, "PROBED", (4, 9, WINDOW))
    monkeypatch.setattr(attention, "_by_length", kernel)
    fault = attention._fault(config, torch.bfloat16, CPU)
    assert verdict in fault
    assert bool(fault) == bool(verdict)


@pytest.mark.parametrize(
    ("fault", "told"),
    [(NotImplementedError(), "NotImplementedError"), (AssertionError("two\nlines"), "two"), (ValueError("no"), "no")],
    ids=["without a word", "at length", "of a value"],
)
def test_a_kernel_that_ends_in_any_way_is_not_used(
    fault: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kernel(*_: Any) -> torch.Tensor:
        raise fault

    monkeypatch.setattr(attention, "_by_length", kernel)
    config = AutoConfig.for_model("llama", **SIZES)
    assert attention._fault(config, torch.bfloat16, CPU) == f"its kernel does not run here ({told})"


def test_a_training_says_what_computed_it(train: Train) -> None:
    assert train(max_steps=1, save_steps=0).json("result.json")["paths"]["attention"] == "varlen"
