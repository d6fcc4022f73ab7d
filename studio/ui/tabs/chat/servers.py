"""The Servers page: every model server with its adapters, load and API, and the form that starts one more."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from studio import machine, models, templates
from studio.config import load
from studio.config.command import command as shell_command
from studio.config.serve import ServeConfig
from studio.errors import ConfigError, SeedbedError, ServingError
from studio.machine import GB
from studio.serving import backend, command, installed, memory, servers
from studio.serving.kinds import smallest_rank
from studio.ui import choices
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.form import Form
from studio.ui.form import draw as draw_form
from studio.ui.looks import Look
from studio.ui.panel import LATEST, QUIET
from studio.ui.tabs.chat import servers_cards
from studio.ui.text import said

GROUPS = ("model", "server", "adapters", "parallel", "cache", "advanced")
FIRST = ("model_name_or_path", "infer_backend", "run_name", "max_model_len", "port", "idle_stop_minutes")
DOUBLE_CLICK_S = 3.0
# a server that was just started is shown at once
SHOW = "() => document.querySelector('#servers-list')?.dispatchEvent(new Event('seedbed:look'))"


def build(ctx: Context, tab: gr.Tab) -> None:
    """Draw the page and wire it; `tab` is the page's own."""
    servers_cards.draw(ctx)
    title = said("Start a server", "启动服务")
    with gr.Accordion(title, open=False, elem_id="serve-new") as new, gr.Row(elem_classes="split"):
        with gr.Column(scale=3, min_width=300):
            adapters = _adapters()
            form = draw_form(ServeConfig, _offers(ctx), GROUPS, "serve", FIRST)
        with gr.Column(scale=2, min_width=280, elem_classes="sticky"):
            told = gr.HTML(elem_id="serve-told")
            start = gr.Button(said("Start", "启动"), variant="primary", elem_id="serve-start", interactive=False)
            with gr.Accordion(said("serve.yaml: what the server is given", "serve.yaml：启动配置"), open=True):
                yaml = gr.Code(language="yaml", interactive=False, show_label=False, elem_id="serve-yaml")
            with gr.Accordion(said("As a command", "等价命令"), open=False):
                shell = gr.Code(language="shell", interactive=False, show_label=False, lines=2)
    seen = [told, start, yaml, shell]
    fields = _wire(ctx, tab, form, adapters, seen)
    # through the queue: an error of an event that goes past it never reaches the page
    started = start.click(partial(on_start, ctx, form), fields, new, show_progress="hidden", api_name="start_server")
    started.then(None, js=SHOW)
    pickers = [new, adapters, form.component("model_name_or_path")]
    tab.select(partial(on_open, ctx), None, pickers, **QUIET)


def _wire(ctx: Context, tab: gr.Tab, form: Form, adapters: gr.Dropdown, seen: list[Any]) -> list[Any]:
    """What follows from each edit, and as the tab is opened. The widgets to read."""
    fields = [adapters, *form.components]
    Look().on([adapters.change, *form.edits(), tab.select], partial(on_change, ctx, form), fields, seen)
    controlling = [form.component(key) for key in form.controlling]
    gr.on(form.edits(form.controlling), partial(on_shift, form), controlling, form.shifting, **LATEST)
    return fields


def _adapters() -> gr.Dropdown:
    return gr.Dropdown(
        [], multiselect=True, allow_custom_value=True, elem_id="serve-adapters",
        label=said("Adapters", "适配器"),
        info=said("Loaded at the start; more can be loaded later.", "启动时加载；之后也可继续加载。"),
    )  # fmt: skip


def on_open(ctx: Context) -> list[Any]:
    """Offer the adapters and models that there are now; the form is open where no server is up."""
    is_open = not any(run.is_active for run in ctx.store.list("serve"))
    return [
        gr.Accordion(open=is_open),
        gr.update(choices=choices.adapters(ctx)),
        gr.update(choices=choices.base_models(ctx)),
    ]


def on_shift(form: Form, *values: Any) -> list[Any]:
    """Show only the options that matter now."""
    return form.visible(values)


def on_change(ctx: Context, form: Form, adapters: Sequence[str], *values: Any) -> tuple[str, Any, str, str]:
    """What follows from the form: what is wrong, or what it takes; the button, the options file, the command."""
    try:
        config = _config(ctx, form, adapters, values)
        yaml = command.preview(config)
    except SeedbedError as error:
        return _problems(error), gr.update(interactive=False), "", ""
    free_gb = machine.look(ctx.settings.saves_dir).free / GB
    return _outlook(config, free_gb), gr.update(interactive=True), yaml, shell_command(config)


@shown
def on_start(ctx: Context, form: Form, adapters: Sequence[str], *values: Any) -> Any:
    """Start the server of the form, which closes; it appears among the others. A double click starts one."""
    config = _config(ctx, form, adapters, values)
    command.preview(config)
    servers.begin(ctx.store, config)
    return gr.Accordion(open=False)


def _config(ctx: Context, form: Form, adapters: Sequence[str], values: Sequence[Any]) -> ServeConfig:
    """The form as a configuration, with room for the rank of its adapters.

    Raises:
        ConfigError, ModelError, ServingError
    """
    given = form.read(values)
    infos = [models.adapter_info(Path(models.resolve(folder))) for folder in adapters]
    if infos:
        rank = max(int(given.get("max_lora_rank", 8)), smallest_rank(max(info.rank for info in infos)))
        named = [{"name": servers.adapter_name(str(info.path)), "path": str(info.path)} for info in infos]
        given |= {"max_lora_rank": rank, "adapters": named}
    config = load.parse(ServeConfig, given)
    running = servers.find(ctx.store, config.model_name_or_path, backend.choose(config).name)
    if running and running != ctx.store.twin(config, DOUBLE_CLICK_S):
        raise ServingError(f"{running.name} serves this model already: load adapters into it, or stop it first")
    return config


def _offers(ctx: Context) -> dict[str, Sequence[Any]]:
    return {
        "model_name_or_path": choices.base_models(ctx),
        "chat_template": templates.names(),
        "tool_call_parser": sorted(installed.tool_call_parsers()),
        "reasoning_parser": sorted(installed.reasoning_parsers()),
    }


def _problems(error: SeedbedError) -> str:
    found = error.problems if isinstance(error, ConfigError) else (error,)
    lines = "".join(f"<li>{escape(str(problem))}</li>" for problem in found)
    return f"<p><b>Not ready</b></p><ul>{lines}</ul>"


def _outlook(config: ServeConfig, free_gb: float) -> str:
    config = memory.settled(config)
    gpus = machine.chosen(config.devices, config.tensor_parallel_size * config.pipeline_parallel_size)
    if wrong := memory.gpu_shortage(config, gpus) if gpus else memory.cpu_shortage(config, free_gb):
        return f"<p><b>Will not fit</b></p><p>{escape(wrong)}.</p>"
    takes = f"{config.gpu_memory_utilization:.0%} of the GPU's memory" if gpus else str(memory.need(config))
    return f"<p><b>Ready</b></p><p>Takes {escape(takes)}; {free_gb:.1f} GB are free.</p>"
