"""A merge from its request to a model folder: plan, write, prove, publish; what is not proven goes into quarantine."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studio import models
from studio.config.load import load_run_config
from studio.config.merge import MergeConfig
from studio.errors import ModelError
from studio.exports import report as reports
from studio.exports.identity import stranger
from studio.exports.report import Report
from studio.runs import outputs as left
from studio.runs.store import Store
from studio.worker import bases, outputs
from studio.worker.door import Desk
from studio.worker.merging import account, companions, full_memory, place, quantised, stream
from studio.worker.merging.ledger import Ledger, Written
from studio.worker.merging.plan import plan
from studio.worker.merging.proof import Comparison, Prover, Request, Unproven
from studio.worker.merging.quantised import Rounding
from studio.worker.merging.work import Plan, Share

SPARE_BYTES = 50_000_000  # tokenizer, configuration, reports


class Quarantined(ModelError):
    """The merged model is not base plus adapter, or nobody could tell; it is kept apart, with the reason."""


@dataclass(frozen=True)
class Job:
    """What is asked for, with its names looked up: `folder` is the base's, `rounding` what training did to it."""

    config: MergeConfig
    run_dir: Path
    shares: tuple[Share, ...]
    folder: Path
    rounding: Rounding | None

    @property
    def target(self) -> Path:
        return Path(self.config.export_dir) if self.config.export_dir else self.run_dir / "model"

    @property
    def is_in_memory(self) -> bool:
        return self.config.merge_method == "full_memory"


def merge(desk: Desk) -> None:
    """Merge as the run's config.yaml says and leave model/ and a report.

    Raises:
        SeedbedError: the adapter does not fit, holds what cannot be merged, or the result is not the same model.
    """
    config = load_run_config(desk.run_dir / "config.yaml")
    assert isinstance(config, MergeConfig)
    shutil.rmtree(desk.run_dir / "tmp", ignore_errors=True)
    ledger = Ledger()
    with ExitStack() as stack:
        prover = stack.enter_context(_prover(config)) if config.verify else None
        desk.reporter.phase("planning", ", ".join(config.adapter_name_or_path))
        job = _job(config, desk.run_dir)
        place.require(job.target, config, [job.folder, *(share.adapter for share in job.shares)])
        planned = _plan(job)
        _require_room(job.target, planned)
        ledger.lap("planning")
        with place.draft(job.target, config, desk) as draft:
            report = _make(job, planned, prover, draft, desk, ledger)
            reports.write(report, desk.run_dir)
            desk.reporter.phase("saving")
    desk.reporter.result(output="model", **_figures(job, planned, report), stopped=False)


def _prover(config: MergeConfig) -> Prover:
    rounds = config.dequantize_base != "none"
    return Prover(config.export_device == "auto", needed=("bitsandbytes",) if rounds else ())


def _job(config: MergeConfig, run_dir: Path) -> Job:
    store = Store(run_dir.parent)
    any_kind = config.merge_method == "full_memory"
    adapters = [left.adapter_of(store, name, any_kind) for name in config.adapter_name_or_path]
    shares = [Share(adapter.path, weight) for adapter, weight in zip(adapters, config.weights, strict=True)]
    folder = bases.find(config.model_name_or_path or adapters[0].base).path
    return Job(config, run_dir, tuple(shares), folder, quantised.asked(config, [adapter.path for adapter in adapters]))


def _plan(job: Job) -> Plan:
    dtype = job.config.export_dtype
    if job.is_in_memory:
        return full_memory.plan(job.folder, job.shares, dtype)
    return plan(job.folder, job.shares, dtype, job.rounding)


def _write(job: Job, planned: Plan, draft: Path, desk: Desk) -> Written:
    shard_bytes = job.config.export_size * 10**9
    if not job.is_in_memory:
        return stream.write(planned, draft, shard_bytes, _teller(desk))
    trusts = job.config.trust_remote_code
    return full_memory.write(planned, job.folder, job.shares, draft, shard_bytes, trusts)


def _make(job: Job, planned: Plan, prover: Prover | None, draft: Path, desk: Desk, ledger: Ledger) -> Report:
    """Fill `draft` and say what became of it.

    Raises:
        Quarantined: it is no longer there.
    """
    desk.reporter.phase("merging")
    written = _write(job, planned, draft, desk)
    companions.copy(job.folder, job.shares[0].adapter, draft, _changes(job, planned), job.config.template)
    ledger.lap("merging")
    found = _prove(job, prover, draft, desk) if prover else None
    ledger.lap("verifying")
    report = account.report(_origin(job, planned), found, ledger.close(written))
    if report.passed:
        return report
    desk.requests.protect()
    kept = place.quarantine(draft, job.run_dir)
    reports.write(replace(report, facts={**report.facts, "quarantine": str(kept)}), desk.run_dir)
    raise Quarantined(f"{report.verdict} It was put into {kept}, where nothing uses it; report.md has the figures")


def _prove(job: Job, prover: Prover, draft: Path, desk: Desk) -> Comparison | str:
    """What the comparison found, or why there was none."""
    desk.reporter.phase("verifying", "comparing the merged model with base and adapter")
    request = Request(
        base=str(job.folder),
        adapters=tuple(str(share.adapter) for share in job.shares),
        weights=tuple(share.weight for share in job.shares),
        merged=str(draft),
        rounding=job.rounding.kind if job.rounding else None,
        double=job.rounding is None or job.rounding.double,
        trust_remote_code=job.config.trust_remote_code,
    )
    try:
        return prover.compare(request, desk.reporter.progress)
    except Unproven as error:
        return str(error)


def _origin(job: Job, planned: Plan) -> account.Origin:
    doubts = [stranger(share.adapter, job.folder) for share in job.shares]
    return account.Origin(
        base=str(job.folder),
        adapters=tuple(str(share.adapter) for share in job.shares),
        weights=tuple(share.weight for share in job.shares),
        notes=planned.notes,
        warnings=tuple(doubt for doubt in doubts if doubt),
    )


def _changes(job: Job, planned: Plan) -> dict[str, Any]:
    """What is different in config.json."""
    dtype = job.config.export_dtype
    return {**planned.config_changes, **({} if dtype == "auto" else {"dtype": dtype, "torch_dtype": dtype})}


def _figures(job: Job, planned: Plan, report: Report) -> dict[str, Any]:
    """For result.json. The fingerprint is that of a model that is one whole adapter and its base, nothing else."""
    alone = len(job.shares) == 1 and job.shares[0].weight == 1 and not job.rounding
    return {
        "bytes": planned.size_bytes,
        "merged_weights": len(planned.changed),
        "adapter_sha256": models.fingerprint(job.shares[0].adapter) if alone else None,
        **_measured(report),
    }


def _measured(report: Report) -> dict[str, Any]:
    proof = report.facts["proof"] or {}
    return {key: proof.get(key) for key in ("kl", "max_difference")}


def _require_room(target: Path, planned: Plan) -> None:
    needed = planned.size_bytes + SPARE_BYTES
    folder = next(each for each in target.parents if each.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise outputs.DiskFull(
            f"the merged model needs {needed / 1e9:.2f} GB and {folder} has {free / 1e9:.2f} GB left: free some"
        )


def _teller(desk: Desk) -> Callable[[int, int], None]:
    """Tells how far the writing is, in megabytes, and the time left."""
    started = time.monotonic()

    def tell(done: int, total: int) -> None:
        left_s = (time.monotonic() - started) * (total - done) / done if done else None
        message = f"merging {done / 1e6:.0f}/{total / 1e6:.0f} MB"
        desk.reporter.step(done // 1_000_000, total // 1_000_000, eta_s=left_s, message=message)

    return tell
