"""The ways in for new sets: files that are dropped, a path on this machine, a set on a hub, rows that are pasted."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from studio.config import load
from studio.config.data import DataConfig
from studio.datasets import hub
from studio.datasets.reading import READERS
from studio.errors import DatasetError
from studio.settings import LOOPBACK
from studio.ui import jobs, turns
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.panel import QUIET
from studio.ui.tabs.datasets import drafts
from studio.ui.tabs.datasets.rows import TOLD
from studio.ui.text import said

EXAMPLE = '{"instruction": "Who are you?", "output": "I am Fern."}'
WHOLE = "all"
HUBS = (("Hugging Face", "hf"), ("ModelScope", "ms"))


@dataclass(frozen=True)
class Hub:
    """A dataset on a hub: its id, then what it offers. `offers` are its splits by subset."""

    hub: gr.Radio
    id: gr.Textbox
    look: gr.Button
    subset: gr.Dropdown
    split: gr.Dropdown
    fetch: gr.Button
    offers: gr.State


@dataclass(frozen=True)
class WayIn:
    """Where files, paths, ids and rows go in."""

    tabs: gr.Tabs
    files: gr.File
    path: gr.Textbox
    look_at_path: gr.Button
    hub: Hub
    text: gr.Textbox
    look_at_text: gr.Button


def draw() -> WayIn:
    """Draw the four ways."""
    with gr.Tabs(elem_id="data-ways") as tabs:
        with gr.Tab(said("Files", "文件"), elem_id="data-way-files"):
            label = said("JSON, CSV, TXT, XLSX, Parquet, Arrow, gz, zst", "数据文件，可为 .gz、.zst")
            types = [*READERS, ".gz", ".zst"]
            files = gr.File(file_count="multiple", file_types=types, height=150, label=label, elem_id="data-file")
        with gr.Tab(said("Path", "路径"), elem_id="data-way-path"):
            path = gr.Textbox(
                label=said("A file or folder on this machine", "本机上的文件或文件夹"), max_lines=1, elem_id="data-path"
            )
            look_at_path = gr.Button(said("Look at it", "查看"), size="sm", elem_id="data-path-look")
        with gr.Tab(said("Hub", "模型库"), elem_id="data-way-hub"):
            offered = _draw_hub()
        with gr.Tab(said("Paste", "粘贴"), elem_id="data-way-paste"):
            text = gr.Textbox(lines=5, max_lines=12, show_label=False, placeholder=EXAMPLE, elem_id="data-pasted")
            look_at_text = gr.Button(said("Look at them", "查看"), size="sm", elem_id="data-look")
    return WayIn(tabs, files, path, look_at_path, offered, text, look_at_text)


def wire(ctx: Context, way: WayIn, desk: drafts.Desk, problem: gr.HTML) -> None:
    """Wire them: what can be read waits on the desk, what cannot is told in `problem`."""
    taken = [problem, *desk.laid]
    way.tabs.select(lambda: "", None, problem, **QUIET)  # what was wrong with one way in says nothing about another
    desk.look.after(way.files.upload(on_files, [way.files, *desk.inputs], [way.files, *taken], **TOLD))
    for event in (way.look_at_path.click, way.path.submit):
        desk.look.after(event(partial(on_path, ctx), [way.path, *desk.inputs], taken, **TOLD))
    desk.look.after(way.look_at_text.click(on_paste, [way.text, *desk.inputs], taken, **TOLD))
    _wire_hub(ctx, way.hub, problem)


def on_files(paths: Sequence[str], *laid: Any) -> list[Any]:
    """Files that were just dropped; the drop zone is empty again for the next."""
    return [None, *drafts.add([drafts.read(path) for path in paths], *laid)]


def on_path(ctx: Context, typed: str, *laid: Any) -> list[Any]:
    """A file or folder on this machine, or why it cannot be taken."""
    try:
        path = _path(ctx, typed)
    except DatasetError as error:
        return drafts.refuse(str(error))
    return drafts.add([drafts.read(str(path), lent=True)], *laid)


def _path(ctx: Context, typed: str) -> Path:
    path = Path(typed.strip()).expanduser()
    if not typed.strip():
        raise DatasetError("type the path of a file or folder first")
    ours = (ctx.settings.data_dir.resolve(), ctx.settings.saves_dir.resolve())
    if ctx.settings.host not in LOOPBACK and not any(path.resolve().is_relative_to(folder) for folder in ours):
        raise DatasetError(
            "this studio can be reached from other machines, so that only paths inside its data and saves folders can "
            "be read: upload the file instead"
        )
    if not path.exists():
        raise DatasetError(f"{path} does not exist on the machine that runs the studio")
    return path


def on_paste(text: str, *laid: Any) -> list[Any]:
    """Rows that were pasted, taken as a file: JSON objects, one a line, or a list of them."""
    if not text.strip():
        return drafts.refuse(f"paste some rows first, for example {EXAMPLE}")
    suffix = ".json" if text.lstrip().startswith("[") else ".jsonl"
    source = Path(tempfile.mkdtemp(prefix="seedbed-"), f"pasted{suffix}")
    source.write_text(text, encoding="utf-8", errors="surrogatepass")
    return drafts.add([drafts.read(str(source))], *laid)


def on_hub(hub_name: str, hub_id: str) -> list[Any]:
    """What a dataset on a hub offers, or why it cannot be told."""
    hidden = gr.update(visible=False)
    try:
        parts = hub.parts(hub_name, hub_id.strip())
    except DatasetError as error:
        return [turns.lines_html(str(error), "bad"), {}, hidden, hidden, hidden]
    offers: dict[str, list[str]] = {}
    for part in parts:
        offers.setdefault(part.subset or WHOLE, []).append(part.split)
    subset = next(iter(offers))
    choices = gr.update(choices=list(offers), value=subset, visible=len(offers) > 1)
    return ["", offers, choices, on_subset(offers, subset), gr.update(visible=True)]


def on_subset(offers: dict[str, list[str]], subset: str) -> Any:
    """The splits of a subset, `train` first chosen."""
    splits = offers.get(subset, [])
    value = "train" if "train" in splits else next(iter(splits), None)
    return gr.update(choices=splits, value=value, visible=True)


@shown
def on_fetch(ctx: Context, hub_name: str, hub_id: str, subset: str, split: str) -> None:
    """Start the download."""
    values = {"action": "import", "hub": hub_name, "hub_id": hub_id.strip(), "split": split}
    if subset != WHOLE:
        values["subset"] = subset
    jobs.start(ctx, load.parse(DataConfig, values))


def _draw_hub() -> Hub:
    name = gr.Radio(list(HUBS), value="hf", show_label=False, elem_id="data-hub")
    hub_id = gr.Textbox(
        label=said("Dataset, as owner/name", "数据集，形如 owner/name"), max_lines=1, elem_id="data-hub-id"
    )
    look = gr.Button(said("List its subsets and splits", "列出子集与划分"), size="sm", elem_id="data-hub-look")
    with gr.Row(elem_classes="form-row"):
        subset = gr.Dropdown([], label=said("Subset", "子集"), visible=False, elem_id="data-hub-subset")
        split = gr.Dropdown([], label=said("Split", "划分"), visible=False, elem_id="data-hub-split")
    fetch = gr.Button(said("Download", "下载"), variant="primary", size="sm", visible=False, elem_id="data-hub-fetch")
    return Hub(name, hub_id, look, subset, split, fetch, gr.State({}))


def _wire_hub(ctx: Context, offered: Hub, problem: gr.HTML) -> None:
    told = [problem, offered.offers, offered.subset, offered.split, offered.fetch]
    for event in (offered.look.click, offered.id.submit):
        event(on_hub, [offered.hub, offered.id], told, show_progress="minimal", api_visibility="private")
    offered.subset.input(on_subset, [offered.offers, offered.subset], offered.split, **TOLD)
    asked = [offered.hub, offered.id, offered.subset, offered.split]
    offered.fetch.click(partial(on_fetch, ctx), asked, None, **TOLD).then(None, js=jobs.SHOW)
