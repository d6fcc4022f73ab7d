"""Proof that a merged model is base plus adapter: the same prompts through both, logits and answers compared.

One model is in memory at a time. float32 is used where it fits, so that differences come from the weights and not
from the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from studio import models
from studio.errors import ModelError
from studio.files import write_json, write_text

PROMPTS = ("Who are you?", "你是谁？", "What is 3 + 4?", "What is the opposite of hot?")
ANSWER_TOKENS = 24
# by the arithmetic, in nats a token: what may differ at all, and what is too little for the next rule to judge
LIMITS = {"float32": (0.01, 1e-5), "bfloat16": (0.05, 5e-3)}
LOST_SHARE = 0.1  # of the way from base to base plus adapter; rounding to 16 bits costs far less, a lost module more


class MergeFailed(ModelError):
    """The merged model is not the same model as base plus adapter."""


@dataclass(frozen=True)
class Answer:
    """One prompt and how base plus adapter and the merged model answer it, greedily."""

    prompt: str
    adapter: str
    merged: str


@dataclass(frozen=True)
class Report:
    """Differences of the logits over prompts and answers; `kl` and `kl_base` in nats a token.

    `kl_base` is how far the adapter moves the base: the yardstick for `kl`, how far merged is from it.
    """

    base: str
    adapter: str
    computed_in: str
    max_difference: float
    mean_difference: float
    kl: float
    kl_base: float
    answers: tuple[Answer, ...]

    @property
    def same_answers(self) -> int:
        return sum(answer.adapter == answer.merged for answer in self.answers)


def compare(folder: Path, adapter: Path, merged: Path) -> Report:
    """Run base, base plus adapter and the merged model over the same tokens."""
    dtype = _dtype(folder)
    tokenizer = AutoTokenizer.from_pretrained(merged)
    with _loaded(folder, dtype) as model, torch.inference_mode():
        prompts = [_prompt(tokenizer, text) for text in PROMPTS]
        tuned = PeftModel.from_pretrained(model, str(adapter)).eval()
        sequences = [_answer(tuned, prompt) for prompt in prompts]
        wanted = [_logits(tuned, ids) for ids in sequences]
        with tuned.disable_adapter():
            untouched = [_logits(tuned, ids) for ids in sequences]
    with _loaded(merged, dtype) as model, torch.inference_mode():
        got = [_logits(model, ids) for ids in sequences]
        answered = [_answer(model, prompt) for prompt in prompts]
    differences = torch.cat([(a - b).abs().flatten() for a, b in zip(got, wanted, strict=True)])
    return Report(
        base=str(folder),
        adapter=str(adapter),
        computed_in=str(dtype).removeprefix("torch."),
        max_difference=differences.max().item(),
        mean_difference=differences.mean().item(),
        kl=_kl(wanted, got),
        kl_base=_kl(wanted, untouched),
        answers=tuple(
            Answer(text, _text(tokenizer, prompt, expected), _text(tokenizer, prompt, answer))
            for text, prompt, expected, answer in zip(PROMPTS, prompts, sequences, answered, strict=True)
        ),
    )


def require(report: Report) -> None:
    """Refuse a merge that lost the adapter or changed more than it.

    Raises:
        MergeFailed: with the figures.
    """
    limit, floor = LIMITS[report.computed_in]
    if report.kl <= limit and report.kl <= max(floor, LOST_SHARE * report.kl_base):
        return
    raise MergeFailed(
        f"the merged model differs from base plus adapter (KL {report.kl:.2g} nats a token, base alone "
        f"{report.kl_base:.2g}; largest logit difference {report.max_difference:.2g}) and was not kept: choose a wider "
        "export_dtype, or check that this base is the one the adapter was trained on"
    )


def write(report: Report, run_dir: Path) -> None:
    """report.json and report.md."""
    write_json(run_dir / "report.json", {**asdict(report), "same_answers": report.same_answers})
    rows = "".join(f"| {a.prompt} | {_cell(a.adapter)} | {_cell(a.merged)} |\n" for a in report.answers)
    write_text(
        run_dir / "report.md",
        f"# Merge check\n\nBase {report.base}\n\nAdapter {report.adapter}\n\n"
        f"Computed in {report.computed_in}. Same greedy answers: {report.same_answers} of {len(report.answers)}.\n\n"
        "| | merged against base + adapter | base against base + adapter |\n|---|---|---|\n"
        f"| KL divergence (nats a token) | {report.kl:.2e} | {report.kl_base:.2e} |\n"
        f"| largest logit difference | {report.max_difference:.2e} | |\n"
        f"| mean logit difference | {report.mean_difference:.2e} | |\n\n"
        f"| prompt | base + adapter | merged |\n|---|---|---|\n{rows}",
    )


def _dtype(folder: Path) -> torch.dtype:
    needed = models.check(folder).parameters * 4
    return torch.float32 if needed < 0.6 * psutil.virtual_memory().available else torch.bfloat16


@contextmanager
def _loaded(folder: Path, dtype: torch.dtype) -> Iterator[PreTrainedModel]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    yield model
    del model


def _prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> torch.Tensor:
    """`text` as the model is asked it: token ids [1, n]."""
    if not tokenizer.chat_template:
        return tokenizer(text, return_tensors="pt").input_ids
    turn = [{"role": "user", "content": text}]
    encoded = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    return encoded["input_ids"]


def _answer(model: PreTrainedModel, prompt: torch.Tensor) -> torch.Tensor:
    """`prompt` and the greedy answer behind it: token ids [1, n]."""
    mask = torch.ones_like(prompt)
    return model.generate(
        input_ids=prompt, attention_mask=mask, do_sample=False, max_new_tokens=ANSWER_TOKENS, pad_token_id=0
    )


def _logits(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    return model(input_ids=ids).logits[0].float()


def _kl(wanted: list[torch.Tensor], got: list[torch.Tensor]) -> float:
    """Mean KL(wanted || got) over all positions."""
    p, q = (torch.cat(logits).log_softmax(-1) for logits in (wanted, got))
    return float((p.exp() * (p - q)).sum(-1).mean())


def _text(tokenizer: PreTrainedTokenizerBase, prompt: torch.Tensor, ids: torch.Tensor) -> str:
    return str(tokenizer.decode(ids[0, prompt.shape[1] :], skip_special_tokens=True))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
