"""The shelf of conversations above the panes: which one is open, and all others to open, rename, delete, take away."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from studio.conversations import export
from studio.conversations.shelf import Entry
from studio.ui import panel
from studio.ui.context import Context
from studio.ui.tabs.chat.pickers import called
from studio.ui.tabs.chat.talk import shelf

LISTED = 50  # what was not changed for long is found by searching

FILES = {"md": export.markdown, "json": export.to_json}


def draw(ctx: Context) -> gr.HTML:
    """The line of the conversation whose id is the value, and the list of all. `select` fires when one is opened."""

    def shelved(asked: list[Any]) -> panel.Answer:
        chat_id, search, is_open, known = asked
        return panel.unless_known(str(known), on_shelf(ctx, str(chat_id), str(search), bool(is_open)))

    def rename(asked: list[Any]) -> panel.Answer:
        return {"title": shelf(ctx).rename(str(asked[0]), str(asked[1])).title}

    def remove(chat_id: Any) -> panel.Answer:
        shelf(ctx).delete(str(chat_id))
        return {}

    def restore(chat_id: Any) -> panel.Answer:
        shelf(ctx).restore(str(chat_id))
        return {}

    def download(asked: list[Any]) -> panel.Answer:
        return on_download(ctx, str(asked[0]), str(asked[1]))

    return panel.draw("chat_shelf", [shelved, rename, remove, restore, download], elem_id="chat-shelf")


def on_shelf(ctx: Context, chat_id: str, search: str = "", is_open: bool = True) -> dict[str, Any]:
    """The open conversation's title and how many there are; where the list is open, those that `search` finds."""
    everything = shelf(ctx).list()
    title = next((entry.title for entry in everything if entry.id == chat_id), "")
    found = (shelf(ctx).search(search) if search.strip() else everything) if is_open else []
    entries = [_line(ctx, entry) for entry in found[:LISTED]]
    return {"title": title, "count": len(everything), "entries": entries, "more": max(0, len(found) - LISTED)}


def on_download(ctx: Context, chat_id: str, kind: str) -> dict[str, str]:
    """A conversation as a file: `kind` is md or json.

    Raises:
        ConversationError: it is gone or damaged.
    """
    conversation = shelf(ctx).load(chat_id)
    letters = "".join(letter if letter.isalnum() else "-" for letter in conversation.title).strip("-")
    return {"name": f"{letters[:40] or conversation.id}.{kind}", "text": FILES[kind](conversation)}


def _line(ctx: Context, entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "title": entry.title or "Without a prompt",
        "who": ", ".join(dict.fromkeys(called(ctx, pick) for pick in entry.picks)),
        "prompts": entry.prompts,
        "when": time.strftime("%d %b %H:%M", time.localtime(entry.updated)),
        "is_branch": bool(entry.parent),
        "problem": entry.problem,
    }
