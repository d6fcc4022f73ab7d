"""A pane that answers: who is picked is made ready, asked, shown as the words come, and kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gradio as gr

from studio.conversations import tools, turns
from studio.conversations.conversation import Conversation, Pane
from studio.errors import ConversationError, RestartNeeded, SeedbedError
from studio.serving import panes, servers, voices
from studio.serving.panes import State, View
from studio.serving.remotes import PICK
from studio.serving.voices import Voice
from studio.ui.context import Context
from studio.ui.tabs.chat import shown, talk
from studio.ui.tabs.chat.talk import LOOK, Offer

AGAIN: Offer = {"label": "Answer again; a server that is down is started"}
AGAIN_ELSEWHERE: Offer = {"label": "Answer again"}


@dataclass
class Progress:
    """How far an answer has come: what its pane shows, what is said of who answers, what a button offers."""

    view: View = field(default_factory=View)
    says: str = ""
    offer: Offer | None = None


async def on_answer(
    ctx: Context, index: int, asking: Mapping[int, Offer], chat_id: str
) -> AsyncGenerator[list[Any], None]:
    """Have one pane answer, if it is asked. Yields `talk.look` values; when this is closed, what has come is kept."""
    if index not in asking:
        yield [gr.skip()] * LOOK
        return
    try:
        conversation = await asyncio.to_thread(talk.shelf(ctx).load, chat_id)
    except ConversationError as error:  # another page has thrown it away in this moment
        raise gr.Error(str(error), print_exception=False) from error
    pane, progress = conversation.panes[index], Progress()
    try:
        async with aclosing(_steps(ctx, conversation, index, asking[index], progress)) as steps:
            async for step in steps:
                yield [*step, *[gr.skip()] * (LOOK - 2)]
    finally:
        # a long conversation takes a while to write: the other panes go on meanwhile. Whoever cuts the answer off waits
        # for it, because what he does next is about it; whoever does so twice does not keep it from being written
        keep = partial(_keep, ctx, chat_id, index, pane, progress)
        kept = await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, keep))
    yield talk.look(kept, says=progress.says, offer=progress.offer)


async def _steps(
    ctx: Context, conversation: Conversation, index: int, offer: Offer, progress: Progress
) -> AsyncGenerator[tuple[Any, str], None]:
    """Chat and line of figures, each time one of them has changed. How it ends stands in `progress`."""
    pane = conversation.panes[index]
    before = shown.messages(pane)
    try:
        voice: asyncio.Future[Voice] = asyncio.get_running_loop().create_future()
        async with aclosing(_ready(ctx, conversation, index, offer, voice)) as statuses:
            async for status in statuses:
                yield gr.skip(), shown.waiting(status)
        progress.says = voice.result().says
        async with aclosing(panes.answer(_asked(conversation, pane, voice.result()))) as views:
            async for progress.view in views:
                growing = shown.of_turn(turns.answered(pane, progress.view).turns[-1], not progress.view.is_over)
                yield [*before, *growing], shown.of_view(progress.view)
    except RestartNeeded as error:
        progress.offer = {"label": _restart_label(error), "run": error.run_id, "options": error.options}
        progress.view = View(State.FAILED, error=str(error))
    except SeedbedError as error:
        progress.view = View(State.FAILED, error=str(error))
    if progress.view.state is State.FAILED:
        progress.offer = progress.offer or (AGAIN_ELSEWHERE if pane.pick.startswith(PICK) else AGAIN)


async def _ready(
    ctx: Context, conversation: Conversation, index: int, offer: Offer, voice: asyncio.Future[Voice]
) -> AsyncGenerator[dict[str, Any], None]:
    """What is waited for until the pane's pick can answer with the `voice` that is set then."""
    if "run" in offer:
        yield {"message": "restarting the server"}
        run = ctx.store.get(offer["run"])
        await asyncio.to_thread(partial(servers.restart, ctx.store, run, **offer["options"]))
    picks = [pane.pick for pane in conversation.panes]
    told: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    opening = asyncio.create_task(voices.open_voice(ctx.store, picks[index], picks, told.put_nowait))
    opening.add_done_callback(lambda _: told.put_nowait(None))
    try:
        while (status := await told.get()) is not None:
            yield status
        voice.set_result(opening.result())
    finally:
        opening.cancel()


def _asked(conversation: Conversation, pane: Pane, voice: Voice) -> panes.Pane:
    return panes.Pane(
        voice.server,
        voice.model,
        turns.messages(pane, conversation.system),
        pane.sampling or conversation.sampling,
        voice.wording,
        tools.parse(conversation.tools),
    )


def _keep(ctx: Context, chat_id: str, index: int, pane: Pane, progress: Progress) -> Pane:
    """The pane with its answer, which is on disk now; a prompt that was stopped before the first word stays alone."""
    view = progress.view.stopped()
    if not (view.text or view.reasoning or view.tool_calls or view.error or view.state is State.DONE):
        return pane
    kept = turns.answered(pane, view)
    try:
        saved = talk.shelf(ctx).change(chat_id, lambda now: now.with_pane(index, kept), seen={index: pane})
    except ConversationError as error:
        progress.says = str(error)
    else:
        if saved.id != chat_id:
            progress.says = "another page changed this conversation meanwhile: this answer is kept in a branch of it"
    return kept


def _restart_label(error: RestartNeeded) -> str:
    changes = ", ".join(f"{key} {value}" for key, value in error.options.items())
    return f"Restart its server with {changes}"
