"""What a conversion to GGUF needs and makes, told from headers alone, before a process starts."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from studio import models
from studio.config.gguf import BITS, FLOATS, GgufConfig
from studio.config.train import TrainConfig
from studio.errors import ConfigError, ModelError, Problem
from studio.exports import card, lineage
from studio.exports.plan import Plan, require_room, size
from studio.files import read_record, safe_name
from studio.models import ModelInfo
from studio.runs import outputs
from studio.runs.store import Store

CONVERTER = Path(sys.prefix) / "llama.cpp"  # where tools/environment.py puts it
DIRECT = (*FLOATS, "q8_0")  # what llama.cpp's converter writes itself; the others are made from one of the floats
LOSSLESS = {"F32": "f32", "BF16": "bf16", "F16": "f16"}
UNPACKED = ("fp8", "gptq", "compressed-tensors", "bitnet", "mxfp4", "modelopt")  # quantised, and the converter reads it
REST_BYTES = 30_000_000  # vocabulary and template in each file, and the report


def plan(store: Store, config: GgufConfig) -> Plan:
    """What will be written.

    Raises:
        ConfigError: everything that stands in its way.
    """
    model = source(store, config)
    expected = {name: expected_bytes(model, name) for name in config.outtype}
    lines = [f"{name}: about {size(count)}" for name, count in expected.items()]
    temporary = 0
    if scratch := scratch_type(model, config.outtype):
        temporary = expected_bytes(model, scratch)
        lines.append(f"{size(temporary)} more while it is written, for the {scratch} file that the others are made of")
    total = sum(expected.values())
    require_room(store.saves, total + temporary + REST_BYTES * len(expected), "the conversion")
    lines.append("Each file is loaded by llama.cpp and its tokens and answers compared with those of the original.")
    return Plan(
        f"**{model.architecture}, {model.parameters / 1e6:,.0f} M weights, to {', '.join(expected)}**",
        total, tuple(lines), tuple(_warnings(model, config)),
    )  # fmt: skip


def source(store: Store, config: GgufConfig) -> ModelInfo:
    """The model to convert, whole and of a kind that llama.cpp knows.

    Raises:
        ConfigError: what is missing or unknown, all of it.
    """
    problems = [Problem("gguf", why) for why in _missing()]
    try:
        model = models.check(outputs.model_of(store, config.model_name_or_path))
    except ModelError as error:
        raise ConfigError([*problems, Problem("model_name_or_path", str(error))]) from error
    problems += [Problem("model_name_or_path", why) for why in _obstacles(model)]
    if problems:
        raise ConfigError(problems)
    return model


def facts(store: Store, config: GgufConfig) -> dict[str, Any]:
    """What the files say of themselves, by the converter's keys, as far as it is known."""
    run = lineage.maker(store, config.model_name_or_path)
    chain = lineage.ancestry(store, run) if run else ()
    trainings = [each.config for each in chain if isinstance(each.config, TrainConfig)]
    base = next((training.model_name_or_path for training in trainings), "")
    sets = dict.fromkeys(name for training in trainings for name in training.dataset)
    known = {
        "general.name": name_of(store, config),
        "general.base_models": [{"name": lineage.public_name(base)}] if base else None,
        "general.datasets": [{"name": name} for name in sets],
        "general.license": card.license_of(base),
    }
    return {key: value for key, value in known.items() if value}


def name_of(store: Store, config: GgufConfig) -> str:
    """What the files are called: as asked, or as the run or folder that they are made of."""
    run = lineage.maker(store, config.model_name_or_path)
    return safe_name(config.run_name or (run.name if run else lineage.public_name(config.model_name_or_path)))


def expected_bytes(model: ModelInfo, outtype: str) -> int:
    """About how large a file of that type will be, vocabulary left out."""
    return int(model.parameters * BITS[outtype] / 8)


def scratch_type(model: ModelInfo, outtypes: Sequence[str]) -> str | None:
    """The type of the file that has to be written only to make others of it; None where there is no need."""
    wanted = set(outtypes)
    return None if wanted <= set(DIRECT) or wanted & {lossless(model), "f32"} else lossless(model)


def lossless(model: ModelInfo) -> str:
    """The smallest type that keeps every bit of the model."""
    return LOSSLESS.get(model.dtype, "f32")


def _missing() -> Iterator[str]:
    if not (CONVERTER / "conversion").is_dir():
        yield "llama.cpp's converter is not installed: run `make extras` once, with a network (77 MB)"
    if not (find_spec("xllamacpp") or find_spec("llama_cpp")):
        yield "llama.cpp is not installed: run `make environment`"


def _obstacles(model: ModelInfo) -> Iterator[str]:
    if (CONVERTER / "conversion").is_dir() and model.architecture not in _architectures():
        yield f"llama.cpp's converter does not know {model.architecture}: serve it with vLLM or Transformers instead"
    method = _quantisation(model.path).get("quant_method")
    if method and method not in UNPACKED:
        yield f"it is quantised ({method}), which the converter does not read: convert the 16-bit model it was made of"


def _warnings(model: ModelInfo, config: GgufConfig) -> Iterator[str]:
    if method := _quantisation(model.path).get("quant_method"):
        yield f"It is quantised ({method}) already: what that lost stays lost, and a second time is added."
    if not model.has_chat_template:
        yield "It has no chat template: llama.cpp and Ollama will only continue texts."
    if small := [name for name in config.outtype if BITS[name] < 4.6]:
        yield f"{', '.join(small)}: answers are usually worse with fewer than 4 bits; q4_k_m is the common choice."


def _quantisation(folder: Path) -> Mapping[str, Any]:
    found = read_record(folder / "config.json").get("quantization_config")
    return found if isinstance(found, dict) else {}


@cache
def _architectures() -> frozenset[str]:
    """The names in the converter's own table, read without running any of it."""
    tree = ast.parse((CONVERTER / "conversion" / "__init__.py").read_text(encoding="utf-8"))
    tables = {ast.unparse(node.target): node.value for node in tree.body if isinstance(node, ast.AnnAssign)}
    return frozenset(ast.literal_eval(tables["TEXT_MODEL_MAP"] or ast.Dict([], [])))
