"""What a chat pane can be set to, how that is called, and what the page says below a picker."""

from __future__ import annotations

from html import escape
from pathlib import Path

from studio.config.merge import MergeConfig
from studio.errors import RunNotFound, SeedbedError
from studio.models import BUNDLED, display_name
from studio.runs import outputs
from studio.runs.outputs import Output
from studio.runs.run import Run
from studio.serving import servers
from studio.serving.remotes import PICK, Remotes
from studio.serving.speaker import Speaker, picked
from studio.ui import choices
from studio.ui.choices import Choices
from studio.ui.context import Context

RUN_SLUG_AT = 23  # a run's id is date-time-random, then its name
ADD = PICK  # what is picked to add a server elsewhere; each of those is url:NAME
# what a model is, by the kind of its run
MODELS = {"train": "full", "merge": "merged", "quantize": "quantised", "consolidate": "full"}
CHECKPOINTS = 3  # of a run that goes on, the newest


def offers(ctx: Context) -> Choices:
    """(label, value) of everything that can answer: adapters, models that runs made, checkpoints of runs that go on,
    base models, servers elsewhere, and what adds one of those."""
    made = [*outputs.adapters(ctx.store), *outputs.models(ctx.store)]
    own = {str(output.path) for output in made}
    bases = [(f"{label} · base", value) for label, value in choices.base_models(ctx) if value not in own]
    elsewhere = [(f"{remote.name} · {remote.model}", remote.pick) for remote in Remotes(ctx.store.saves).list()]
    return [
        bases[0], *((_label(output), str(output.path)) for output in made), *_checkpoints(ctx), *bases[1:], *elsewhere,
        ("Add a URL…", ADD),
    ]  # fmt: skip


def called(ctx: Context, path: str) -> str:
    """What a model or adapter is called in lists; cheaper than looking it up among all `offers`."""
    if path.startswith(PICK):
        return path.removeprefix(PICK)
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
    base = _base_of(ctx, right)
    if not left:
        return base or BUNDLED, right
    other = speaker_or_none(ctx, left) != speaker_or_none(ctx, base or "")
    follows = left_is_free and base and _is_base(ctx, left) and other
    return (base if follows and base else left), right


def speaker_or_none(ctx: Context, name: str) -> Speaker | None:
    """Who is picked; None where that cannot be said."""
    try:
        return picked(ctx.store, name) if name else None
    except SeedbedError:
        return None


def remark(ctx: Context, name: str) -> str:
    """The line below a picker: what is picked, that its answers are its own, or what is wrong, as HTML."""
    if name == ADD:
        return '<div class="remark">Give its address below.</div>'
    try:
        who = picked(ctx.store, name)
    except SeedbedError as error:
        return f'<div class="remark bad">{escape(str(error))}</div>'
    return f'<div class="remark"><span title="{escape(who.facts)}">{escape(who.facts)}</span>{_proof(ctx, who)}</div>'


def _proof(ctx: Context, who: Speaker) -> str:
    """The tick of an adapter that is loaded, with the figure that it stands for, or what is in doubt."""
    run = servers.find(ctx.store, who.base) if who.adapter else None
    found = servers.endpoint(run) if run else None
    name = (found.name_of(who.adapter) or servers.adapter_name(who.adapter)) if found and who.adapter else None
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
    return tick(tip, str(check.get("reference", "")), check.get("reference_max_logprob_diff"))


def tick(tip: str, reference: str, difference: float | None) -> str:
    """What the comparison with Transformers has found, as HTML; `reference` is ok, pending, or a word: and why."""
    state, _, why = reference.partition(": ")
    if state == "ok" and difference is not None:
        tip += f" Its log-probabilities are those of Transformers and PEFT to within {difference:.3f}."
        return _mark("proved", tip, f"✓ proved: differs from Transformers by {difference:.3f} at most")
    if state == "failed":
        return _mark("doubt", tip, why)
    more = {"pending": "; being compared with Transformers", "skipped": f"; not compared with Transformers: {why}"}
    return _mark("proved", tip, f"✓ does not mix with its base{more.get(state, '')}")


def _mark(kind: str, tip: str, text: str) -> str:
    return f'<span class="{kind}" tabindex="0" title="{escape(tip)}">{escape(text)}</span>'


def _checkpoints(ctx: Context) -> Choices:
    """Of trainings that go on: a later one of theirs is as good as finished, an earlier one can be typed."""
    going = [run for run in ctx.store.list("train") if run.is_active]
    return [
        (f"{_run_name(run)} · {path.name.replace('-', ' ')} · still training", str(path))
        for run in going
        for path in reversed(run.checkpoints()[-CHECKPOINTS:])
    ]


def _label(output: Output) -> str:
    kind = MODELS[output.run.kind] if output.path.name == "model" else "adapter"
    return f"{_name(output)} · {kind} · {output.run.created:%d %b %H:%M}"


def _name(output: Output) -> str:
    """The run's name; a merge without one bears the name of the run that it merged."""
    config = output.run.config
    if isinstance(config, MergeConfig) and not config.run_name:
        return " + ".join(_slug(Path(name).parent.name or name, output.run) for name in config.adapter_name_or_path)
    return _run_name(output.run)


def _run_name(run: Run) -> str:
    return getattr(run.config, "run_name", None) or _slug(run.id, run)


def _slug(origin: str, run: Run) -> str:
    return origin[RUN_SLUG_AT:] or run.id[16:22]


def _base_of(ctx: Context, name: str) -> str | None:
    who = speaker_or_none(ctx, name)
    return display_name(who.base) if who and who.adapter else None


def _is_base(ctx: Context, name: str) -> bool:
    return any(value == name and label.endswith(" · base") for label, value in offers(ctx))
