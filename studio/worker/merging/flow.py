"""A merge from its request to a model folder: plan, write, prove, publish."""

from __future__ import annotations

import shutil
from pathlib import Path

from studio import models
from studio.config.load import load_run_config
from studio.config.merge import MergeConfig
from studio.files import read_json, write_json
from studio.worker import outputs
from studio.worker.door import Desk
from studio.worker.merging import verification
from studio.worker.merging.plan import Tensor, plan
from studio.worker.merging.stream import write
from studio.worker.methods import base

SPARE_BYTES = 50_000_000  # tokenizer, configuration, reports


def merge(desk: Desk) -> None:
    """Merge as the run's config.yaml says and leave model/ and a report.

    Raises:
        SeedbedError: the adapter does not fit, holds what cannot be merged, or the result is not the same model.
    """
    config = load_run_config(desk.run_dir / "config.yaml")
    assert isinstance(config, MergeConfig)
    shutil.rmtree(desk.run_dir / "tmp", ignore_errors=True)
    adapter = Path(config.adapter_name_or_path).resolve()
    desk.reporter.phase("planning", str(adapter))
    folder = base.find(config.model_name_or_path or models.check_adapter(adapter).base).path
    fingerprint = models.fingerprint(adapter)
    tensors = plan(folder, adapter, config.export_dtype)
    _require_room(desk.run_dir, tensors)
    with outputs.draft(desk.run_dir, "model", last_call=desk.requests.protect) as draft:
        desk.reporter.phase("merging")
        write(tensors, adapter, draft, config.export_size * 10**9, lambda done, total: _tell(desk, done, total))
        _copy_rest(folder, adapter, draft, config.export_dtype)
        desk.reporter.phase("verifying", "comparing answers of the merged model with base and adapter")
        report = verification.compare(folder, adapter, draft)
        verification.write(report, desk.run_dir)
        verification.require(report)
        desk.reporter.phase("saving")
    desk.reporter.result(
        output="model",
        bytes=sum(tensor.size_bytes for tensor in tensors),
        merged_weights=sum(bool(tensor.delta or tensor.trained) for tensor in tensors),
        kl=report.kl,
        max_difference=report.max_difference,
        adapter_sha256=fingerprint,
        stopped=False,
    )


def _require_room(run_dir: Path, tensors: list[Tensor]) -> None:
    needed = sum(tensor.size_bytes for tensor in tensors) + SPARE_BYTES
    free = shutil.disk_usage(run_dir).free
    if needed > free:
        raise outputs.DiskFull(
            f"the merged model needs {needed / 1e9:.2f} GB and {run_dir} has {free / 1e9:.2f} GB left: free some"
        )


def _tell(desk: Desk, done: int, total: int) -> None:
    message = f"merging {done / 1e6:.0f}/{total / 1e6:.0f} MB"
    desk.reporter.step(done // 1_000_000, total // 1_000_000, eta_s=None, message=message)


def _copy_rest(folder: Path, adapter: Path, target: Path, export_dtype: str) -> None:
    """Configuration from the base; tokenizer, template and generation settings from the adapter where it has them."""
    config = read_json(folder / "config.json") or {}
    if export_dtype != "auto":
        config.pop("torch_dtype", None)
        config["dtype"] = export_dtype
    write_json(target / "config.json", config)
    has_tokenizer = any((adapter / name).exists() for name in models.TOKENIZER_FILES)
    outputs.copy_tokenizer(adapter if has_tokenizer else folder, target)
    for name in ("generation_config.json", "chat_template.jinja"):
        source = next((place / name for place in (adapter, folder) if (place / name).exists()), None)
        if source:
            shutil.copy2(source, target / name)
    for code in folder.glob("*.py"):  # models that bring their own code do not load without it
        shutil.copy2(code, target / code.name)
