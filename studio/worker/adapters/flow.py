"""An adapter tool from its request to an adapter folder and a report."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from studio import models
from studio.config.adapter import AdapterConfig
from studio.config.load import load_run_config
from studio.exports import report
from studio.exports.adapter import Inputs, inputs
from studio.exports.plan import size
from studio.exports.report import Report, Section
from studio.files import folder_bytes
from studio.runs.store import Store
from studio.worker import bases, outputs
from studio.worker.adapters import difference, folder, rewriting
from studio.worker.adapters.average import average
from studio.worker.adapters.folder import Made
from studio.worker.door import Desk


def make(desk: Desk) -> None:
    """Do what the run's config.yaml says and leave adapter/ and a report.

    Raises:
        SeedbedError: what it names is missing or damaged, or it cannot be done with it.
    """
    config = load_run_config(desk.run_dir / "config.yaml")
    assert isinstance(config, AdapterConfig)
    shutil.rmtree(desk.run_dir / "tmp", ignore_errors=True)
    desk.reporter.phase("planning", config.action)
    found = inputs(Store(desk.run_dir.parent), config)
    name, path = _base(found)
    with outputs.draft(desk.run_dir, "adapter", last_call=desk.requests.protect) as draft:
        desk.reporter.phase("computing", config.action)
        started = time.monotonic()
        made = _made(desk, config, found)
        desk.reporter.phase("saving")
        folder.write(made, name, path, draft)
        written = folder_bytes(draft)
        report.write(_report(config, made, path, written, time.monotonic() - started), desk.run_dir)
    desk.reporter.result(output="adapter", bytes=written, stopped=False, **_figures(made))


def _base(found: Inputs) -> tuple[str, Path]:
    """The model that the new adapter belongs to: as a person named it, and its folder."""
    if found.base:
        return found.base_name, found.base
    info = found.adapters[0]
    return models.display_name(info.base), bases.find(info.base).path


def _made(desk: Desk, config: AdapterConfig, found: Inputs) -> Made:
    started = time.monotonic()

    def tell(done: int, total: int) -> None:
        message = f"comparing {size(done)} of {size(total)}"
        passed = time.monotonic() - started
        desk.reporter.step(done, total, eta_s=passed * (total - done) / done, message=message)

    if found.tuned:
        return difference.extract(config, found, tell)
    first = found.adapters[0]
    if config.action == "extract":
        return rewriting.checkpoint(first, config.export_dtype)
    if config.action == "convert":
        return rewriting.converted(first, config.export_dtype)
    if config.action == "scale":
        return rewriting.scaled(first, config.scale, config.export_dtype)
    rank = config.lora_rank if config.combination_type == "svd" else None
    return average(found.adapters, config.shares, rank, config.export_dtype)


def _report(config: AdapterConfig, made: Made, path: Path, written: int, seconds: float) -> Report:
    figures = (
        ("base model", models.display_name(str(path))),
        ("rank", str(made.stated["r"])),
        ("size", size(written)),
        ("time", f"{seconds:.1f} s"),
    )
    title = f"Adapter: {config.action}"
    return Report(title, made.verdict, True, (Section("The new adapter", figures=figures), *made.sections), made.facts)


def _figures(made: Made) -> dict[str, float]:
    """The facts that are one number."""
    return {key: value for key, value in made.facts.items() if isinstance(value, int | float)}
