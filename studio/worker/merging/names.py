"""How a weight of the loaded model is called in the files of its base.

Adapters use the names of the loaded model. Checkpoints may lack the name of the inner model (GPT-2's own files do) or
use older ones, which the loader translates; the merged model keeps the names of its base, so it loads in the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

INNER = ("model.language_model.", "language_model.model.", "language_model.", "model.", "transformer.", "gpt_neox.")
# what the loader renames, to and fro: Mixtral's router, GPT-NeoX' head, Granite's stacked experts
RENAMED = (
    (".mlp.", ".block_sparse_moe."),
    (".block_sparse_moe.", ".mlp."),
    ("lm_head.", "embed_out."),
    (".experts.gate_up_proj", ".input_linear.weight"),
    (".experts.down_proj", ".output_linear.weight"),
)
HEADS = {"embed_tokens": "lm_head", "wte": "lm_head", "word_embeddings": "lm_head", "embed_in": "embed_out"}
# models whose ends are called otherwise
HEADS_OF = {
    "mamba": {"embeddings": "lm_head"},
    "mamba2": {"embeddings": "lm_head"},
    "falcon_mamba": {"embeddings": "lm_head"},
    "rwkv": {"embeddings": "head"},
    "ctrl": {"w": "lm_head"},
    "openai-gpt": {"tokens_embed": "lm_head"},
    "biogpt": {"embed_tokens": "output_projection"},
}


def stored(name: str, names: Collection[str]) -> str | None:
    """What `name` is called among `names`; None where it is not there, or more than one could be meant."""
    for spelling in _spellings(name):
        if spelling in names:
            return spelling
        found = {other for other in _elsewhere(spelling) if other in names}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def embedding(names: Collection[str], model_type: str) -> str | None:
    """The input embedding among `names`, where there is one of a known name."""
    heads = HEADS_OF.get(model_type, HEADS)
    found = [name for name in names if leaf(name) in heads]
    return found[0] if len(found) == 1 else None


def head(embedding: str, model_type: str) -> str:
    """What the output head that belongs to an embedding is called, stored or not."""
    outside = "language_model." if embedding.startswith("language_model.model.") else ""
    return f"{outside}{HEADS_OF.get(model_type, HEADS)[leaf(embedding)]}.weight"


def is_head(name: str, head: str) -> bool:
    """Whether a weight is that of the output head, which has another name in files of some age."""
    return leaf(name) in {leaf(head), *HEADS.values()}


def leaf(name: str) -> str:
    """The module that a weight belongs to, without those around it; empty of what is no weight."""
    return name.removesuffix(".weight").rpartition(".")[2] if name.endswith(".weight") else ""


def _spellings(name: str) -> Iterator[str]:
    yield name
    yield from (name.replace(old, new) for old, new in RENAMED if old in name)


def _elsewhere(name: str) -> Iterator[str]:
    """`name` below other inner models, or none."""
    for inner in (*INNER, ""):
        if name.startswith(inner):
            rest = name.removeprefix(inner)
            yield from (other + rest for other in (*INNER, ""))
