"""The checkpoint itself, written by llmcompressor or by bitsandbytes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

from studio.config.quantize import QuantizeConfig
from studio.errors import ModelError
from studio.worker import outputs
from studio.worker.encode import Encoded
from studio.worker.quantizing.perplexity import loaded

SHARD_SIZE = "5GB"
GENERATION = "generation_config.json"
Say = Callable[[str], None]


def write(
    config: QuantizeConfig, folder: Path, draft: Path, rows: Sequence[Encoded],
    tokenizer: PreTrainedTokenizerBase, say: Say,
) -> None:  # fmt: skip
    """The model of `folder` with smaller weights, into `draft`; `say` hears how far it is.

    Raises:
        ModelError: it cannot be loaded or quantised, and why.
    """
    if config.export_quantization_method == "bitsandbytes":
        _write_bitsandbytes(config, folder, draft)
    else:
        _compress(config, folder, draft, rows, tokenizer, say)
    if (folder / GENERATION).exists():
        shutil.copy2(folder / GENERATION, draft / GENERATION)
    outputs.copy_tokenizer(folder, draft, tokenizer if config.template else None)


def _write_bitsandbytes(config: QuantizeConfig, folder: Path, draft: Path) -> None:
    """Saved before any answer: bitsandbytes 0.50 repacks 4-bit weights at the first, and then saves broken ones."""
    options = BitsAndBytesConfig(
        load_in_8bit=config.bits == 8,
        load_in_4bit=config.bits == 4,
        bnb_4bit_quant_type=config.quantization_type,
        bnb_4bit_use_double_quant=config.double_quantization,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=[name.removeprefix("re:") for name in config.modules_to_not_convert] or None,
    )
    place = 0 if torch.cuda.is_available() else "cpu"
    with loaded(folder, quantization_config=options, device_map={"": place}) as model:
        model.save_pretrained(draft, max_shard_size=SHARD_SIZE)


def _compress(
    config: QuantizeConfig, folder: Path, draft: Path, rows: Sequence[Encoded],
    tokenizer: PreTrainedTokenizerBase, say: Say,
) -> None:  # fmt: skip
    from llmcompressor import oneshot

    from studio.worker.quantizing.recipes import modifiers

    data = {"dataset": DataLoader(list(map(_batch, rows)), batch_size=None)} if rows else {}
    # on a GPU one layer after another is moved there
    with loaded(folder) as model, _watched(say):
        _require_linear(config, model)
        try:
            oneshot(model=model, recipe=modifiers(config), processor=tokenizer, **data)
        except (ValueError, torch.linalg.LinAlgError) as error:
            raise ModelError(f"{folder} cannot be quantised with {config.scheme}: {error}") from error
        say("writing")
        model.save_pretrained(draft, save_compressed=True, max_shard_size=SHARD_SIZE)


def _require_linear(config: QuantizeConfig, model: PreTrainedModel) -> None:
    """llmcompressor passes over what is no linear layer, such as the Conv1D of GPT-2, often without a word."""
    linear = (name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear))
    if all(any(re.match(left, name) for left in config.left_out) for name in linear):
        raise ModelError(
            f"no layer of this model can be quantised with {config.scheme}: its weights are not those of linear layers "
            "(nn.Linear). bitsandbytes and GGUF may take it"
        )


def _batch(row: Encoded) -> dict[str, torch.Tensor]:
    ids = torch.tensor([row.input_ids])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@contextmanager
def _watched(say: Say) -> Iterator[None]:
    """llmcompressor tells how far it is by progress bars alone; and AWQ pins memory, which needs an accelerator."""
    from llmcompressor.pipelines.cache import IntermediatesCache
    from llmcompressor.pipelines.sequential import pipeline

    def told(items: Iterable[Any], total: int, desc: str) -> Iterator[Any]:
        for done, item in enumerate(items, 1):
            say(f"{desc.lower()}, row {done} of {total}")
            yield item

    bar, pin = pipeline.tqdm, IntermediatesCache.pin_memory
    pipeline.tqdm = told
    if not torch.cuda.is_available():
        IntermediatesCache.pin_memory = lambda *_: None
    try:
        yield
    finally:
        pipeline.tqdm, IntermediatesCache.pin_memory = bar, pin
