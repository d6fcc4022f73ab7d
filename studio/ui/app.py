"""The page: a title, a strip of gauges, one tab a room. Drawn once, served by uvicorn."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse
from gradio.components import Component

from studio.datasets.upload import MAX_BYTES
from studio.runs import launchers
from studio.runs.store import Store
from studio.serving import servers
from studio.settings import ASSETS, Settings
from studio.ui import brisk, downloads, lean, live
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.login import Login
from studio.ui.panel import QUIET
from studio.ui.tabs import chat, datasets, export, runs, train, train_kept
from studio.ui.tabs.chat import arena
from studio.ui.text import said, translations

SHUTDOWN_S = 1
# to the tab that the address says, and the run; while no run is looked at, their clock stands still
COME_BACK = """() => {
  const [tab, run = ""] = location.hash.slice(1).split("/");
  const update = (changed) => ({ __type__: "update", ...changed });
  if (!TABS.includes(tab)) return [];
  return [update({ selected: tab }), tab === "runs" ? run : undefined, update({ active: tab === "runs" })];
}"""
TITLE = """# Seedbed
Fine-tune a language model, watch it learn, compare it with its base, take it home."""
THEME = gr.themes.Base(
    primary_hue=gr.themes.colors.emerald,
    neutral_hue=gr.themes.colors.stone,
    radius_size=gr.themes.sizes.radius_md,
    font=["ui-sans-serif", "system-ui", "sans-serif"],
    font_mono=["ui-monospace", "Menlo", "monospace"],
).set(
    body_text_color_subdued="*neutral_500",
    body_text_color_subdued_dark="*neutral_400",
    block_info_text_color="*neutral_500",
    block_info_text_color_dark="*neutral_400",
    block_label_text_color="*neutral_700",
    block_label_text_color_dark="*neutral_200",
    block_title_text_color="*neutral_700",
    block_title_text_color_dark="*neutral_200",
)


def build(ctx: Context) -> gr.Blocks:
    """Draw every tab and wire what happens between them."""
    with gr.Blocks(title="Seedbed", delete_cache=(3600, 86_400)) as page:
        gr.Markdown(TITLE, elem_id="title")
        live.strip(ctx)
        kept = train_kept.draw()
        rooms: dict[str, gr.Tab] = {}
        with gr.Tabs(elem_id="tabs") as tabs:
            with _tab("datasets", "Datasets", "数据集") as rooms["datasets"]:
                data = datasets.build(ctx, rooms["datasets"])
            with _tab("train", "Train", "训练") as rooms["train"]:
                training = train.build(ctx, rooms["train"], kept)
            with _tab("runs", "Runs", "运行") as rooms["runs"]:
                watched = runs.build(ctx)
            with _tab("chat", "Chat", "对话") as rooms["chat"]:
                talk = chat.build(ctx, rooms["chat"])
            with _tab("export", "Export", "导出") as rooms["export"]:
                exported = export.build(ctx, rooms["export"])
        _follow_run(training.started, tabs, watched)
        _carry(data.train, data.chosen, tabs, "train", training.dataset, lambda name: [name])
        _compare(watched.chat, watched.table, tabs, talk, partial(output_of, ctx))
        _use_again(ctx, watched, training, tabs)
        _train_on_votes(training, talk.arena, tabs)
        _take_elsewhere(ctx, watched, exported, tabs, talk)
        _remember_place(page, tabs, rooms, watched)
    # Gradio looks for queued events a thousand times a second, four percent of a core for nothing; twenty will do
    page._queue.sleep_when_free = 0.05
    page._queue.progress_update_sleep_when_free = 0.2
    return page


def output_of(ctx: Context, run_id: str) -> str:
    """The folder that a run made, for a picker."""
    return str(ctx.store.get(run_id).output or "")


def _tab(name: str, english: str, chinese: str) -> gr.Tab:
    return gr.Tab(said(english, chinese), id=name, elem_id=f"tab-{name}")


def _follow_run(started: gr.State, tabs: gr.Tabs, watched: runs.RunsTab) -> None:
    """A run that was just started is shown at once."""
    started.change(
        lambda run_id: (gr.Tabs(selected="runs"), run_id, gr.Timer(active=True)) if run_id else (gr.skip(),) * 3,
        started,
        [tabs, watched.table, watched.timer],
        js="(id) => { history.replaceState(null, '', '#runs'); return id; }",
        **QUIET,
    )


def _carry(
    button: gr.Button,
    source: Component,
    tabs: gr.Tabs,
    tab: str,
    target: Component,
    convert: Callable[[Any], Any],
) -> None:
    """A button that takes what is chosen here to a picker in another tab, and goes there."""
    # through the queue: an error of an event that goes past it never reaches the page
    button.click(
        shown(lambda value: (gr.Tabs(selected=tab), convert(value))),
        source,
        [tabs, target],
        show_progress="hidden",
        api_visibility="private",
    )


def _compare(
    button: gr.Button, source: Component, tabs: gr.Tabs, talk: chat.ChatTab, convert: Callable[[Any], str]
) -> None:
    """A button that takes what is chosen here to the second pane of the Chat tab, whichever page was open there."""
    button.click(
        shown(lambda value: (gr.Tabs(selected="chat"), gr.Tabs(selected="compare"), convert(value))),
        source,
        [tabs, talk.pages, talk.right],
        show_progress="hidden",
        api_visibility="private",
    )


def _take_elsewhere(
    ctx: Context, watched: runs.RunsTab, exported: export.ExportTab, tabs: gr.Tabs, talk: chat.ChatTab
) -> None:
    """What a run made, taken to the chat or to the form that makes something else of it."""
    take = partial(export.on_take, ctx, [each.kind for each in exported.sheets])

    def take_result(event: gr.EventData) -> list[Any]:
        return take(str(event.run), str(event.to))

    targets = [tabs, talk.pages, talk.right, exported.pages, *exported.subjects]
    told: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    watched.merge.click(lambda run_id: take(run_id, "merge"), watched.table, targets, **told)
    watched.push.click(lambda run_id: take(run_id, "push"), watched.table, targets, **told)
    made = [watched.checkpoints.select, *(each.results.select for each in exported.sheets)]
    gr.on(made, take_result, None, targets, **told)


def _use_again(ctx: Context, watched: runs.RunsTab, training: train.TrainTab, tabs: gr.Tabs) -> None:
    """The settings of a run in the Train form, as they were or as its failure card says."""

    def on_again(changed: bool, run_id: str) -> list[Any]:
        return [*train.on_again(ctx, training.filling.form, run_id, changed), gr.Tabs(selected="train")]

    for button, changed in ((watched.again, False), (watched.retry, True)):
        training.filling.on(button.click, partial(on_again, changed), watched.table, also=[tabs])
        button.click(None, js="() => history.replaceState(null, '', '#train')")


def _train_on_votes(training: train.TrainTab, votes: arena.ArenaTab, tabs: gr.Tabs) -> None:
    """The dataset of an arena's votes in the Train form, with the model that it was about."""
    fill = partial(arena.on_train, training.filling.form)
    training.filling.on(votes.train.click, fill, votes.prepared, also=[tabs])
    votes.train.click(None, js="() => history.replaceState(null, '', '#train')")


def _remember_place(page: gr.Blocks, tabs: gr.Tabs, rooms: Mapping[str, gr.Tab], watched: runs.RunsTab) -> None:
    """The address keeps the tab and the run, so that a reload or a bookmark comes back to them. The run is looked at
    only while its tab is open."""
    # in the page alone: an answer of the server would come when a person may have gone elsewhere already
    page.load(None, None, [tabs, watched.table, watched.timer], js=COME_BACK.replace("TABS", json.dumps(list(rooms))))
    for name, room in rooms.items():
        clock = {"__type__": "update", "active": name == "runs"}
        room.select(None, None, watched.timer, js=f"() => ({json.dumps(clock)})")


def serve(settings: Settings) -> None:
    """Serve the studio until it is interrupted. What killed servers left behind is cleared away first, and jobs of
    SLURM are watched again."""
    servers.clear_strays(Store(settings.saves_dir))
    launchers.attach(Store(settings.saves_dir))
    app = application(settings)
    lean.settle()
    print(f"Seedbed is at http://{settings.host}:{settings.port}", flush=True)
    # an open page holds a stream open for as long as it is open: Ctrl-C does not wait for it
    uvicorn.run(app, host=settings.host, port=settings.port, log_level="warning", timeout_graceful_shutdown=SHUTDOWN_S)


def application(settings: Settings) -> FastAPI:
    """The web application: our own static files, then the page."""
    ctx = Context.of(settings)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.get("/seedbed/plotly.min.js", include_in_schema=False)(_plotly)
    brisk.serve(app)
    downloads.serve(app, ctx.store)
    gr.mount_gradio_app(
        app,
        build(ctx),
        path="/",
        auth=Login(settings.auth) if settings.auth else None,
        theme=THEME,
        css_paths=sorted((ASSETS / "web").glob("*.css")),
        i18n=translations(),
        max_file_size=MAX_BYTES,
        footer_links=[],
        run_history=False,
        show_error=True,
    )
    return app


def _plotly() -> FileResponse:
    """Plotly's script comes with its Python package: no other host is ever asked."""
    script = str(files("plotly") / "package_data" / "plotly.min.js")
    return FileResponse(script, media_type="text/javascript", headers={"Cache-Control": "max-age=604800"})
