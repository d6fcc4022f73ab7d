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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from studio.errors import ModelError, SeedbedError
from studio.exports.gguf import CONVERTER
from studio.files import read_record, write_json
from studio.worker import imports
from studio.worker.llama import texts
from studio.worker.llama.library import LlamaError, Model
from studio.worker.llama.texts import Sample

FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
PRE, SPACED = "tokenizer.ggml.pre", "tokenizer.ggml.add_space_prefix"
ENDS = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")  # where llama.cpp ends an answer too
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5  # kinds of tokens in a file
WIDTH = 32  # of the tiny model that carries a vocabulary
NAMED = re.compile(r'res = "([\w.-]+)"')


@dataclass(frozen=True)
class Tokens:
    """What was found out about the tokenizer. `pre` is llama.cpp's name for its way of splitting, if it has one.

    `strange` are texts that llama.cpp splits otherwise than Transformers. `spaced` is False where llama.cpp must be
    told not to put a space behind special tokens, as it does for SentencePiece and Transformers no longer does.
    `ends` are tokens at which the original stops and llama.cpp by itself would not.
    """

    pre: str | None
    recognised: bool
    spaced: bool
    samples: tuple[Sample, ...]
    strange: tuple[str, ...]
    ends: tuple[int, ...] = ()


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
            _settle(model, tokens)
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
    compared = samples if recognised else [*samples, *texts.words(tokenizer)]
    conversations: list[str] = []
    for attempt in _attempts(gguf, vocabulary, recognised):
        strange = _strange(gguf, attempt, compared, scratch)
        if strange is None:
            continue
        conversations = [sample.text for sample in strange if sample.is_conversation]
        if not strange or (recognised and not conversations):
            pre = attempt[PRE].value if PRE in attempt else None
            spaced = SPACED not in attempt or bool(attempt[SPACED].value)
            ends = tuple(_unknown_ends(gguf, attempt, model.dir_model, scratch))
            return Tokens(pre, recognised, spaced, tuple(samples), tuple(sample.text for sample in strange), ends)
    raise ModelError(_refusal(recognised, conversations))


def _attempts(gguf: Any, vocabulary: dict[str, Any], recognised: bool) -> Iterator[dict[str, Any]]:
    """What the file may say of the tokenizer: as the converter has it, and what else llama.cpp could be told."""
    if not recognised:
        yield from ({**vocabulary, PRE: replace(vocabulary[PRE], value=name)} for name in _known_names())
        return
    yield vocabulary
    if vocabulary["tokenizer.ggml.model"].value == "llama":
        yield {**vocabulary, SPACED: gguf.gguf_writer.GGUFValue(False, gguf.GGUFValueType.BOOL)}


def _settle(model: Any, tokens: Tokens) -> None:
    """Have the converter write what was found to be right."""
    if tokens.pre and not tokens.recognised:
        model.get_vocab_base_pre = lambda _: tokens.pre

    def write() -> None:
        _set_vocabulary(model)
        if not tokens.spaced:
            model.gguf_writer.remove_key(SPACED)
            model.gguf_writer.add_bool(SPACED, False)
        for key, token in zip(ENDS, tokens.ends, strict=False):
            model.gguf_writer.remove_key(key)
            model.gguf_writer.add_uint32(key, token)

    model.set_vocab = write


def _set_vocabulary(model: Any) -> None:
    """As the converter does, and with the tokens that Transformers 5 keeps in tokenizer.json alone."""
    from transformers import AutoTokenizer

    type(model).set_vocab(model)
    [facts] = model.gguf_writer.kv_data
    if "tokenizer.ggml.token_type" not in facts:
        return
    texts_of, types = facts["tokenizer.ggml.tokens"].value, facts["tokenizer.ggml.token_type"].value
    for number, token in AutoTokenizer.from_pretrained(model.dir_model).added_tokens_decoder.items():
        if number < len(types) and types[number] == UNUSED:
            texts_of[number], types[number] = token.content, CONTROL if token.special else USER_DEFINED


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
    _set_vocabulary(model)
    facts = {key: value for part in model.gguf_writer.kv_data for key, value in part.items()}
    return known[0], {key: value for key, value in facts.items() if key.startswith("tokenizer.")}


def _known_names() -> Iterator[str]:
    """llama.cpp's pre-tokenizers, those of the most models first."""
    source = (CONVERTER / "conversion" / "base.py").read_text(encoding="utf-8")
    yield from dict.fromkeys(("qwen2", "llama-bpe", "gpt-2", *NAMED.findall(source)))


def _strange(gguf: Any, vocabulary: dict[str, Any], samples: Sequence[Sample], scratch: Path) -> list[Sample] | None:
    """Samples that llama.cpp reads otherwise; None where it cannot load such a vocabulary at all."""
    _carry(gguf, vocabulary, scratch)
    try:
        with Model(scratch) as model:
            return [sample for sample in samples if model.tokens(sample.text) != list(sample.ids)]
    except LlamaError:
        return None
    finally:
        scratch.unlink()


def _unknown_ends(gguf: Any, vocabulary: dict[str, Any], folder: Path, scratch: Path) -> Iterator[int]:
    """Tokens at which Transformers ends an answer and llama.cpp, which knows many by their names, would go on."""
    stated = [read_record(folder / name).get("eos_token_id") for name in ("generation_config.json", "config.json")]
    first: Any = next((each for each in stated if each is not None), [])
    _carry(gguf, vocabulary, scratch)
    with Model(scratch) as model:
        yield from (token for token in (first if isinstance(first, list) else [first]) if not model.ends(token))
    scratch.unlink()


def _carry(gguf: Any, vocabulary: dict[str, Any], path: Path) -> None:
    """A file with that vocabulary and the smallest model that llama.cpp accepts around it."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_block_count(1)
    for add in (writer.add_embedding_length, writer.add_feed_forward_length, writer.add_rope_dimension_count):
        add(WIDTH)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    for key, value in vocabulary.items():
        writer.add_key_value(key, value.value, value.type, sub_type=value.sub_type)
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


def _refusal(recognised: bool, conversations: list[str]) -> str:
    """`conversations` are those that came out differently in the last attempt that loaded."""
    if not recognised:
        return (
            "none of llama.cpp's pre-tokenizers splits text as this tokenizer does, so it would read other tokens than "
            "the model was trained on. Take the base model's own tokenizer (it is known), or serve the model with vLLM"
        )
    if not conversations:
        return "llama.cpp does not load this tokenizer: serve the model with vLLM or Transformers instead"
    return (
        f"llama.cpp would read {len(conversations)} of {len(texts.CONVERSATIONS)} conversations as other tokens than "
        f"Transformers, so the model would answer worse there: serve it with vLLM instead. The first: "
        f"{conversations[0][:120]!r}"
    )


if __name__ == "__main__":
    sys.exit(main())
