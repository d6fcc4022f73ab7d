"""Batches without their padding: everything TRL reads of them is what it would have been, as are the gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference
from trl.trainer.utils import add_fused_lm_head

from studio.worker.encode import IGNORED
from studio.worker.fast import attention, flat

LENGTHS = ((3, 1, 40), (30, 25, 2), (0, 7, 5), (1, 1, 1))  # of prompts, and of the two answers to each
OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1")


def make_model(folder: Path) -> Any:
    attention.register()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention.NAME)
    attention.skip_masks(model)
    add_fused_lm_head(model, outputs=OUTPUTS)
    return model


def make_batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    rows = [
        {name: torch.randint(3, 320, (count,)).tolist() for name, count in zip(names, counts, strict=True)}
        for counts in LENGTHS
    ]
    return flat.Placing(DataCollatorForPreference(pad_token_id=0))(rows)


def computed(model: Any, batch: dict[str, torch.Tensor]) -> tuple[Any, list[torch.Tensor]]:
    """What comes of it, and the gradients where each token counts differently."""
    learnt = batch.pop("completion_mask") == 1
    labels = batch["input_ids"].masked_fill(~learnt, IGNORED)
    outputs = model(**batch, labels=labels, fused_lm_head=True)
    torch.manual_seed(1)
    weights = torch.rand_like(outputs.log_probs)
    found = torch.autograd.grad((outputs.log_probs * weights).sum(), list(model.parameters()))
    return outputs, list(found)


def test_flat_batches_give_what_padded_ones_give(tiny_model: Path) -> None:
    padded, model = make_model(tiny_model), make_model(tiny_model)
    flat.lay(model)
    batch = make_batch()
    plain = {name: values for name, values in batch.items() if name not in flat.TOLD}
    seen: list[torch.Size] = []
    model.model.register_forward_pre_hook(lambda _, __, keys: seen.append(keys["input_ids"].shape), with_kwargs=True)
    (theirs, expected), (ours, found) = computed(padded, plain), computed(model, batch)
    tokens = sum(2 * prompt + chosen + rejected for prompt, chosen, rejected in LENGTHS)
    assert seen == [(1, tokens)]
    for name in (*OUTPUTS, "label_mask"):
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-5)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_batches_that_tell_no_places_are_computed_as_they_are(tiny_model: Path) -> None:
    padded, model = make_model(tiny_model), make_model(tiny_model)
    flat.lay(model)
    ids = torch.tensor([[5, 6, 7], [8, 9, 0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    assert torch.equal(model(ids, attention_mask=mask).logits, padded(ids, attention_mask=mask).logits)
    assert model.generate(ids[:1], max_new_tokens=4, do_sample=False).shape == (1, 7)


def test_rows_that_see_each_other_are_noticed(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(tiny_model)
    flat.lay(model)
    assert flat.is_exact(model, make_batch())
    monkeypatch.setattr(flat, "_row_keys", lambda mask: attention.row_keys([int(mask.sum())]))
    assert not flat.is_exact(model, make_batch())


def test_both_halves_of_judged_answers_tell_their_places() -> None:
    rows = [
        {"prompt_ids": [1], "completion_ids": [2, 3], "KL_completion_ids": [4], "label": True},
        {"prompt_ids": [5], "completion_ids": [6], "KL_completion_ids": [7, 8], "label": False},
    ]
    batch = flat.Placing(DataCollatorForUnpairedPreference(pad_token_id=0))(rows)
    assert batch[flat.PLACES].tolist() == [0, 1, 2, 3, 4]
    assert batch[flat.COUNTED].tolist() == [0, 1, 3]
    others = flat.other_side(batch)
    assert others[flat.PLACES].tolist() == [0, 1, 3, 4, 5]
    assert others[flat.COUNTED].tolist() == [0, 2, 3]
