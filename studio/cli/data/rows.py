"""Single rows: as conversations, as tokens, and as what the file holds."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

from studio.cli.data.action import Action, config, config_flags, name_flag, print_json, whole
from studio.cli.data.reading import mapping_flags, subject
from studio.cli.terminal import say
from studio.datasets import edit, preview
from studio.datasets.inspector import Inspector
from studio.datasets.loading import Fault
from studio.datasets.masking import Masking, MaskView, Piece, Segment
from studio.datasets.preview import Page, Shown
from studio.datasets.registry import Registry
from studio.errors import DatasetError, RowError

GREEN, GREY, STRUCK, BOLD, PLAIN = "\033[32m", "\033[90m", "\033[9;90m", "\033[1m", "\033[0m"


def show(registry: Registry, arguments: argparse.Namespace) -> int:
    """Print rows as the conversations that a training sees."""
    page = _page(registry, arguments)
    if arguments.json:
        print_json(asdict(page))
        return 0
    for shown in page.rows:
        _print_row(shown)
    print(f"--- {page.total:,} rows in all" if page.total is not None else "--- and more")
    return 0


def mask(registry: Registry, arguments: argparse.Namespace) -> int:
    """One row as tokens: what is trained, what is only read, what the cutoff takes."""
    asked = config(arguments, "statistics", registry, dataset=[arguments.name])
    scanned, _ = preview.row(registry, arguments.name, arguments.row)
    if isinstance(scanned.value, Fault):
        raise RowError(scanned.value.row, scanned.value.what)
    inspector = Inspector()
    try:
        view = inspector.mask(
            asked.model_name_or_path or "", scanned.value, Masking.of(asked), asked.trust_remote_code, arguments.row
        )
    finally:
        inspector.close()
    _print_mask(view, arguments.json)
    return 0


def edit_rows(registry: Registry, arguments: argparse.Namespace) -> int:
    """Change single rows of a dataset; each change prints the id that undoes it."""
    if arguments.undo:
        edit.undo(registry, arguments.undo)
        say("undone")
        return 0
    say(f"to undo: python -m studio data edit {arguments.name} --undo {_edited(registry, arguments)}")
    return 0


def _page(registry: Registry, arguments: argparse.Namespace) -> Page:
    if arguments.name in registry.names():
        return preview.page(registry, arguments.name, arguments.offset, arguments.rows)
    path, entry = subject(registry, arguments)
    return Page(preview.sample(path, entry, arguments.offset + arguments.rows)[arguments.offset :], None)


def _print_row(shown: Shown) -> None:
    print(f"--- row {shown.row}{f' ({shown.label})' if shown.label else ''}")
    if shown.error:
        print(f"at fault: {shown.error}\n{shown.raw}")
    for turn in shown.turns:
        print(f"{turn.role}: {turn.content}")


def _print_mask(view: MaskView, as_json: bool) -> None:
    if as_json:
        print_json(asdict(view))
        return
    for segment in view.segments:
        lines = _coloured(segment) if sys.stdout.isatty() else _table(segment)
        for line in lines:
            print(line)


def _coloured(segment: Segment) -> Iterator[str]:
    """Trained tokens green, special ones bold, what the cutoff takes struck out."""
    if segment.label:
        yield f"--- {segment.label}"
    yield "".join(f"{_colour(piece)}{piece.text}{PLAIN}" for piece in segment.pieces)
    trained = sum(piece.trained and not piece.cut for piece in segment.pieces)
    yield f"--- {len(segment.pieces):,} tokens, {GREEN}{trained:,} trained{PLAIN}"


def _colour(piece: Piece) -> str:
    if piece.cut:
        return STRUCK
    return (BOLD if piece.special else "") + (GREEN if piece.trained else GREY)


def _table(segment: Segment) -> Iterator[str]:
    """One token a line: its id, what becomes of it, its text as JSON."""
    for piece in segment.pieces:
        fate = "cut" if piece.cut else "trained" if piece.trained else "read"
        cells = [str(piece.id), fate, "special" if piece.special else "", json.dumps(piece.text, ensure_ascii=False)]
        yield "\t".join([segment.label, *cells] if segment.label else cells)


def _edited(registry: Registry, arguments: argparse.Namespace) -> str:
    """The id that undoes what the flags ask for."""
    name = arguments.name
    if arguments.delete:
        return edit.delete_rows(registry, name, arguments.delete)
    if arguments.add:
        return edit.add_row(registry, name, edit.parse(arguments.add))
    if arguments.row is None:
        raise DatasetError("say which row --replace is for: --row N")
    return edit.replace_row(registry, name, arguments.row, edit.parse(arguments.replace))


def _preview_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME | FILE", help="a dataset of the list, or any file or folder")
    parser.add_argument("--rows", type=whole(1), default=5, help="how many (5)")
    parser.add_argument("--offset", type=whole(0), default=0, help="after this many rows (0)")
    mapping_flags(parser)


def _mask_flags(parser: argparse.ArgumentParser) -> None:
    name_flag(parser)
    parser.add_argument("--row", type=whole(1), default=1, metavar="N", help="which row (1)")
    config_flags(
        parser, "model_name_or_path", "template", "enable_thinking", "cutoff_len", "default_system", "train_on_prompt",
        "mask_history", "trust_remote_code",
    )  # fmt: skip


def _edit_flags(parser: argparse.ArgumentParser) -> None:
    name_flag(parser)
    change = parser.add_mutually_exclusive_group(required=True)
    change.add_argument("--replace", metavar="JSON", help="what row --row shall hold")
    change.add_argument("--delete", type=whole(1), nargs="+", metavar="N", help="rows to leave out")
    change.add_argument("--add", metavar="JSON", help="a row for the end")
    change.add_argument("--undo", metavar="ID", help="take back a change, the latest first")
    parser.add_argument("--row", type=whole(1), metavar="N", help="which row to replace")


ACTIONS = {
    "preview": Action(show, _preview_flags, "preview alpaca_demo --offset 100 --rows 3"),
    "mask": Action(mask, _mask_flags, "mask alpaca_demo --row 3 --model seedling"),
    "edit": Action(edit_rows, _edit_flags, "edit alpaca_demo --delete 3 7"),
}
