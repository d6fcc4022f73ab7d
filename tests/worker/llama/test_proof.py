"""What counts as a file that may be used, and what llama.cpp says to one that is broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from studio.errors import ModelError
from studio.worker.llama.conversion import Conversion, explained
from studio.worker.llama.library import LlamaError, Model
from studio.worker.llama.proof import objection
from studio.worker.llama.trial import Trial, divergence

MADE = Conversion((), "gpt-2", True, (), strange=("known to differ",))


def trial(kl: float | None, *strange: str) -> Trial:
    return Trial(strange, kl, 0.1, 1.0, ())


@pytest.mark.parametrize(
    ("outtype", "kl", "why"),
    [("bf16", 1e-4, ""), ("bf16", 0.03, "another model"), ("q8_0", 0.03, ""), ("q8_0", 0.2, "another model"),
     ("q4_k_m", 0.4, ""), ("q4_k_m", 1.1, "another model"), ("q6_k", 0.4, "another model"),
     ("q2_k", 0.8, ""), ("q2_k", 2.5, "another model"), ("q2_k", None, "")],
)  # fmt: skip
def test_a_type_may_cost_so_much(outtype: str, kl: float | None, why: str) -> None:
    found = objection(outtype, trial(kl), MADE, "float32")
    assert why in found
    assert bool(found) == bool(why)


def test_other_tokens_are_an_objection_unless_they_were_known() -> None:
    assert objection("f16", trial(0.0, "known to differ"), MADE, "float32") == ""
    assert "'new'" in objection("f16", trial(0.0, "known to differ", "new"), MADE, "float32")


def test_divergence_is_that_of_kullback_and_leibler() -> None:
    wanted = np.log(np.array([[0.5, 0.25, 0.25]], np.float32))
    got = np.log(np.array([[0.25, 0.5, 0.25]], np.float32)) + 3
    assert divergence(wanted, got) == pytest.approx(0.25 * np.log(2))
    assert divergence(wanted, wanted) == 0


def test_a_file_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "a b.gguf"
    path.write_bytes(b"GGUF" + b"\0" * 40)
    with pytest.raises(LlamaError, match=r"llama\.cpp does not load a b\.gguf: "):
        Model(path)


def test_the_converters_exceptions_become_sentences() -> None:
    assert "copy it there" in explained("FileNotFoundError: File not found: /m/tokenizer.model")
    assert "cannot write this model (KeyError: 'n_ctx')" in explained("KeyError: 'n_ctx'")
    assert explained("none of them splits text so") == "none of them splits text so"
    assert issubclass(LlamaError, ModelError)
