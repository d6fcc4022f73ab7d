"""What Transformers with PEFT answers to token ids, greedily, with log-probabilities.

    python -m studio.worker.reference < REQUEST

REQUEST is JSON: base and adapter (folders), dtype, trust_remote_code, prompts (token ids), tokens (how many to answer
with), top (alternatives to name), base_answers and adapter_answers (files to write; one that is there stays).
A file holds {"rows": [[[id, logprob, {id: logprob}], ...], ...], "noise": nats}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.files import write_json
from studio.worker import imports

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

PATIENCE = 5  # people are being answered meanwhile


def main(request: dict[str, Any]) -> None:
    """Answer as base and as adapter."""
    os.nice(PATIENCE)
    imports.trim()
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    imports.settle()
    model = AutoModelForCausalLM.from_pretrained(
        request["base"], dtype=getattr(torch, request["dtype"]), trust_remote_code=request["trust_remote_code"]
    ).eval()
    _leave(model, request, Path(request["base_answers"]))
    # the adapter in the model's own type, as servers hold it
    tuned = PeftModel.from_pretrained(model, request["adapter"], autocast_adapter_dtype=False).eval()
    _leave(tuned, request, Path(request["adapter_answers"]))


def _leave(model: PreTrainedModel, request: dict[str, Any], path: Path) -> None:
    if path.exists():
        return
    answers = [answer(model, prompt, request["tokens"], request["top"]) for prompt in request["prompts"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"rows": [row for row, _ in answers], "noise": max(noise for _, noise in answers)})


def answer(model: PreTrainedModel, prompt: list[int], tokens: int, top: int) -> tuple[list[list[Any]], float]:
    """The likeliest `tokens` tokens after `prompt`, one by one: (id, log-probability, the `top` likeliest) of each.

    And the noise: how far the log-probabilities are from those that one pass over the whole text gives, in nats.
    """
    import torch

    with torch.inference_mode():
        logprobs = _greedy(model, prompt, tokens)
        chosen = logprobs.argmax(-1)
        text = torch.tensor([[*prompt, *chosen.tolist()[:-1]]])
        at_once = _logprobs(model(input_ids=text).logits[0, len(prompt) - 1 :])
        noise = (_of(logprobs, chosen) - _of(at_once, chosen)).abs().max().item()
    return [_token(row, int(token), top) for row, token in zip(logprobs, chosen, strict=True)], noise


def _greedy(model: PreTrainedModel, prompt: list[int], tokens: int) -> torch.Tensor:
    """Log-probabilities [tokens, vocabulary] before each token of the answer."""
    import torch

    ids, past, rows = torch.tensor([prompt]), None, []
    for _ in range(tokens):
        output = model(input_ids=ids, past_key_values=past, use_cache=True)
        past = output.past_key_values
        rows.append(_logprobs(output.logits[0, -1]))
        ids = rows[-1].argmax().reshape(1, 1)
    return torch.stack(rows)


def _logprobs(logits: torch.Tensor) -> torch.Tensor:
    return logits.float().log_softmax(-1)


def _of(logprobs: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return logprobs.gather(-1, chosen[:, None])[:, 0]


def _token(logprobs: torch.Tensor, chosen: int, top: int) -> list[Any]:
    values, ids = logprobs.topk(top)
    # as a server names tokens whose texts may be alike
    named = {f"token_id:{number}": value for number, value in zip(ids.tolist(), values.tolist(), strict=True)}
    # the first of `ids` may be another: in 16 bits, two tokens are often exactly as likely
    own, logprob = f"token_id:{chosen}", float(logprobs[chosen])
    return [own, logprob, {**named, own: logprob}]


if __name__ == "__main__":
    try:
        main(json.load(sys.stdin))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        sys.exit(f"{type(error).__name__}: {next(iter(str(error).splitlines()), 'no reason given')}")
