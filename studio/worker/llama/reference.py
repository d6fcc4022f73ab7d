"""What the original answers, by Transformers: python -m studio.worker.llama.reference, a request as its input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from studio.errors import SeedbedError
from studio.worker import imports


def main() -> int:
    """Answer one request; what went wrong is the last line on stderr."""
    request = json.load(sys.stdin)
    imports.trim()
    try:
        answer(Path(request["model"]), request["dtype"], Path(request["answer"]))
    except SeedbedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def answer(folder: Path, dtype: str, target: Path) -> None:
    """Greedy answers, kept as arrays: `promptN` and `answerN`, token ids, and `logitsN` [answer, vocabulary].

    `logitsN[i]` is what the model expects in place of token i of the answer.
    """
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from studio.worker.llama import texts

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    kept: dict[str, Any] = {}
    for number, prompt in enumerate(texts.prompts(tokenizer)):
        asked = torch.tensor([prompt])
        said = model.generate(
            asked, attention_mask=torch.ones_like(asked), do_sample=False, max_new_tokens=texts.ANSWER_TOKENS,
            pad_token_id=0, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        kept[f"prompt{number}"] = np.array(prompt, np.int32)
        kept[f"answer{number}"] = said.sequences[0, len(prompt) :].numpy().astype(np.int32)
        kept[f"logits{number}"] = torch.cat(said.logits).float().numpy()
    np.savez(target, **kept)


if __name__ == "__main__":
    sys.exit(main())
