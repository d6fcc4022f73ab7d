"""The pages of the Chat tab, side by side in tabs of their own."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from studio.ui.context import Context
from studio.ui.tabs.chat import arena, bench, compare, servers
from studio.ui.tabs.chat.arena import ArenaTab
from studio.ui.text import said


@dataclass(frozen=True)
class ChatTab:
    """What other tabs listen to or change: `right` is the second pane's picker on the page "compare" of `pages`; its
    value is a pick."""

    pages: gr.Tabs
    right: gr.Dropdown
    arena: ArenaTab


def build(ctx: Context, tab: gr.Tab) -> ChatTab:
    """Draw every page of the tab; each is handed the tab whose opening shows it."""
    with gr.Tabs(elem_id="chat-tabs") as pages:
        with gr.Tab(said("Compare", "对比"), id="compare", elem_id="chat-tab-compare"):
            right = compare.build(ctx, tab)
        with gr.Tab(said("Arena", "竞技场"), id="arena", elem_id="chat-tab-arena") as inner:
            votes = arena.build(ctx, inner)
        with gr.Tab(said("Servers", "服务"), id="servers", elem_id="chat-tab-servers") as inner:
            servers.build(ctx, inner)
        with gr.Tab(said("Benchmark", "基准测试"), id="bench", elem_id="chat-tab-bench") as inner:
            bench.build(ctx, inner)
    return ChatTab(pages, right, votes)
