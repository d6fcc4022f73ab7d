"""The Compare page: one prompt, one to four models, their answers side by side as they are written."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from studio.ui.context import Context
from studio.ui.doors import shown as told
from studio.ui.panel import LATEST, QUIET
from studio.ui.tabs.chat import arrange, layout, remote, strip, talk, verdict
from studio.ui.tabs.chat.answer import on_answer
from studio.ui.tabs.chat.layout import Page
from studio.ui.tabs.chat.pickers import offers, pair, remark
from studio.ui.tabs.chat.setup import LETTERS, PANES

QUEUED: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}


def build(ctx: Context, tab: gr.Tab) -> gr.Dropdown:
    """Draw the page and wire it; `tab` is the Chat tab. The second pane's picker, which other tabs set."""
    page = layout.draw(ctx)
    wiring = _Wiring(ctx, page)
    wiring.prompt()
    for at in range(PANES):
        wiring.pane(at)
    wiring.opening(tab)
    wiring.judging()
    wiring.remote()
    return page.columns[1].pick


def on_open(ctx: Context) -> list[Any]:
    """Offer what exists now, in every pane."""
    found = offers(ctx)
    return [gr.update(choices=found) for _ in range(PANES)]


def on_servers(ctx: Context, *picks: str | None) -> list[Any]:
    """A server came, changed or went: what is said of each pick, and Start and Stop, if any of ours is needed or up."""
    states = {card.state for card in strip.cards(ctx, strip.speakers(ctx, picks))}
    return [
        *(remark(ctx, pick) if pick else "" for pick in picks),
        gr.update(visible=bool(states), interactive=bool(states & {"off", "failed"})),
        gr.update(visible=bool(states), interactive=bool(states & {"starting", "ready"})),
    ]


@told
def on_start(ctx: Context, count: int, *picks: str | None) -> str:
    """Start what the picks need."""
    strip.start(ctx, picks[:count])
    return on_watch(count, *picks)


def on_stop_servers(ctx: Context, count: int, *picks: str | None) -> str:
    """Stop every model server."""
    strip.stop(ctx)
    return on_watch(count, *picks)


def on_watch(count: int, *picks: str | None) -> str:
    """Look for the servers of those who are picked."""
    return strip.watched(*picks[:count])


def on_beside(ctx: Context, left: str | None, right: str | None, chat_id: str) -> Any:
    """The first pane shows the base of the second, as long as nothing was asked yet."""
    beside, _ = pair(ctx, left, right, left_is_free=not chat_id)
    return gr.skip() if beside == left else beside


def on_fit(count: int, *picks: str | None) -> list[Any]:
    """There are more or fewer panes: whether one can be added or taken away, which two are compared, and which servers
    are looked for."""
    names = list(LETTERS[:count])
    removes = [gr.update(interactive=count > 1)] * PANES
    left, right = names[0], names[min(1, count - 1)]
    judged = [gr.update(choices=names, value=left), gr.update(choices=names, value=right), gr.update(visible=count > 2)]
    return [gr.update(interactive=count < PANES), *removes, *judged, on_watch(count, *picks)]


class _Wiring:
    """What happens on the page. `answers` are the events of each pane in which it answers, which Stop cancels."""

    def __init__(self, ctx: Context, page: Page) -> None:
        self.ctx, self.page = ctx, page
        self.answers: list[list[Dependency]] = [[] for _ in range(PANES)]

    @property
    def ending(self) -> dict[str, Any]:
        """The answers that are being written end with the event; what has come is kept."""
        return {"cancels": [answer for pane in self.answers for answer in pane], **QUIET}

    def prompt(self) -> None:
        """Asking all, and asking all again."""
        page, below = self.page, self.page.below
        asked = gr.on(
            [below.send.click, below.prompt.submit], partial(talk.on_send, self.ctx),
            [page.chat, below.prompt, *page.given], page.outputs, **QUIET,
        )  # fmt: skip
        again = below.again.click(
            partial(talk.on_again, self.ctx, range(PANES)), [page.chat, *page.given], page.outputs, **QUIET
        )
        for event in (asked, again):
            self._answer(event, range(PANES))

    def pane(self, at: int) -> None:
        """Everything that concerns one pane."""
        self._asking(at)
        self._leafing(at)
        self._picking(at)

    def _asking(self, at: int) -> None:
        ctx, page, column = self.ctx, self.page, self.page.columns[at]
        given = [page.chat, *page.given]

        def edited(data: gr.EditData, *values: Any) -> list[Any]:
            return talk.on_edit(ctx, at, _number(data.index), str(data.value), *values)

        again = partial(talk.on_again, ctx, [at])
        self._answer(gr.on([column.again.click, column.chat.retry], again, given, page.outputs, **QUIET), [at])
        self._answer(column.chat.edit(edited, given, page.outputs, **QUIET), [at])
        offer = partial(talk.on_offer, ctx, at)
        self._answer(column.offered.click(offer, [column.offer, *given], page.outputs, **QUIET), [at])
        halted = [column.figures, column.stop]
        self._cut(column.stop.click(talk.on_stop, column.figures, halted, cancels=self.answers[at], **QUIET), [at])

    def _leafing(self, at: int) -> None:
        ctx, page, column = self.ctx, self.page, self.page.columns[at]

        def chosen(data: gr.SelectData, chat_id: str) -> tuple[int, str]:
            return talk.on_chosen(ctx, at, _number(data.index), chat_id)

        column.chat.select(chosen, page.chat, [column.turn, column.about], **QUIET)
        for button, step in ((column.earlier, -1), (column.later, 1)):
            leafed = button.click(
                partial(talk.on_version, ctx, at, step), [page.chat, column.turn], page.outputs, **QUIET
            )
            self._rest(leafed)

    def _picking(self, at: int) -> None:
        ctx, page, column = self.ctx, self.page, self.page.columns[at]
        picked = column.pick.change(
            partial(talk.on_pick, ctx, at), [column.pick, page.chat], [*column.look, column.remark], **QUIET
        )
        self._watch(picked)
        form = page.remote
        column.pick.change(partial(remote.on_wanted, at), [column.pick, form.pane], [form.group, form.pane], **QUIET)
        if at == 1:
            beside = page.columns[0].pick
            column.pick.change(partial(on_beside, ctx), [beside, column.pick, page.chat], beside, **QUIET)

    def opening(self, tab: gr.Tab) -> None:
        """Which conversation is there, with how many panes, and which servers are looked at for them."""
        ctx, page = self.ctx, self.page
        tab.select(partial(on_open, ctx), None, page.picks, **QUIET)
        picked, given = [page.count, *page.picks], [page.chat, *page.given]
        opened = page.chat.select(
            partial(arrange.on_show, ctx), [page.chat, *picked], page.outputs, **{**self.ending, **LATEST}
        )
        cleared = page.below.clear.click(arrange.on_new, None, page.outputs, **self.ending)
        widened = page.below.add.click(
            partial(arrange.on_add, ctx), picked, [page.count, *(each.column for each in page.columns), *page.picks],
            **QUIET,
        )  # fmt: skip
        for at, column in enumerate(page.columns):
            removing = partial(arrange.on_remove, ctx, at)
            self._fit(column.remove.click(removing, given, page.outputs, **QUIET))
            branching = partial(talk.on_branch, ctx, at)
            self._fit(column.branch.click(branching, [page.chat, column.turn], page.outputs, **self.ending))
        for event in (opened, cleared, widened):
            self._fit(event)
        halted = [*page.figures, *(each.stop for each in page.columns)]
        self._cut(page.below.stop.click(talk.on_stop, page.figures, halted, **self.ending), range(PANES))
        self._serve()

    def _serve(self) -> None:
        ctx, page, servers = self.ctx, self.page, self.page.servers
        picked = [page.count, *page.picks]
        remarks: list[Component] = [each.remark for each in page.columns]
        servers.status.select(partial(on_servers, ctx), page.picks, [*remarks, servers.start, servers.stop], **QUIET)
        servers.start.click(partial(on_start, ctx), picked, servers.status, api_name="start_servers")
        servers.stop.click(partial(on_stop_servers, ctx), picked, servers.status, api_name="stop_servers")

    def judging(self) -> None:
        """Votes and differences."""
        ctx, page, judging = self.ctx, self.page, self.page.judging
        about = [page.chat, judging.left, judging.right]
        for outcome, button in judging.votes.items():
            button.click(partial(verdict.on_vote, ctx, outcome), about, judging.shown, **QUIET)
        judging.undo.click(partial(verdict.on_unvote, ctx), about, judging.shown, **QUIET)
        changed = [self.page.below.with_differences.change, judging.left.change, judging.right.change]
        gr.on(changed, partial(verdict.on_rest, ctx), self._resting, self._rested, **QUIET)

    def remote(self) -> None:
        """Adding a server elsewhere."""
        page, form = self.page, self.page.remote
        form.find.click(remote.on_find, [form.url, form.key_env], [form.model, form.told], **QUEUED)
        form.add.click(
            partial(remote.on_add, self.ctx), [form.pane, *form.fields], [form.group, form.told, *page.picks], **QUIET
        )
        form.cancel.click(remote.on_cancel, form.pane, [form.group, *page.picks], **QUIET)

    @property
    def _resting(self) -> list[Component]:
        judging = self.page.judging
        return [self.page.chat, judging.left, judging.right, self.page.below.with_differences, *self.page.figures]

    @property
    def _rested(self) -> list[Any]:
        below, judging = self.page.below, self.page.judging
        return [below.send, below.stop, *judging.shown, judging.differences]

    def _answer(self, event: Dependency, which: Collection[int]) -> None:
        """After an event that has asked them, panes answer, each in an event of its own."""
        page = self.page
        for at in which:
            column = page.columns[at]
            answer = event.then(partial(on_answer, self.ctx, at), [page.asking, page.chat], column.look, **QUEUED)
            self.answers[at].append(answer)
            # one that was cut off fails, and its last words may come after the Stop: who rests is told once they did
            self._rest(answer.failure(talk.on_stop, column.figures, [column.figures, column.stop], **QUIET))
            self._rest(answer)
        self._rest(event)

    def _cut(self, event: Dependency, which: Collection[int]) -> None:
        """After an event that has cut answers off."""
        for at in which:
            column = self.page.columns[at]
            kept = partial(talk.on_cut, self.ctx, at)
            event.then(kept, [self.page.chat, column.figures], [column.about, column.versions], **QUIET)
        self._rest(event)

    def _rest(self, event: Dependency) -> None:
        event.then(partial(verdict.on_rest, self.ctx), self._resting, self._rested, **QUIET)

    def _fit(self, event: Dependency) -> None:
        """After the number of panes may have changed."""
        page, judging = self.page, self.page.judging
        removes = [each.remove for each in page.columns]
        judged = [judging.left, judging.right, judging.pair]
        event.then(on_fit, [page.count, *page.picks], [page.below.add, *removes, *judged, page.servers.status], **QUIET)
        self._rest(event)

    def _watch(self, event: Dependency) -> None:
        event.then(on_watch, [self.page.count, *self.page.picks], self.page.servers.status, **QUIET)


def _number(index: int | tuple[int, ...]) -> int:
    return index if isinstance(index, int) else index[0]
