"""A merged model beside base plus adapter: the same tokens through both, and every weight by itself.

One model is in memory at a time. float32 is used where it fits, so that differences come from the weights and not
from the arithmetic.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from studio import models
from studio.worker.merging import live, probes
from studio.worker.merging.probes import Mark
from studio.worker.merging.proof import Asked, Comparison, Request
from studio.worker.merging.questions import Question, questions

ANSWER_TOKENS = 24
PROMPT_TOKENS = 512
COMPARED_TOKENS = 64  # the last ones of prompt and answer: what a vocabulary of 150,000 has room for
COARSEST = ("BF16", "F16", "F32")


@dataclass(frozen=True)
class Wanted:
    """What base plus adapter makes of a prompt: token ids [1, n] with the answer, logits [positions, vocabulary]."""

    prompt: torch.Tensor
    ids: torch.Tensor
    logits: torch.Tensor
    kl_base: torch.Tensor

    @property
    def answer(self) -> torch.Tensor:
        return self.ids[0, self.prompt.shape[1] :]


def compare(request: Request, tell: Callable[[str], None]) -> Comparison:
    """Run base, base plus adapter and the merged model over the same tokens, and compare weight by weight.

    Raises:
        Unproven: the models do not fit into memory.
        ModelError: the files of one are missing or damaged.
    """
    started, merged = time.monotonic(), Path(request.merged)
    dtype = live.precision(Path(request.base))
    tokenizer = AutoTokenizer.from_pretrained(merged, trust_remote_code=request.trust_remote_code)
    asked = questions([Path(adapter) for adapter in request.adapters])
    prompts, answering = [_prompt(tokenizer, question) for question in asked], _answering(merged, tokenizer)
    tell("base plus adapter answers")
    wanted, marks = _learned(request, dtype, prompts, answering)
    tell("the merged model answers")
    with live.loaded(merged, dtype, request.trust_remote_code) as model, torch.inference_mode():
        results = [_asked(model, tokenizer, *pair, answering) for pair in zip(asked, wanted, strict=True)]
        stored = _stored(merged)
        deviations = {mark.name: _deviation(mark, model, stored, dtype) for mark in marks}
        broken = tuple(name for name, weight in model.named_parameters() if not bool(weight.isfinite().all()))
    return Comparison(
        computed_in=str(dtype).removeprefix("torch."),
        asked=tuple(results),
        **_totals(results),
        probed=len(marks),
        deviation=max(deviations.values(), default=0.0),
        wrong=tuple(sorted((name for name, share in deviations.items() if share > 1), key=deviations.__getitem__))[
            ::-1
        ],
        not_finite=broken,
        seconds=time.monotonic() - started,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _learned(
    request: Request, dtype: torch.dtype, prompts: Sequence[torch.Tensor], answering: GenerationConfig
) -> tuple[list[Wanted], list[Mark]]:
    """What base plus adapter answers and holds. Its model is gone when this returns."""
    with live.tuned(request, dtype) as tuned, torch.inference_mode():
        answered = _answered(tuned, prompts, answering)
        return [_wanted(tuned, *pair) for pair in zip(prompts, answered, strict=True)], probes.take(tuned)


def _totals(asked: Sequence[Asked]) -> dict[str, float]:
    """Over all tokens of all prompts."""
    total = sum(each.positions for each in asked)
    means = ("mean_difference", "kl", "kl_base")
    found = {key: sum(getattr(each, key) * each.positions for each in asked) / total for key in means}
    return {**found, "max_difference": max(each.max_difference for each in asked)}


def _wanted(tuned: Any, prompt: torch.Tensor, ids: torch.Tensor) -> Wanted:
    logits = _logits(tuned, ids)
    with tuned.disable_adapter():
        return Wanted(prompt, ids, logits, _kl(logits, _logits(tuned, ids)))


def _asked(
    model: Any, tokenizer: PreTrainedTokenizerBase, question: Question, wanted: Wanted, answering: GenerationConfig
) -> Asked:
    got = _logits(model, wanted.ids)
    answer = wanted.answer
    if not torch.equal(got[-1 - len(answer) : -1].argmax(-1), answer):  # else writing it would give the same again
        answer = _answered(model, [wanted.prompt], answering)[0][0, wanted.prompt.shape[1] :]
    difference = (got - wanted.logits).abs()
    return Asked(
        prompt=question[-1]["content"],
        positions=len(got),
        max_difference=difference.max().item(),
        mean_difference=difference.mean().item(),
        kl=_kl(wanted.logits, got).mean().item(),
        kl_base=wanted.kl_base.mean().item(),
        adapter=str(tokenizer.decode(wanted.answer, skip_special_tokens=True)),
        merged=str(tokenizer.decode(answer, skip_special_tokens=True)),
    )


def _prompt(tokenizer: PreTrainedTokenizerBase, question: Question) -> torch.Tensor:
    """A question as the model is asked it: token ids [1, n]."""
    if tokenizer.chat_template:
        encoded = tokenizer.apply_chat_template(
            question, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
    else:
        encoded = tokenizer(question[-1]["content"], return_tensors="pt")
    return encoded["input_ids"][:, -PROMPT_TOKENS:].to(live.place())


def _answering(merged: Path, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """Greedy and short, ended by what ends answers of the merged model: the same for both."""
    ends = tokenizer.eos_token_id
    if (merged / "generation_config.json").exists():
        ends = GenerationConfig.from_pretrained(merged).eos_token_id or ends
    return GenerationConfig(do_sample=False, max_new_tokens=ANSWER_TOKENS, eos_token_id=ends, pad_token_id=0)


def _answered(model: Any, prompts: Sequence[torch.Tensor], answering: GenerationConfig) -> list[torch.Tensor]:
    """Each prompt with its greedy answer, token ids [1, n]. All are written at once, which takes as long as one."""
    longest = max(prompt.shape[1] for prompt in prompts)
    padded = torch.cat([functional.pad(prompt, (longest - prompt.shape[1], 0)) for prompt in prompts])
    mask = torch.cat([functional.pad(torch.ones_like(each), (longest - each.shape[1], 0)) for each in prompts])
    made = model.generate(input_ids=padded, attention_mask=mask, generation_config=answering)[:, longest:]
    cut = [answer[: _length(answer, answering.eos_token_id)] for answer in made]
    return [torch.cat([prompt, answer[None]], dim=1) for prompt, answer in zip(prompts, cut, strict=True)]


def _length(answer: torch.Tensor, ends: int | list[int] | None) -> int:
    """How long an answer is with what ended it; behind that, it is padded."""
    known = torch.tensor([] if ends is None else ends, device=answer.device).flatten()
    ended = torch.isin(answer, known).nonzero()
    return int(ended[0]) + 1 if len(ended) else len(answer)


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Of the last positions, float32: [positions, vocabulary]."""
    return torch.as_tensor(model(input_ids=ids).logits[0, -COMPARED_TOKENS:].float())


def _kl(wanted: torch.Tensor, got: torch.Tensor) -> torch.Tensor:
    """KL(wanted || got) in nats, of each position; of two sizes of vocabulary, what both have.

    In float64: in float32 the rounding of the sum is larger than what a merge in float32 costs.
    """
    size = min(wanted.shape[-1], got.shape[-1])
    p, q = (logits[:, :size].double().log_softmax(-1) for logits in (wanted, got))
    return (p.exp() * (p - q)).sum(-1)


def _stored(merged: Path) -> dict[str, str]:
    """The type on disk of every tensor of a model folder."""
    headers = [models.read_header(merged / file) for file in models.weight_files(merged)]
    return {name: tensor["dtype"] for header in headers for name, tensor in header.items()}


def _deviation(mark: Mark, model: torch.nn.Module, stored: dict[str, str], computed: torch.dtype) -> float:
    """Names of fused experts are the model's alone, not those on the disk: the coarsest type there then counts."""
    known = stored.get(mark.name) or stored.get(f"{mark.name}.weight")
    coarsest = next((dtype for dtype in COARSEST if dtype in stored.values()), "F32")
    return probes.deviation(mark, model, known or coarsest, computed)
