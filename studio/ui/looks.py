"""What a page says of a form that is being filled in: found out anew after each change, told in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from studio.ui.panel import LATEST


@dataclass(frozen=True)
class Look:
    """All that calls for a look is one event of Gradio's: of two, an older look could be told after a newer one."""

    times: gr.State = field(default_factory=lambda: gr.State(0))

    def on(self, causes: Sequence[Any], handler: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> None:
        """Call `handler` at the events `causes`, and `after` others; while it runs, the last of them waits."""
        gr.on([*causes, self.times.change], handler, inputs, outputs, **LATEST)

    def after(self, done: gr.events.Dependency) -> gr.events.Dependency:
        """Look once `done` has ended, by which the form was filled in. What comes then does not wait for the look."""
        # through the queue: Gradio tells of a changed state only there
        return done.then(
            lambda times: times + 1, self.times, self.times, show_progress="hidden", api_visibility="private"
        )
