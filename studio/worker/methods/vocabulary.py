"""Models whose vocabulary grows: new rows of the embeddings start as the mean of the old ones, and are trained."""

from __future__ import annotations

from peft.utils.other import TrainableTokensWrapper
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from studio.config.train import TrainConfig
from studio.files import read_record
from studio.models import ModelInfo
from studio.worker import tokenizer as tokenizers

NEW_ROWS = "new_rows"  # key of config.json: the first new row of the embeddings, and the one past the last


def grown(config: TrainConfig, info: ModelInfo) -> tuple[PreTrainedTokenizerBase, range] | None:
    """The tokenizer with the tokens that are asked for, and the rows of the embeddings that are new; None for none.

    New are also the rows of tokens that the tokenizer had and the model had not.
    """
    if not (config.resize_vocab or config.add_tokens or config.add_special_tokens):
        return None
    tokenizer = tokenizers.load(info.path, config.trust_remote_code)
    described = read_record(info.path / "config.json")
    size = (described.get("text_config") or described).get("vocab_size", 0)
    first = min(len(tokenizer), size)
    tokenizer.add_tokens(list(config.add_tokens))
    tokenizer.add_tokens(list(config.add_special_tokens), special_tokens=True)
    rows = range(first, len(tokenizer))
    return (tokenizer, rows) if rows else None


def grow(model: PreTrainedModel, rows: range) -> None:
    """Make room for `rows` and set them to the mean of those before them."""
    if rows.stop > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(rows.stop, mean_resizing=False)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        _fill(module, rows)


def new_rows(model: PreTrainedModel) -> dict[str, list[int]]:
    """Full name of each embedding whose new rows are to be trained -> those rows; a tied head follows by itself."""
    bounds = getattr(model.config, NEW_ROWS, None)
    if not bounds or bounds[0] == bounds[1]:
        return {}
    ends = [model.get_input_embeddings()]
    if not model.config.get_text_config().tie_word_embeddings and model.get_output_embeddings():
        ends.append(model.get_output_embeddings())
    return {name: list(range(*bounds)) for name, module in model.named_modules() if module in ends}


def complete(model: nn.Module) -> None:
    """Give the parts of PEFT that stand for embeddings the bias that TRL asks of every head."""
    for module in model.modules():
        if isinstance(module, TrainableTokensWrapper) and isinstance(module.original_module, nn.Linear):
            module.bias = module.original_module.bias


def _fill(module: nn.Module | None, rows: range) -> None:
    if module is None:
        return
    for weight in module.parameters(recurse=False):  # a head may have a bias
        weight.data[rows.start : rows.stop] = weight.data[: rows.start].float().mean(0).to(weight.dtype)
