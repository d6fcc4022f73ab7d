"""Write the pages of docs/ from the declarations, so that they are true: see PAGES.

python tools/reference.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from studio import templates  # noqa: E402
from studio.config.llamafactory import INSTEAD, OWN, TRANSLATED, VALUES_INSTEAD, WITHOUT_EFFECT  # noqa: E402
from studio.config.llamafactory.exporting import INERT, REFUSED, translation, without_effect  # noqa: E402
from studio.config.load import KINDS  # noqa: E402
from studio.config.merge import MergeConfig  # noqa: E402
from studio.config.option import Config, Option, options  # noqa: E402
from studio.config.quantize import QuantizeConfig  # noqa: E402
from studio.config.train import TrainConfig  # noqa: E402
from studio.config.train.pairs import METHODS, STAGES, refusals  # noqa: E402
from tools import parallel_page  # noqa: E402

HEAD = "<!-- written by tools/reference.py (`make docs`): change the declarations, not this page -->\n"
TITLES = {
    "train": "Training",
    "serve": "Serving",
    "merge": "Merging and exporting",
    "data": "Work on datasets",
    "arena": "Arena",
    "bench": "Benchmarks",
    "gguf": "GGUF",
    "ollama": "Ollama",
    "quantize": "Quantised checkpoints",
    "adapter": "Adapter tools",
    "push": "Upload to the hub",
    "consolidate": "Consolidate a checkpoint",
}


def main() -> None:
    """Write every page."""
    for path, page in PAGES.items():
        (ROOT / path).write_text(page(), encoding="utf-8")


def option_page() -> str:
    """Every option of every kind of run, by section."""
    lines = [
        HEAD,
        "# Options",
        "",
        "Each is a field of the form, a key of the YAML and a `key=value` of the command.",
        "",
    ]
    for kind, config in KINDS.items():
        declared = [option for option in options(config) if option.group != "internal"]
        lines += [f"## {TITLES[kind]}", ""]
        for group in dict.fromkeys(option.group for option in declared):
            lines += [
                f"### {group.capitalize()}",
                "",
                "| option | values | default | what it does |",
                "|---|---|---|---|",
            ]
            lines += [_option_row(option) for option in declared if option.group == group] + [""]
    return "\n".join(lines)


def llamafactory_page() -> str:
    """Every key of LLaMA-Factory and what becomes of it."""
    rows = dict(sorted(_fates()))
    counts = {fate: sum(row[0] == fate for row in rows.values()) for fate in FATES}
    lines = [HEAD, "# LLaMA-Factory's keys", "", *INTRODUCTION, ""]
    lines += [f"{sum(counts.values())} keys: {', '.join(f'{count} {fate}' for fate, count in counts.items())}.", ""]
    lines += ["| key | fate | here |", "|---|---|---|"]
    lines += [f"| `{key}` | {fate} | {_cell(words)} |" for key, (fate, words) in rows.items()]
    return "\n".join([*lines, "", *_value_lines(), "", *_export_lines(), ""])


def _export_lines() -> Iterator[str]:
    """What becomes of the keys of an export file."""
    yield from EXPORT_INTRODUCTION
    yield ""
    known = {*REFUSED, *INERT, "infer_dtype", "export_dir", "export_device", "model_name_or_path"}
    for key in sorted(known):
        merging, quantising = (_export_fate(key, kind) for kind in (MergeConfig, QuantizeConfig))
        yield f"- `{key}`: {merging}" + (f"; in quantising {quantising}" if quantising != merging else "")


def _export_fate(key: str, kind: type[Config]) -> str:
    declared = kind.model_fields
    if key in declared:
        return "taken"
    if words := translation(key, declared):
        return f"is `{words}`"
    if key in REFUSED:
        return f"refused; instead: {REFUSED[key]}"
    return f"without effect: {without_effect({key: 'x'}, declared)[key]}"


def pair_page() -> str:
    """Which method can be had in which stage."""
    why: dict[str, None] = {}
    lines = [
        HEAD,
        "# Stages and methods",
        "",
        "A tick is trained in the test suite; a number is refused with that reason.",
        "",
    ]
    lines += [f"| stage | {' | '.join(METHODS)} |", f"|---|{'---|' * len(METHODS)}"]
    for stage in STAGES:
        cells = []
        for method in METHODS:
            reasons = [f"`{problem.where}`: {problem.what}" for problem in refusals(stage, method)]
            why |= dict.fromkeys(reasons)
            cells.append(", ".join(str([*why].index(reason) + 1) for reason in reasons) or "✓")
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    numbered = [f"{number}. {reason}" for number, reason in enumerate(why, 1)]
    return "\n".join([*lines, "", *numbered, ""])


def template_page() -> str:
    """Every named chat template, what it can do, and LLaMA-Factory's names for it."""
    lines = [HEAD, "# Chat templates", "", *TEMPLATES_INTRODUCTION, ""]
    lines += ["| template | ends an answer | thinking | tools | also called |", "|---|---|---|---|---|"]
    for name in templates.names():
        text, end = templates.text(name), templates.find(name).end or "eos_token"
        others = sorted(alias for alias, meant in templates.ALIASES.items() if meant == name)
        marks = ("on, off" if "enable_thinking" in text else "", "yes" if "if tools" in text else "")
        called = ", ".join(f"`{other}`" for other in others)
        lines.append(f"| `{name}` | `{_cell(end)}` | {marks[0]} | {marks[1]} | {called} |")
    lines += [
        "",
        "Names of LLaMA-Factory that are refused, with the nearest here:",
        "",
        "| name | nearest |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | `{nearest}` |" for name, nearest in sorted(templates.NEAREST.items())]
    return "\n".join(lines) + "\n"


TEMPLATES_INTRODUCTION = [
    "Where `template` is empty, the model's own chat template is used: in training, in every preview, and in chats. A",
    "name takes one of these instead, for base models that have none. It is saved with the adapter or model, and chats",
    "are held with it. No template adds a system prompt by itself, as LLaMA-Factory's often do: `default_system` does.",
    "",
    "The token that ends an answer becomes the tokenizer's `eos_token` if the tokenizer knows it. If it does not, the",
    "studio says so before a training: `add_special_tokens` with `resize_vocab: true` adds it.",
    "",
    "`enable_thinking: false` has answers begin behind an empty thought, or without one; `true` or empty lets the",
    "model think. Templates of reasoning models leave thoughts of earlier turns out. Then each answer of a",
    "conversation is learnt in its own rendering, as the model is asked for it, and a row becomes several sequences;",
    "`mask_history: true` learns the last answer only.",
    "",
    "LLaMA-Factory's `qwen3_nothink` is the format of Qwen3-Instruct-2507, which has no place for thoughts: `qwen`. A",
    "Qwen3 that can do both is `qwen3` with `enable_thinking: false`.",
]
EXPORT_INTRODUCTION = [
    "## Export files",
    "",
    "`python -m studio export FILE.yaml` merges, or quantises where `export_quantization_bit` is set. An adapter that",
    "is named by the `output_dir` of its training is found by the last part of that name. All keys that are not named",
    "here only matter in training or in answering, and are left out.",
]
FATES = ("option", "translated", "without effect", "refused")
INTRODUCTION = [
    "Its training files run here as they are. Every key that it knows, those of transformers' training arguments",
    "included, has one of four fates: it is an *option* here too, it is *translated* into one, it is *without effect*",
    "here (the reason is told when the file is read), or it is *refused* by name with what to use instead.",
]


def _fates() -> Iterator[tuple[str, tuple[str, str]]]:
    for option in options(TrainConfig):
        if option.key not in OWN:
            spelled = f"; {TRANSLATED[option.key].words}" if option.key in TRANSLATED else ""
            yield option.key, ("option", option.en.rstrip(".") + spelled)
    for key, told in TRANSLATED.items():
        if key not in TrainConfig.model_fields:
            yield key, ("translated", told.words)
    yield from ((key, ("without effect", why)) for key, why in WITHOUT_EFFECT.items())
    yield from ((key, ("refused", f"instead: {instead}")) for key, instead in INSTEAD.items())


def _value_lines() -> list[str]:
    rows = [f"| `{key}: {value}` | {_cell(instead)} |" for (key, value), instead in VALUES_INSTEAD.items()]
    return ["Values of options that are refused:", "", "| value | use instead |", "|---|---|", *rows]


def _option_row(option: Option) -> str:
    when = " and ".join(f"`{key}: {_wanted(wanted)}`" for key, wanted in option.when.items())
    needs = f" Matters with {when}." if when else ""
    return f"| `{option.key}` | {_values(option)} | {_shown(option.default)} | {_cell(option.en + needs)} |"


def _values(option: Option) -> str:
    if option.choices:
        return _cell(", ".join(map(str, option.choices)))
    low = "" if option.low is None else f"{'above' if option.open_low else 'from'} {option.low:g}"
    high = "" if option.high is None else f"to {option.high:g}"
    return " ".join(filter(None, (WORDS[option.kind], low, high)))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "empty"
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "true", False: "false"}[value]
    return _cell(str(value))


def _wanted(value: object) -> str:
    return " or ".join(map(str, value)) if isinstance(value, tuple) else _shown(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


WORDS = {"bool": "true, false", "int": "whole number", "float": "number", "str": "text", "list": "names"}
PAGES: dict[str, Callable[[], str]] = {
    "docs/options.md": option_page,
    "docs/llamafactory.md": llamafactory_page,
    "docs/pairs.md": pair_page,
    "docs/templates.md": template_page,
    "docs/parallel.md": lambda: parallel_page.page(HEAD),
}

if __name__ == "__main__":
    main()
