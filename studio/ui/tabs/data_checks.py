"""The findings about the chosen dataset: what is wrong with which rows, and the repairs that write a new set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr

from studio.config import load
from studio.config.data import DataConfig
from studio.datasets import checks
from studio.ui import jobs, panel
from studio.ui.context import Context
from studio.ui.panel import QUIET, Answer

USUAL_SHARE: float = DataConfig.model_fields["near_duplicate_threshold"].default


def build(ctx: Context, chosen: gr.HTML) -> gr.HTML:
    """Draw the panel of the set whose name is in `chosen`. `select` fires with the `row` that a person wants to see."""

    def look(asked: list[str]) -> Answer:
        return on_look(ctx, *asked)

    def check(asked: list[Any]) -> Answer:
        return on_check(ctx, *asked)

    def repair(asked: list[Any]) -> Answer:
        return on_repair(ctx, *asked)

    drawn = panel.draw("data_checks", [look, check, repair], shared=["finding"])
    chosen.change(str, chosen, drawn, **QUIET)
    return drawn


def on_look(ctx: Context, name: str, known: str) -> Answer:
    """The report on a set, where there is one, from what share on near-duplicates are searched next, and whether work
    on one is under way; None where the page knows."""
    entry = ctx.registry.entry(name)
    report = checks.stored(ctx.registry.file(name), entry, ctx.registry.cache_dir)
    told = _told(report) if report else None
    share = (report and report.near_duplicate_threshold) or USUAL_SHARE
    busy = panel.is_busy(ctx, name, "check", "repair")
    return panel.unless_known(known, {"report": told, "share": share, "busy": busy})


def on_check(ctx: Context, name: str, near_duplicate_share: float | None) -> Answer:
    """Check every row in a process of its own; near-duplicates only where it is said from what share (0..1) on."""
    near = {"near_duplicates": True, "near_duplicate_threshold": near_duplicate_share}
    return _start(ctx, action="check", dataset=[name], **near if near_duplicate_share is not None else {})


def on_repair(ctx: Context, name: str, repairs: Sequence[str]) -> Answer:
    """Write a new set, with what was wrong in this one put right; near-duplicates are those that were found."""
    report = checks.stored(ctx.registry.file(name), ctx.registry.entry(name), ctx.registry.cache_dir)
    share = (report and report.near_duplicate_threshold) or USUAL_SHARE
    return _start(ctx, action="repair", dataset=[name], repairs=repairs, near_duplicate_threshold=share)


def told_finding(finding: checks.Finding) -> dict[str, Any]:
    """A finding in plain values and both languages."""
    words = {"title": finding.title, "advice": finding.advice, "zh": checks.CODES[finding.code].zh._asdict()}
    return {**asdict(finding), "severity": finding.severity, **words}


def _told(report: checks.Report) -> dict[str, Any]:
    """The report in plain values: each finding in both languages, each repair that fits one of them once."""
    fitting = {finding.repair for finding in report.findings}
    repairs = [(name, repair.en, repair.zh) for name, repair in checks.REPAIRS.items() if name in fitting]
    return report.to_json() | {"findings": [told_finding(each) for each in report.findings], "repairs": repairs}


def _start(ctx: Context, **asked: Any) -> Answer:
    return {"run": jobs.start(ctx, load.parse(DataConfig, asked))}
