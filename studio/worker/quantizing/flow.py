"""A quantisation from its request to a model folder: draw rows, measure, quantise, measure again, serve both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from studio.config.quantize import QuantizeConfig
from studio.errors import ModelError, ServingError
from studio.exports import report as reports
from studio.exports.quantize import called, layers_of, unserved
from studio.exports.texts import filled, trained
from studio.files import folder_bytes
from studio.runs.outputs import model_of
from studio.runs.store import Store
from studio.serving import installed
from studio.worker import outputs
from studio.worker import tokenizer as tokenizers
from studio.worker.door import Desk
from studio.worker.quantizing import checkpoint, perplexity, speed, told
from studio.worker.quantizing.texts import Names, Texts, draw
from studio.worker.quantizing.told import Findings, Measures

STEPS = 6
QUARANTINE = "quarantine"


class Ruined(ModelError):
    """What came out foretells texts far worse than the model did."""


def quantise(desk: Desk, config: QuantizeConfig) -> Findings:
    """Quantise as `config` says, leave model/, and return what was measured but for the speed.

    Raises:
        SeedbedError: the model or the rows cannot be used, or what came out is ruined.
    """
    store = Store(desk.run_dir.parent)
    folder, config = model_of(store, config.model_name_or_path), filled(store, config)
    _begin(desk, 0, "reading rows")
    tokenizer = tokenizers.load(folder, trust_remote_code=False, template=config.template)
    texts = draw(config, folder, tokenizer, Names.of(trained(store, config), folder))
    _begin(desk, 1, "measuring before")
    before = _measured(desk, folder, called(store, config), texts)
    with outputs.draft(desk.run_dir, "model", last_call=desk.requests.protect) as draft:
        _begin(desk, 2, "quantising")
        checkpoint.write(config, folder, draft, texts.calibration, tokenizer, desk.reporter.progress)
        _begin(desk, 3, "measuring after")
        after = _measured_again(desk, config, draft, texts)
        found = Findings(before, after, *_counts(texts), _server(config, folder))
        _require_sound(desk, config, found, draft)
    return found


def conclude(desk: Desk, config: QuantizeConfig, found: Findings) -> bool:
    """Measure the speed and leave the report. Returns whether a stop cut that short; the model is there already."""
    store = Store(desk.run_dir.parent)
    folder, config = model_of(store, config.model_name_or_path), filled(store, config)
    stopped = False
    try:
        for step, (key, model) in enumerate((("before", folder), ("after", desk.run_dir / "model")), 4):
            if config.measure_speed:
                found = _timed(desk, found, step, key, model)
    except speed.Stopped:
        stopped = True
    _leave(desk, config, found, stopped)
    return stopped


def _measured(desk: Desk, folder: Path, name: str, texts: Texts) -> Measures:
    def tell(done: int, total: int) -> None:
        desk.reporter.progress(f"perplexity: row {done} of {total}")

    place = "auto" if torch.cuda.is_available() else "cpu"
    return Measures(name, folder_bytes(folder), perplexity.of_folder(folder, texts.held, place, tell))


def _measured_again(desk: Desk, config: QuantizeConfig, draft: Path, texts: Texts) -> Measures:
    """What was written, read from the disk: some architectures are taken apart by one library and not put together
    again by the other."""
    try:
        return _measured(desk, draft, config.scheme, texts)
    except ModelError as error:
        why = str(error).splitlines()[0].replace(str(draft), "it")
        raise ModelError(
            f"the {config.scheme} checkpoint of this architecture cannot be read by Transformers and was not kept "
            f"({why}): take another method"
        ) from error


def _counts(texts: Texts) -> tuple[tuple[int, int], int]:
    return (len(texts.calibration), len(texts.held)), perplexity.counted(texts.held)


def _server(config: QuantizeConfig, folder: Path) -> str:
    """Both are put to the same server, so that it is the weights that are compared."""
    try:
        on, _ = installed.platform()
    except ServingError:
        return "huggingface"
    return "huggingface" if unserved(config, layers_of(folder, config), on == "cuda") else "vllm"


def _require_sound(desk: Desk, config: QuantizeConfig, found: Findings, draft: Path) -> None:
    if not found.is_ruined:
        return
    report = told.report(config, found)
    outputs.publish(draft, desk.run_dir / QUARANTINE)
    reports.write(report, desk.run_dir)
    raise Ruined(report.verdict)


def _timed(desk: Desk, found: Findings, step: int, key: str, model: Path) -> Findings:
    _begin(desk, step, f"serving {key}")
    place = desk.run_dir / "speed" / key
    measured = speed.measure(model, found.server, place, desk.requests, desk.reporter.progress)
    return replace(found, **{key: replace(getattr(found, key), speed=measured)})


def _leave(desk: Desk, config: QuantizeConfig, found: Findings, stopped: bool) -> None:
    reports.write(told.report(config, found), desk.run_dir)
    desk.reporter.result(
        output="model",
        bytes=found.after.bytes,
        smaller=found.smaller,
        perplexity_before=found.before.perplexity,
        perplexity=found.after.perplexity,
        stopped=stopped,
    )


def _begin(desk: Desk, step: int, phase: str) -> None:
    desk.reporter.phase(phase)
    desk.reporter.step(step, STEPS, eta_s=None, message=phase)
