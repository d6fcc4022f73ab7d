"""llama.cpp's own converter, run in a process of its own: python -m studio.worker.llama.converter, a request as input.

Before anything large is written the tokenizer is tried: its vocabulary goes into a tiny model, which llama.cpp loads,
and both sides read the same texts. The converter knows pre-tokenizers by a hash of what they make of one text; one
that it does not know is recognised here by behaviour, or refused.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from studio.errors import ModelError, SeedbedError
from studio.exports.gguf import CONVERTER
from studio.files import write_json
from studio.worker import imports
from studio.worker.llama import texts
from studio.worker.llama.library import LlamaError, Model
from studio.worker.llama.texts import Sample

FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
PRE = "tokenizer.ggml.pre"
WIDTH = 32  # of the tiny model that carries a vocabulary
NAMED = re.compile(r'res = "([\w.-]+)"')


@dataclass(frozen=True)
class Tokens:
    """What was found out about the tokenizer. `pre` is llama.cpp's name for its way of splitting, if it has one.

    `strange` are texts that llama.cpp splits otherwise than Transformers.
    """

    pre: str | None
    recognised: bool
    samples: tuple[Sample, ...]
    strange: tuple[str, ...]


def main() -> int:
    """Answer one request; what went wrong is the last line on stderr."""
    request = json.load(sys.stdin)
    imports.trim()
    try:
        found = convert(Path(request["model"]), request["targets"], Path(request["facts"]))
    except SeedbedError as error:
        print(error, file=sys.stderr)
        return 1
    write_json(Path(request["answer"]), asdict(found))
    return 0


def convert(folder: Path, targets: dict[str, str], facts: Path) -> Tokens:
    """Write `folder` once for each of `targets` (type -> file). `facts` is the converter's metadata file.

    Raises:
        ModelError: the tokenizer cannot be written so that llama.cpp reads as Transformers does.
    """
    sys.path[:0] = [str(CONVERTER / "gguf-py"), str(CONVERTER)]
    import torch

    gguf, conversion = importlib.import_module("gguf"), importlib.import_module("conversion")
    _keep_templates_plain(gguf)
    kind = conversion.get_model_class(
        conversion.get_model_architecture(conversion.ModelBase.load_hparams(folder, False), conversion.ModelType.TEXT)
    )
    with torch.inference_mode():
        tokens = examine(kind(folder, gguf.LlamaFileType.ALL_F32, facts), gguf, facts.with_suffix(".gguf"))
        for name, target in targets.items():
            model = kind(folder, gguf.LlamaFileType[FILE_TYPES[name]], Path(target), metadata_override=facts)
            if tokens.pre and not tokens.recognised:
                model.get_vocab_base_pre = lambda _: tokens.pre
            model.write()
    return tokens


def examine(model: Any, gguf: Any, scratch: Path) -> Tokens:
    """Compare tokenizers, and find the name of a pre-tokenizer that the converter does not know.

    Raises:
        ModelError: no pre-tokenizer of llama.cpp's does what this one does, or conversations come out differently.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.dir_model)
    samples = texts.samples(tokenizer)
    recognised, vocabulary = _vocabulary(model)
    names = [vocabulary.get(PRE) and vocabulary[PRE].value] if recognised else list(_known_names())
    compared = samples if recognised else [*samples, *texts.words(tokenizer)]
    for name in names:
        strange = _strange(gguf, vocabulary, name, compared, scratch)
        if strange is not None and (recognised or not strange):
            break
    else:
        raise ModelError(_refusal(recognised))
    if mismatched := [sample.text for sample in strange if sample.is_conversation]:
        raise ModelError(
            f"llama.cpp would read {len(mismatched)} of {len(texts.CONVERSATIONS)} conversations as other tokens than "
            f"Transformers, so the model would answer worse there: export a vLLM checkpoint instead. The first: "
            f"{mismatched[0][:120]!r}"
        )
    return Tokens(name, recognised, tuple(samples), tuple(sample.text for sample in strange))


def _keep_templates_plain(gguf: Any) -> None:
    """{% generation %} is Transformers' own; llama.cpp's Jinja stops at it."""
    add = gguf.GGUFWriter.add_chat_template

    def plain(writer: Any, value: Any) -> None:
        if isinstance(value, str):
            value = texts.unmarked(value)
        elif value is not None:
            value = [{**each, "template": texts.unmarked(each["template"])} for each in value]
        add(writer, value)

    gguf.GGUFWriter.add_chat_template = plain


def _vocabulary(model: Any) -> tuple[bool, dict[str, Any]]:
    """Whether the converter knows the pre-tokenizer, and everything that the file will say of the tokenizer."""
    known, ask = [True], model.get_vocab_base_pre

    def answer(tokenizer: Any) -> str:
        try:
            return str(ask(tokenizer))
        except NotImplementedError:
            known[0] = False
            return "default"

    model.get_vocab_base_pre = answer
    model.set_vocab()
    facts = {key: value for part in model.gguf_writer.kv_data for key, value in part.items()}
    return known[0], {key: value for key, value in facts.items() if key.startswith("tokenizer.")}


def _known_names() -> Iterator[str]:
    """llama.cpp's pre-tokenizers, those of the most models first."""
    source = (CONVERTER / "conversion" / "base.py").read_text(encoding="utf-8")
    yield from dict.fromkeys(("qwen2", "llama-bpe", "gpt-2", *NAMED.findall(source)))


def _strange(
    gguf: Any, vocabulary: dict[str, Any], pre: str | None, samples: Sequence[Sample], scratch: Path
) -> list[Sample] | None:
    """Samples that llama.cpp reads otherwise; None where it cannot load such a vocabulary at all."""
    _carry(gguf, vocabulary, pre, scratch)
    try:
        with Model(scratch) as model:
            return [sample for sample in samples if model.tokens(sample.text) != list(sample.ids)]
    except LlamaError:
        return None
    finally:
        scratch.unlink()


def _carry(gguf: Any, vocabulary: dict[str, Any], pre: str | None, path: Path) -> None:
    """A file with that vocabulary and the smallest model that llama.cpp accepts around it."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_block_count(1)
    for add in (writer.add_embedding_length, writer.add_feed_forward_length, writer.add_rope_dimension_count):
        add(WIDTH)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    for key, value in vocabulary.items():
        stated = pre if key == PRE else value.value
        writer.add_key_value(key, stated, value.type, sub_type=value.sub_type)
    writer.add_tensor(
        "token_embd.weight", np.zeros((len(vocabulary["tokenizer.ggml.tokens"].value), WIDTH), np.float16)
    )
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((WIDTH, WIDTH), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _refusal(recognised: bool) -> str:
    if recognised:
        return "llama.cpp does not load this tokenizer: serve the model with vLLM or Transformers instead"
    return (
        "none of llama.cpp's pre-tokenizers splits text as this tokenizer does, so it would read other tokens than the "
        "model was trained on. Take the base model's own tokenizer (it is known), or serve the model with vLLM"
    )


if __name__ == "__main__":
    sys.exit(main())
