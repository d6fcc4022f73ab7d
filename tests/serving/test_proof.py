"""What Transformers answers, and what follows from it for an adapter."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from studio.config.serve import ServeConfig
from studio.errors import ServingError
from studio.serving import proof
from studio.serving.probe import Check, Reference, Token, difference
from studio.serving.proof import Expected, Pair, References, Unavailable
from tests.serving.conftest import BASE

PROMPTS = ((1, 50, 60, 70), (1, 80, 90))


def row(*logprobs: float, at: int = 0) -> tuple[Token, ...]:
    """Tokens, each with its log-probability and an unlikely alternative."""
    names = [f"token_id:{at + number}" for number in range(len(logprobs))]
    return tuple(
        Token(name, value, {name: value, "token_id:99": -9.0}) for name, value in zip(names, logprobs, strict=True)
    )


BASES, OWN = (row(-0.1, -0.2),), (row(-0.1, -0.3, at=10),)
PAIR = Pair(Expected(BASES, 0.0), Expected(OWN, 0.0))
CHECK = Check(0.0, 8.9, 24, True, answers=OWN)
ALONE = Reference(BASES, 0.0)
REFERENCES = References(ServeConfig(model_name_or_path=str(BASE), dtype="float32"), Path("/nowhere"), PROMPTS)


def test_equal_answers_are_proof_with_a_figure() -> None:
    near = replace(CHECK, answers=(row(-0.1, -0.304, at=10),))
    found = REFERENCES.judged("fox", near, ALONE, PAIR)
    assert (found.reference, found.reference_max_logprob_diff) == ("ok", 0.004)


def test_other_answers_are_an_error() -> None:
    other = replace(CHECK, answers=(row(-0.1, -0.4, at=10),))
    with pytest.raises(
        ServingError, match=r"not those that Transformers gives.*0.10 apart, where rounding explains 0.01"
    ):
        REFERENCES.judged("fox", other, ALONE, PAIR)


def test_the_bases_answers_are_an_adapter_that_is_ignored() -> None:
    ignored = replace(CHECK, answers=BASES, adapter_max_logprob_diff_from_base=0.0)
    with pytest.raises(ServingError, match="the server ignores it"):
        REFERENCES.judged("fox", ignored, ALONE, PAIR)


def test_noise_widens_what_counts_as_equal() -> None:
    noisy = Pair(PAIR.base, Expected(OWN, 0.05))
    other = replace(CHECK, answers=(row(-0.1, -0.4, at=10),))
    assert REFERENCES.judged("fox", other, ALONE, noisy).reference == "ok"
    assert proof.tolerance("float32", ALONE, noisy) == pytest.approx(0.15)
    assert proof.tolerance("bfloat16", ALONE, PAIR) == 0.25
    assert proof.tolerance("float32", Reference(BASES, 5.0), PAIR) == 0.5


def test_where_the_base_is_off_nothing_is_said_of_the_adapter() -> None:
    off = Reference((row(-0.1, -2.2),), 0.0)
    found = REFERENCES.judged("fox", replace(CHECK, answers=BASES), off, PAIR)
    assert found.reference.startswith("skipped: the base by itself answers otherwise than with Transformers")


def test_an_adapter_that_does_nothing_anywhere_is_no_proof() -> None:
    weak = Pair(PAIR.base, Expected((row(-0.1, -0.205),), 0.0))
    found = REFERENCES.judged("fox", replace(CHECK, answers=BASES), ALONE, weak)
    assert found.reference == "skipped: the adapter changes answers by less than rounding may, with Transformers too"


@pytest.mark.parametrize(
    ("options", "config", "dtype"),
    [
        ({"dtype": "float32"}, {"dtype": "bfloat16"}, "float32"),
        ({}, {"dtype": "float32"}, "bfloat16"),
        ({}, {"torch_dtype": "float16"}, "float16"),
        ({}, {}, "bfloat16"),
    ],
)
def test_the_type_is_the_servers(tmp_path: Path, options: dict[str, Any], config: dict[str, str], dtype: str) -> None:
    folder = Path(shutil.copytree(BASE, tmp_path / "model"))
    (folder / "config.json").write_text(json.dumps(config))
    assert References(ServeConfig(model_name_or_path=str(folder), **options), tmp_path, ()).dtype == dtype


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"quantization": "fp8_per_channel"}, "weights are quantised"),
        ({"kv_cache_dtype": "fp8"}, "rounds its KV cache"),
        ({"model_name_or_path": "nobody/has-this"}, "not on this machine"),
    ],
)
def test_what_cannot_be_compared_is_said(adapter: Path, tmp_path: Path, options: dict[str, Any], why: str) -> None:
    config = ServeConfig(**{"model_name_or_path": str(BASE), **options})
    with pytest.raises(Unavailable, match=why):
        asyncio.run(References(config, tmp_path, PROMPTS).stored(adapter))


def test_a_machine_without_room_for_the_base_is_not_tried(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=int(1e9)))
    references = References(ServeConfig(model_name_or_path=str(BASE)), tmp_path, PROMPTS)
    with pytest.raises(Unavailable, match=r"would need 1.5 GB beside the server, and 1.0 GB are free"):
        asyncio.run(references.compute(adapter))


def test_transformers_is_asked_once_for_the_same_files(adapter: Path, tmp_path: Path) -> None:
    references = References(ServeConfig(model_name_or_path=str(BASE), dtype="float32"), tmp_path, PROMPTS)
    pair = asyncio.run(references.compute(adapter))
    assert [len(row) for row in pair.adapter.rows] == [12, 12]
    assert difference(pair.base.rows, pair.adapter.rows) > 1
    assert max(pair.base.noise, pair.adapter.noise) < 0.001
    begun = time.monotonic()
    copy = Path(shutil.copytree(adapter, tmp_path / "copy"))
    assert asyncio.run(references.compute(copy)) == pair
    assert time.monotonic() - begun < 1
    (copy / "adapter_config.json").write_text((copy / "adapter_config.json").read_text() + " ")
    assert asyncio.run(references.stored(copy)) is None


def test_what_transformers_cannot_load_is_told_in_its_words(adapter: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BASE, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "no-such-model"}))
    with pytest.raises(Unavailable, match=r"Transformers could not answer: .*no-such-model"):
        asyncio.run(References(ServeConfig(model_name_or_path=str(folder)), tmp_path, PROMPTS).compute(adapter))
