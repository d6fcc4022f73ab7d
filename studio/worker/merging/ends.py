"""The two ends of a model, embedding and head, which share one weight where they are tied.

An adapter that changes one of them only, or both in their own ways, unties them: the head is written as a tensor of
its own and config.json says so, because a loader ties what is not said to be untied.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from studio import models
from studio.errors import ModelError
from studio.worker.merging import names
from studio.worker.merging.adapter import WRAPPED, Adapter, Held
from studio.worker.merging.lora import Rows
from studio.worker.merging.sheet import TIED, Sheet


def is_end(sheet: Sheet, name: str) -> bool:
    """Whether `name`, as the loaded model spells it, is the embedding or the head."""
    return _end(sheet, name) is not None


def settle(sheet: Sheet, adapter: Adapter) -> None:
    """Put in place what an adapter holds of the ends whole, and untie them where it tells them apart.

    Raises:
        ModelError: it does not fit.
    """
    copied = {end: whole for end, whole in _ends(sheet, adapter.copied).items() if not _is_bases(sheet, end, whole)}
    if sheet.is_tied and sheet.head not in sheet.tensors and copied:
        assert sheet.embedding
        copied = {sheet.embedding: copied.get(sheet.embedding) or next(iter(copied.values()))}
    for end, whole in copied.items():
        _replace(sheet, end, whole)
    if sheet.is_tied and _tells_apart(sheet, adapter):
        _require_kept(sheet, adapter)
        _untie(sheet)
    for end, whole in _ends(sheet, adapter.trained).items():
        _replace(sheet, end, whole)


def put_rows(sheet: Sheet, adapter: Adapter, module: str, values: Held) -> None:
    """Rows of an embedding or head that were trained one by one; tied ends get them both.

    Raises:
        ModelError: they do not fit.
    """
    found = _end(sheet, f"{module}.weight") or names.stored(f"{module}.weight", sheet.tensors)
    rows = adapter.token_rows(module)
    if found is None or found not in sheet.tensors:
        raise ModelError(f"the base {sheet.folder} has no weights for {module}, some rows of which were trained")
    vocabulary, *rest = sheet.tensors[found].shape
    if values.shape != (len(rows), *rest) or not all(0 <= row < vocabulary for row in rows):
        raise ModelError(
            f"trainable_token_indices: the adapter has {values.shape[0]} rows of {list(values.shape[1:])} for "
            f"{len(rows)} tokens of {found}, which is {[vocabulary, *rest]} in the base"
        )
    both = [sheet.embedding, sheet.head] if found == sheet.embedding and _shares_rows(sheet, adapter) else [found]
    for end in both:
        if end in sheet.tensors:
            sheet.require_untouched(end, "a row that was trained by itself")
            sheet.change(end, Rows(rows, values.source))


def require_known(sheet: Sheet, adapter: Path) -> None:
    """What may be one of two tied ends is changed only where the other one is known, too.

    Raises:
        ModelError: it is not.
    """
    changed = {part for key in models.read_header(adapter / models.ADAPTER_WEIGHTS) for part in key.split(".")}
    if found := [name for name in sheet.perhaps_tied if names.leaf(name) in changed]:
        raise ModelError(
            f"{adapter} changes {found[0]}, which may be one weight with the other end of the model: how the "
            f"ends of a {sheet.model_type} model are called is not known here, and its config.json does not say "
            f"{TIED}: false. Serve it as an adapter, or say so there if the ends are two weights"
        )


def require_even(sheet: Sheet) -> None:
    """Embedding and head speak of the same vocabulary, which config.json then names if it changed.

    Raises:
        ModelError: only one of them was resized.
    """
    there = [sheet.tensors[end] for end in (sheet.embedding, sheet.head) if end in sheet.tensors]
    sizes = {tensor.shape[0] for tensor in there}
    if not any(tensor.whole for tensor in there):
        return
    if len(sizes) > 1:
        shapes = " and ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in there)
        raise ModelError(f"the merged model would have {shapes}: the adapter was saved without one of its resized ends")
    if (size := sizes.pop()) != sheet.vocabulary:
        sheet.notes.append(f"The vocabulary has {size} tokens, where the base has {sheet.vocabulary}.")
        sheet.set("vocab_size", size)


def _tells_apart(sheet: Sheet, adapter: Adapter) -> bool:
    """Whether it changes the ends otherwise than together. Trained rows of a tied embedding are the head's too."""
    if _ends(sheet, adapter.trained):
        return True
    for layer in adapter.layers:
        end = _end(sheet, f"{layer.name}.weight")
        if end and not ("tokens" in layer.tensors and end == sheet.embedding):
            return True
    return False


def _require_kept(sheet: Sheet, adapter: Adapter) -> None:
    """A start that takes something from the weight of an end takes it from both."""
    started = [layer.name for layer in adapter.layers if adapter.start and not layer.is_embedding]
    if found := [name for name in started if _end(sheet, f"{name}.weight")]:
        raise ModelError(
            f"init_lora_weights: {adapter.start} took what {found[0]} began with out of a weight that the other end of "
            "the model shares, and this merge does not cover that: convert the adapter to a plain LoRA where it was "
            "trained (save_pretrained with path_initial_model_for_weight_conversion)"
        )


def _shares_rows(sheet: Sheet, adapter: Adapter) -> bool:
    """Whether rows of the embedding are the head's, too: below a LoRA on it, but not beside rows of its own."""
    own = [layer.name for layer in adapter.layers if "tokens" in layer.tensors]
    return sheet.came_tied and not any(_end(sheet, f"{name}.weight") == sheet.head for name in own)


def _untie(sheet: Sheet) -> None:
    assert sheet.embedding
    assert sheet.head
    if sheet.head not in sheet.tensors:
        sheet.add(sheet.head, like=sheet.tensors[sheet.embedding])
    sheet.set(TIED, False)
    sheet.notes.append(
        f"Embedding and head were one weight; the adapter changes them apart, so {sheet.head} is written as a tensor "
        "of its own and config.json says tie_word_embeddings: false."
    )


def _is_bases(sheet: Sheet, end: str, whole: Held) -> bool:
    """Whether it is the base's own weight, which PEFT saves along with an adapter on it."""
    there = sheet.tensors.get(end) or sheet.tensors[str(sheet.embedding)]
    return f"{WRAPPED}." in whole.source.name and whole.shape == there.shape


def _replace(sheet: Sheet, end: str, whole: Held) -> None:
    there = sheet.tensors.get(end) or sheet.tensors[str(sheet.embedding)]
    if there.shape[1:] != whole.shape[1:] or whole.shape[0] < 1:
        raise ModelError(f"{end} is {list(there.shape)} in the base and {list(whole.shape)} in the adapter")
    sheet.replace(end, whole)


def _ends(sheet: Sheet, whole: Mapping[str, Held]) -> dict[str, Held]:
    return {end: stored for name, stored in whole.items() if (end := _end(sheet, name))}


def _end(sheet: Sheet, name: str) -> str | None:
    """Embedding or head, as the base's files spell it."""
    if sheet.head and names.is_head(name, sheet.head):
        return sheet.head
    found = names.stored(name, sheet.tensors)
    return found if found and found in (sheet.embedding, sheet.head) else None
