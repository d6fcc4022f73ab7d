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
    """The report on a set, where there is one, and whether work on one is under way; None where the page knows."""
    entry = ctx.registry.entry(name)
    report = checks.stored(ctx.registry.file(name), entry, ctx.registry.cache_dir)
    told = _told(report) if report else None
    return panel.unless_known(known, {"report": told, "busy": panel.is_busy(ctx, name, "check", "repair")})


def on_check(ctx: Context, name: str, near_duplicates: bool) -> Answer:
    """Check every row in a process of its own."""
    return _start(ctx, action="check", dataset=[name], near_duplicates=near_duplicates)


def on_repair(ctx: Context, name: str, repairs: Sequence[str]) -> Answer:
    """Write a new set, with what was wrong in this one put right."""
    return _start(ctx, action="repair", dataset=[name], repairs=repairs)


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
