"""What is wrong with the rows of a file, and what they amount to in the tokens of a model."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from studio.cli.data import tokens
from studio.cli.data.action import Action, config_flags, meter, name_flag, print_json, share
from studio.cli.data.reading import mapping_flags, subject
from studio.cli.terminal import say
from studio.datasets import checks
from studio.datasets.checks import Report
from studio.datasets.entry import Entry
from studio.datasets.index import save
from studio.datasets.registry import Registry
from studio.errors import UploadError

FATAL = 1
TOKEN_FLAGS = (
    "template", "enable_thinking", "cutoff_len", "default_system", "train_on_prompt", "mask_history", "measured_rows",
    "trust_remote_code",
)  # fmt: skip


def check(registry: Registry, arguments: argparse.Namespace) -> int:
    """Read every row of a dataset or of any file; the exit code is 1 if it must not be trained on as it is."""
    try:
        path, entry = subject(registry, arguments)
        report = _report(registry, arguments, path, entry)
    except UploadError as error:
        if not arguments.json:
            raise
        print_json({"file": arguments.name, "fatal": str(error), "findings": []})
        return FATAL
    if arguments.json:
        print_json({"file": str(path), **report.to_json()})
    else:
        say("\n".join([report.summary(), *_mending(registry, entry, report)]))
    return FATAL if report.fatal else 0


def _mending(registry: Registry, entry: Entry, report: Report) -> list[str]:
    """The command that does every repair which fits."""
    repairs = dict.fromkeys(found.repair for found in report.findings if found.repair)
    if not repairs:
        return []
    name = entry.name if entry.name in registry.names() else "NAME (add the file first)"
    return [f"to mend it in a new dataset: python -m studio data repair {name} {' '.join(repairs)}"]


def _report(registry: Registry, arguments: argparse.Namespace, path: Path, entry: Entry) -> Report:
    flags = {"near_duplicates": arguments.near_duplicates, "threshold": arguments.threshold}
    with meter(f"checking {path.name}") as progress:
        report, index = checks.survey(path, entry, progress=progress, **flags)
    if entry.name in registry.names() and registry.entry(entry.name) == entry:
        checks.keep(path, entry, report, registry.cache_dir)
        save(path, index, registry.cache_dir)
    if "model_name_or_path" not in arguments or report.fatal:
        return report
    found = tokens.findings(registry, arguments, path, entry)
    return replace(report, findings=(*report.findings, *found))


def stats(registry: Registry, arguments: argparse.Namespace) -> int:
    """Token lengths, trained tokens, turns and languages of a dataset, counted with a model's tokenizer."""
    measured = tokens.measured(registry, arguments, arguments.name)
    if arguments.json:
        print_json({**measured.to_json(), "trained_share": measured.trained_share})
    else:
        say(tokens.described(measured))
    return 0


def _check_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME | FILE", help="a dataset of the list, or any file or folder")
    mapping_flags(parser)
    near = "search for rows that are almost the same, too"
    parser.add_argument("--near-duplicates", "--near_duplicates", action="store_true", help=near)
    parser.add_argument("--threshold", type=share, default=0.85, metavar="SHARE", help="what is almost the same (0.85)")
    # the option's own name, for a command that was made from a configuration
    parser.add_argument("--near_duplicate_threshold", dest="threshold", type=share, help=argparse.SUPPRESS)
    config_flags(parser, "model_name_or_path", *TOKEN_FLAGS)


def _stats_flags(parser: argparse.ArgumentParser) -> None:
    name_flag(parser)
    config_flags(parser, "model_name_or_path", *TOKEN_FLAGS)


ACTIONS = {
    "check": Action(check, _check_flags, "check questions.csv --model seedling --cutoff-len 1024"),
    "stats": Action(stats, _stats_flags, "stats alpaca_demo --model seedling"),
}
