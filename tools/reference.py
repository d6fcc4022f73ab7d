"""Write docs/options.md, docs/llamafactory.md and docs/pairs.md from the declarations, so that they are never behind.

python tools/reference.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from studio.config.llamafactory import INSTEAD, OWN, TRANSLATED, VALUES_INSTEAD, WITHOUT_EFFECT  # noqa: E402
from studio.config.load import KINDS  # noqa: E402
from studio.config.option import Option, options  # noqa: E402
from studio.config.train import TrainConfig  # noqa: E402
from studio.config.train.pairs import METHODS, STAGES, refusals  # noqa: E402

HEAD = "<!-- written by tools/reference.py (`make docs`): change the declarations, not this page -->\n"
TITLES = {"train": "Training", "serve": "Serving", "merge": "Merging and exporting", "data": "Work on datasets"}


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
    return "\n".join([*lines, "", *_value_lines(), ""])


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
    for key, translation in TRANSLATED.items():
        if key not in TrainConfig.model_fields:
            yield key, ("translated", translation.words)
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
}

if __name__ == "__main__":
    main()
