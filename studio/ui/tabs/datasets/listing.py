"""The list of all datasets. It lives in the page: it asks whether the folder changed, searches and sorts by itself."""

from __future__ import annotations

import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr

from studio.datasets import checks
from studio.datasets.catalog import Listing, listings
from studio.datasets.entry import Entry
from studio.errors import DatasetError
from studio.settings import ASSETS
from studio.ui.context import Context

TEMPLATE = """<input type="search" placeholder="Search" aria-label="Search datasets" hidden>
<div class="card bad" hidden></div>
<p class="datasets-empty empty" hidden data-none="No datasets yet. Drop a file above or paste a few rows:
a list of questions with answers is enough to begin."></p>
<table class="runs datasets" hidden><thead><tr><th data-key="name">Name</th>
<th data-key="shape" class="narrow-hidden">Shape</th><th data-key="rows" class="number">Rows</th>
<th data-key="bytes" class="number narrow-hidden">Size</th>
<th data-key="state">State</th></tr></thead><tbody></tbody></table>
<details class="on-hubs" hidden><summary></summary><table class="runs datasets"><tbody></tbody></table></details>"""


def draw(ctx: Context) -> gr.HTML:
    """The list; its value is the name of the chosen set, `select` fires when a person chooses."""

    def datasets(known: str) -> dict[str, Any] | None:
        return on_list(ctx, known)

    script = (ASSETS / "web" / "datasets.js").read_text(encoding="utf-8")
    functions = [datasets]
    return gr.HTML("", html_template=TEMPLATE, js_on_load=script, server_functions=functions, elem_id="datasets-table")


def on_list(ctx: Context, known: str) -> dict[str, Any] | None:
    """All sets, or None where nothing changed since `known`, the stamp of an earlier answer."""
    stamp = _stamp(ctx.registry.data_dir)
    if stamp == known:
        return None
    try:
        entries = {entry.name: entry for entry in ctx.registry.entries()}
        rows = [_row(ctx, listing, entries.get(listing.name)) for listing in listings(ctx.registry)]
    except DatasetError as error:
        return {"stamp": stamp, "rows": [], "fault": str(error)}
    return {"stamp": stamp, "rows": rows, "fault": ""}


def _row(ctx: Context, listing: Listing, entry: Entry | None) -> dict[str, Any]:
    """One line: `state` is remote, unusable, unchecked, fatal, warnings (so many) or ok."""
    row = {**asdict(listing), "hub_id": entry.hub_id if entry else "", "warnings": 0}
    if entry is None or listing.note:
        return {**row, "state": "remote" if entry and entry.remote else "unusable"}
    report = checks.stored(ctx.registry.data_dir / entry.file_name, entry, ctx.registry.cache_dir)
    if report is None:
        return {**row, "state": "unchecked"}
    warnings = len(report.warnings)
    return {**row, "warnings": warnings, "state": "fatal" if report.fatal else "warnings" if warnings else "ok"}


def _stamp(data_dir: Path) -> str:
    """Changes with every file directly in the data folder, so that an unchanged list costs a few stat calls."""
    names = sorted(data_dir.iterdir()) if data_dir.is_dir() else []
    return f"{zlib.crc32(repr([_mark(path) for path in names]).encode()):08x}"


def _mark(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:  # a temporary name that was just renamed, or a link to nowhere
        return path.name, 0, 0
    return path.name, status.st_mtime_ns, status.st_size
