"""The box that finds one option among a hundred, by its key or by what is said of it in either language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from studio.config import llamafactory
from studio.config.option import Option, options
from studio.config.train import TrainConfig
from studio.ui import panel
from studio.ui.form import HIDDEN_GROUPS
from studio.ui.text import GROUPS

FOUND_MAX = 8
FATES_MAX = 4
# what else people call an option
CALLED = {
    "cutoff_len": "max sequence context length",
    "learning_rate": "lr",
    "max_grad_norm": "gradient clipping",
    "quantization_bit": "qlora 4bit 8bit 4-bit 8-bit bitsandbytes",
}


def draw() -> gr.HTML:
    """The box and the list below it."""

    def find(text: str) -> panel.Answer:
        return {"found": on_find(text), "fates": fates(text)}

    return panel.draw("train_find", [find], shared=["options"], elem_id="train-find")


def on_find(text: str) -> list[dict[str, Any]]:
    """The options that `text` fits, the best first: [English, Chinese] texts, and on what each depends."""
    words = text.lower().split()
    known = [option for option in options(TrainConfig) if option.group not in HIDDEN_GROUPS]
    ranked = [(rank, option) for option in known if words and (rank := _rank(option, words)) is not None]
    return [_told(option) for _, option in sorted(ranked, key=lambda pair: pair[0])[:FOUND_MAX]]


def fates(text: str) -> list[dict[str, str]]:
    """LLaMA-Factory's keys that begin with `text` and are no options here: what becomes of each."""
    begun = "_".join(text.lower().split())
    known = {option.key for option in options(TrainConfig)}
    told = {
        **{key: f"LLaMA-Factory's; left out: {why}" for key, why in llamafactory.WITHOUT_EFFECT.items()},
        **{key: f"LLaMA-Factory's; here instead: {other}" for key, other in llamafactory.INSTEAD.items()},
        **{key: f"LLaMA-Factory's; read as: {as_.words}" for key, as_ in llamafactory.TRANSLATED.items()},
    }
    fitting = [key for key in sorted(told) if begun and key.startswith(begun) and key not in known]
    return [{"key": key, "fate": told[key].replace("`", "")} for key in fitting[:FATES_MAX]]


def _rank(option: Option, words: list[str]) -> int | None:
    """0 for a key that begins so, then names with words that do, names that hold them, hints; None for the others."""
    called = CALLED.get(option.key, "")
    names = f" {option.key} {option.key.replace('_', ' ')} {' '.join(option.label)} {called}".lower()
    hints = f"{option.en} {option.zh} {' '.join(map(str, option.choices))}".lower()
    fits = (
        option.key.startswith("_".join(words)),
        all(f" {word}" in names for word in words),
        all(word in names for word in words),
        all(word in names or word in hints for word in words),
    )
    return fits.index(True) if any(fits) else None


def _told(option: Option) -> dict[str, Any]:
    return {
        "key": option.key,
        "group": option.group,
        "section": GROUPS[option.group],
        "label": option.label,
        "hint": (option.en, option.zh),
        "when": _condition(option.when),
    }


def _condition(when: Mapping[str, Any]) -> str:
    """`stage: dpo or kto, pref_loss: simpo`; empty for what always matters."""
    return ", ".join(
        f"{key}: {' or '.join(map(str, value if isinstance(value, tuple) else (value,)))}"
        for key, value in when.items()
    )
