"""What a chat pane can be set to, how that is called, and what the page says below a picker."""

from __future__ import annotations

from html import escape
from pathlib import Path

from studio.config.data import DataConfig
from studio.config.merge import MergeConfig
from studio.errors import RunNotFound, SeedbedError
from studio.models import BUNDLED, display_name
from studio.runs import outputs
from studio.runs.outputs import Output
from studio.serving import servers
from studio.serving.speaker import Speaker, speaker
from studio.ui import choices
from studio.ui.choices import Choices
from studio.ui.context import Context

RUN_SLUG_AT = 23  # a run's id is date-time-random, then its name


def offers(ctx: Context) -> Choices:
    """(label, value) of everything that can answer: adapters, models that runs made, then base models."""
    made = [*outputs.adapters(ctx.store), *outputs.models(ctx.store)]
    own = {str(output.path) for output in made}
    bases = [(f"{label} · base", value) for label, value in choices.base_models(ctx) if value not in own]
    return [bases[0], *((_label(output), str(output.path)) for output in made), *bases[1:]]


def called(ctx: Context, path: str) -> str:
    """What a model or adapter is called in lists; cheaper than looking it up among all `offers`."""
    folder = Path(path)
    try:
        return _label(Output(ctx.store.get(folder.parent.name), folder))
    except (RunNotFound, KeyError):
        name = display_name(path)
        return Path(name).name if Path(name).is_absolute() else name


def pair(ctx: Context, left: str | None, right: str | None, left_is_free: bool) -> tuple[str, str]:
    """Both picks, those that are missing filled in: the newest adapter, and the base of the right one beside it.

    `left_is_free`: nothing was asked on the left yet, so a base that fits nothing may give way to one that does.
    """
    newest = next((str(output.path) for output in outputs.adapters(ctx.store)), BUNDLED)
    right = right or newest
    base = _base_of(right)
    if not left:
        return base or BUNDLED, right
    follows = left_is_free and base and _is_base(ctx, left) and speaker_or_none(left) != speaker_or_none(base)
    return (base if follows and base else left), right


def speaker_or_none(name: str) -> Speaker | None:
    """Who is picked; None where that cannot be said."""
    try:
        return speaker(name) if name else None
    except SeedbedError:
        return None


def remark(ctx: Context, name: str) -> str:
    """The line below a picker: what is picked, that its answers are its own, or what is wrong, as HTML."""
    try:
        who = speaker(name)
    except SeedbedError as error:
        return f'<div class="remark bad">{escape(str(error))}</div>'
    return f'<div class="remark"><span>{escape(who.facts)}</span>{_proof(ctx, who)}</div>'


def _proof(ctx: Context, who: Speaker) -> str:
    run = servers.find(ctx.store, who.base) if who.adapter else None
    found = servers.endpoint(run) if run else None
    name = found.name_of(who.adapter) if found and who.adapter else None
    check = found.run.server.get("checks", {}).get(name) if found else None
    if not check:
        return ""
    tip = (
        f"Asked {check['rows']} times in mixed batches: the base's log-probabilities moved by at most "
        f"{check['base_max_logprob_diff']:.3f}; the adapter's differ from the base's by up to "
        f"{check['adapter_max_logprob_diff_from_base']:.2f}."
    )
    if check["warning"]:
        return f'<span class="doubt" title="{escape(tip)}">{escape(check["warning"])}</span>'
    return f'<span class="proved" tabindex="0" title="{escape(tip)}">✓ does not mix with its base</span>'


def _label(output: Output) -> str:
    kind = {"train": "full", "merge": "merged"}[output.run.kind] if output.path.name == "model" else "adapter"
    return f"{_name(output)} · {kind} · {output.run.created:%d %b %H:%M}"


def _name(output: Output) -> str:
    """The run's name; a merge without one bears the name of the run that it merged."""
    config = output.run.config
    if not isinstance(config, DataConfig) and config.run_name:
        return config.run_name
    origin = Path(config.adapter_name_or_path).parent.name if isinstance(config, MergeConfig) else output.run.id
    return origin[RUN_SLUG_AT:] or output.run.id[16:22]


def _base_of(name: str) -> str | None:
    who = speaker_or_none(name)
    return display_name(who.base) if who and who.adapter else None


def _is_base(ctx: Context, name: str) -> bool:
    return any(value == name and label.endswith(" · base") for label, value in offers(ctx))
