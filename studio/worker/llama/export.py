"""An export to GGUF from its request to a folder of files: convert, prove, publish, or quarantine."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

from studio.config.gguf import GgufConfig
from studio.config.load import load_run_config
from studio.errors import ModelError
from studio.exports import gguf as plans
from studio.exports import report as reports
from studio.exports.plan import size
from studio.exports.report import Answer, Report, Section, Table
from studio.runs.store import Store
from studio.worker import outputs
from studio.worker.door import Desk
from studio.worker.llama import proof
from studio.worker.llama.conversion import Conversion, convert_all
from studio.worker.llama.proof import Proof, Proven
from studio.worker.merging import place

COLUMNS = ("type", "size", "bits a weight", "seconds", "KL", "same next token", "same answers", "tokens")


def export(desk: Desk) -> None:
    """Do as the run's config.yaml says and leave gguf/ and a report.

    Raises:
        SeedbedError: the model cannot be converted, or llama.cpp makes another one of it.
    """
    config = load_run_config(desk.run_dir / "config.yaml")
    assert isinstance(config, GgufConfig)
    shutil.rmtree(desk.run_dir / "tmp", ignore_errors=True)
    desk.reporter.phase("planning", config.model_name_or_path)
    store = Store(desk.run_dir.parent)
    model, name = plans.source(store, config).path, plans.name_of(store, config)
    with outputs.draft(desk.run_dir, "gguf", last_call=desk.requests.protect) as draft:
        targets = {outtype: draft / f"{name}-{outtype}.gguf" for outtype in config.outtype}
        desk.reporter.phase("converting")
        made = convert_all(model, targets, plans.facts(store, config), Teller(desk), desk.run_dir / "tmp")
        desk.reporter.phase("verifying")
        found = proof.prove(model, made, desk.run_dir / "tmp", desk.reporter.progress)
        told = report(model, made, found)
        reports.write(told, desk.run_dir)
        if not told.passed:
            quarantine(desk, draft, told)
        desk.reporter.phase("saving")
    desk.reporter.result(output="gguf", **told.facts, stopped=False)


def report(model: Path, made: Conversion, found: Proof) -> Report:
    """What is known of the files."""
    return Report(
        title="GGUF",
        verdict=_verdict(found),
        passed=not found.wrong,
        sections=(_files(found), _tokenizer(made), *_answers(found)),
        facts={
            "bytes": sum(file.bytes for file in made.files),
            "seconds": sum(file.seconds for file in made.files),
            "model": str(model),
            "pre_tokenizer": made.pre,
            "kl": {proven.file.outtype: proven.trial.kl for proven in found.files},
        },
    )


class Teller:
    """Tells the page of progress: bytes, and the time left at the pace so far."""

    def __init__(self, desk: Desk) -> None:
        self.reporter, self.started = desk.reporter, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        passed = time.monotonic() - self.started
        eta_s = passed * (total - done) / done if done else None
        self.reporter.step(done, total, eta_s, f"writing {size(done)} of {size(total)}")


def quarantine(desk: Desk, draft: Path, told: Report) -> None:
    """Put a draft that is not what it should be where nothing uses it, with its report.

    Raises:
        ModelError: always, with the verdict.
    """
    desk.requests.protect()
    kept = place.quarantine(draft, desk.run_dir)
    reports.write(replace(told, facts={**told.facts, "quarantine": str(kept)}), desk.run_dir)
    raise ModelError(f"{told.verdict} The files were put into {kept}, where nothing uses them")


def _verdict(found: Proof) -> str:
    if found.wrong:
        return " ".join(["In quarantine:", *found.wrong])
    if found.why:
        return (
            f"Every file loads in llama.cpp and reads the same tokens. Answers were not compared, because {found.why}."
        )
    return (
        "Every file loads in llama.cpp, reads the same tokens and answers as the original within what its type costs."
    )


def _files(found: Proof) -> Section:
    return Section(
        "Files",
        "KL is how far the file's next tokens are from the original's, in nats a token (0 is equal)"
        + (f"; the original was computed in {found.computed_in}." if found.computed_in else ".")
        + _source(found.source),
        table=Table(COLUMNS, tuple(_row(proven) for proven in found.files), chart=("bits a weight", "KL")),
    )


def _source(proven: Proven | None) -> str:
    if proven is None:
        return ""
    far = "" if proven.trial.kl is None else f" (KL {proven.trial.kl:.2g})"
    return f" They were made of a {proven.file.outtype} file, which was put to the same test{far} and not kept."


def _row(proven: Proven) -> tuple[str, ...]:
    file, trial = proven.file, proven.trial
    same = sum(said.wanted == said.got for said in trial.answers)
    return (
        file.outtype,
        size(file.bytes),
        f"{file.bits_per_weight:.2f}",
        f"{file.seconds:.1f}",
        "" if trial.kl is None else f"{trial.kl:.2g}",
        "" if trial.agreement is None else f"{trial.agreement:.0%}",
        f"{same} of {len(trial.answers)}" if trial.answers else "",
        "equal" if not trial.strange else f"{len(trial.strange)} texts differ",
    )


def _tokenizer(made: Conversion) -> Section:
    how = "known to llama.cpp's converter" if made.recognised else "recognised by what it does: no token differs"
    figures: list[tuple[str, str]] = [("pre-tokenizer", f"{made.pre} ({how})" if made.pre else "none needed")]
    figures.append(("texts compared", f"{len(made.samples)}, three of them conversations as the model is given them"))
    figures += [("read otherwise by llama.cpp", text) for text in made.strange]
    return Section("Tokens", figures=tuple(figures))


def _answers(found: Proof) -> tuple[Section, ...]:
    return tuple(
        Section(
            f"Answers of {proven.file.outtype}",
            answers=tuple(Answer(said.prompt, said.wanted, said.got) for said in proven.trial.answers),
            labels=("original", proven.file.outtype),
        )
        for proven in found.files
        if proven.trial.answers
    )
