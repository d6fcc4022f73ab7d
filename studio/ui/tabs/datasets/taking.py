"""Taking the chosen set home as one file."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from studio.datasets import download
from studio.files import safe_name
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.panel import QUIET
from studio.ui.text import said

FORMATS = ("jsonl", "json", "csv", "parquet")
PROGRESS = gr.Progress()
CLICK = "() => document.querySelector('#data-file-out').click()"


@dataclass(frozen=True)
class Taking:
    """The choice of a format. `file` is the finished file, which the page then asks for by itself."""

    panel: gr.Row
    format: gr.Radio
    prepare: gr.Button
    close: gr.Button
    file: gr.DownloadButton


def draw() -> Taking:
    """Draw the choice, hidden."""
    with gr.Row(visible=False, elem_classes="actions", elem_id="data-taking") as panel:
        format = gr.Radio(list(FORMATS), value="jsonl", show_label=False, container=False, elem_id="data-take-format")
        prepare = gr.Button(said("Save the file", "保存文件"), variant="primary", size="sm", elem_id="data-take-start")
        close = gr.Button(said("Close", "关闭"), size="sm", min_width=80)
        file = gr.DownloadButton(visible="hidden", elem_id="data-file-out")
    return Taking(panel, format, prepare, close, file)


def wire(ctx: Context, table: gr.HTML, opener: gr.Button, taking: Taking) -> None:
    """Wire it; `opener` shows it."""
    opener.click(lambda: gr.update(visible=True), None, taking.panel, **QUIET)
    taking.close.click(lambda: gr.update(visible=False), None, taking.panel, **QUIET)
    asked = [table, taking.format]
    written = taking.prepare.click(
        partial(on_take, ctx), asked, taking.file, show_progress_on=taking.panel, api_name="download_dataset"
    )
    written.success(None, js=CLICK)


@shown
def on_take(ctx: Context, name: str, file_format: str, progress: gr.Progress = PROGRESS) -> str:
    """The set as a file of that format, in the folder from which Gradio serves what it made; it is removed from there
    a day later."""
    folder = tempfile.mkdtemp(dir=get_upload_folder())
    target = Path(folder, f"{safe_name(name)}.{file_format}")
    try:
        download.write(ctx.registry, name, file_format, target, progress=lambda done, total: progress((done, total)))
    except BaseException:
        os.rmdir(folder)
        raise
    return str(target)
