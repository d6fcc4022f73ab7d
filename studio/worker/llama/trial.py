"""One GGUF file put to the test by llama.cpp itself: python -m studio.worker.llama.trial, a request as its input.

It loads, reads the same texts as Transformers did, is led along the original's answers and then answers on its own.
Run in a process of its own, because llama.cpp ends the process where something is wrong with a file.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio.errors import ModelError, SeedbedError
from studio.files import write_json
from studio.worker.llama.library import Model
from studio.worker.llama.texts import ANSWER_TOKENS, PROMPTS

CONTEXT_TOKENS = 1024
BYTES_A_THREAD = 100_000_000  # of weights; for less a further thread costs more than it brings
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Said:
    """One prompt, and how the original and the file answer it, greedily."""

    prompt: str
    wanted: str
    got: str


@dataclass(frozen=True)
class Trial:
    """What was found. `kl` is the mean KL(original || file) in nats a token along the original's answers.

    `agreement` is the share of those tokens that the file would have said too; None where there was no original.
    """

    strange: tuple[str, ...]
    kl: float | None
    max_difference: float | None
    agreement: float | None
    answers: tuple[Said, ...]


def main() -> int:
    """Answer one request; what went wrong is the last line on stderr."""
    request = json.load(sys.stdin)
    os.environ["OMP_WAIT_POLICY"] = (
        "passive"  # where other work wants the cores, spinning threads take 100 times longer
    )
    try:
        found = put(Path(request["file"]), request["samples"], request["reference"])
    except SeedbedError as error:
        print(error, file=sys.stderr)
        return 1
    write_json(Path(request["answer"]), asdict(found))
    return 0


def put(path: Path, samples: Sequence[Mapping[str, Any]], reference: str | None) -> Trial:
    """Try the file. `reference` is what the original said, where that could be found out.

    Raises:
        ModelError: llama.cpp does not load it, or computes nothing but nonsense.
    """
    with Model(path, context=CONTEXT_TOKENS, threads=_threads(path)) as model:
        strange = tuple(each["text"] for each in samples if model.tokens(each["text"]) != each["ids"])
        if reference is None:
            _require_numbers(model.logits(samples[0]["ids"]), path)
            return Trial(strange, None, None, None, ())
        with np.load(reference) as kept:
            return _compare(model, dict(kept), strange, path)


def _threads(path: Path) -> int:
    return max(1, min(len(os.sched_getaffinity(0)), path.stat().st_size // BYTES_A_THREAD))


def _compare(model: Model, kept: Arrays, strange: tuple[str, ...], path: Path) -> Trial:
    numbers = range(len(PROMPTS))
    wanted = np.concatenate([kept[f"logits{number}"] for number in numbers])
    got = np.concatenate([_led(model, kept[f"prompt{n}"], kept[f"answer{n}"]) for n in numbers])[:, : wanted.shape[1]]
    _require_numbers(got, path)
    _require_ends(model, kept, path)
    return Trial(
        strange,
        kl=divergence(wanted, got),
        max_difference=float(np.abs(wanted - got).max()),
        agreement=float((wanted.argmax(-1) == got.argmax(-1)).mean()),
        answers=tuple(
            Said(text, model.text(kept[f"answer{n}"].tolist()), model.text(_alone(model, kept, n)))
            for n, text in enumerate(PROMPTS)
        ),
    )


def divergence(wanted: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """Mean KL(wanted || got) over positions, in nats; both are logits [positions, vocabulary]."""
    p, q = (_log_softmax(logits.astype(np.float64)) for logits in (wanted, got))
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def _led(model: Model, prompt: NDArray[np.int32], answer: NDArray[np.int32]) -> NDArray[np.float32]:
    """What the file expects at each place of the original's answer: [answer, vocabulary]."""
    model.restart()
    rows = [model.logits(prompt.tolist())]
    rows += [model.logits([int(token)]) for token in answer[:-1]]
    return np.stack(rows)


def _alone(model: Model, kept: Arrays, number: int) -> list[int]:
    """The file's own greedy answer, as long as the original's may be."""
    model.restart()
    return list(_greedy(model, kept[f"prompt{number}"].tolist()))


def _greedy(model: Model, tokens: list[int]) -> Iterator[int]:
    for _ in range(ANSWER_TOKENS):
        token = int(model.logits(tokens).argmax())
        yield token
        if model.ends(token):
            return
        tokens = [token]


def _require_ends(model: Model, kept: Arrays, path: Path) -> None:
    """An answer shorter than it might be ended because of its last token."""
    answers = (kept[f"answer{number}"].tolist() for number in range(len(PROMPTS)))
    ends = {answer[-1] for answer in answers if len(answer) < ANSWER_TOKENS}
    if missed := sorted(token for token in ends if not model.ends(token)):
        raise ModelError(
            f"{path.name} would not stop in llama.cpp where the original does (token {missed[0]}): make that the "
            "eos_token in tokenizer_config.json"
        )


def _require_numbers(logits: NDArray[np.float32], path: Path) -> None:
    if not np.isfinite(logits).all():
        raise ModelError(f"{path.name} computes values that are not numbers in llama.cpp: choose a wider type")


if __name__ == "__main__":
    sys.exit(main())
