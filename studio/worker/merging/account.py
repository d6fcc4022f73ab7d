"""What a merge tells of itself: the verdict, the figures behind it, where the time went, and the hashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from studio.exports.plan import size
from studio.exports.report import Answer, Report, Section, Table
from studio.worker.merging.ledger import Written
from studio.worker.merging.proof import Asked, Comparison, objections


@dataclass(frozen=True)
class Origin:
    """What was merged, in words: the base, the adapters with their shares, sentences on what was decided, doubts."""

    base: str
    adapters: tuple[str, ...]
    weights: tuple[float, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def report(origin: Origin, proof: Comparison | str | None, written: Written) -> Report:
    """The whole account. `proof` is what was found, why nothing could be found, or None where none was asked for."""
    wrong = objections(proof) if isinstance(proof, Comparison) else (proof,) if proof else ()
    sections = [_origin(origin), *(_proof(proof) if isinstance(proof, Comparison) else ()), *_work(written)]
    return Report(
        title="Merge",
        verdict=_verdict(proof, wrong),
        passed=not wrong,
        sections=tuple(sections),
        facts={
            "origin": asdict(origin),
            "proof": asdict(proof) if isinstance(proof, Comparison) else None,
            "written": asdict(written),
        },
    )


def _verdict(proof: Comparison | str | None, wrong: Sequence[str]) -> str:
    if isinstance(proof, str):
        return f"In quarantine: not compared with base and adapter, because {proof}."
    if wrong:
        return f"In quarantine: this is not base plus adapter, because {'; '.join(wrong)}."
    if proof is None:
        return "Not compared with base and adapter, as asked: that nothing was lost is not proven."
    same, asked = proof.same_answers, len(proof.asked)
    return (
        f"The merged model is base plus adapter: {same} of {asked} greedy answers are the same, and each of "
        f"{proof.probed} weights differs by no more than rounding explains."
    )


def _origin(origin: Origin) -> Section:
    shared = zip(origin.adapters, origin.weights, strict=True)
    return Section(
        title="What was merged",
        text=" ".join([*(f"Beware: {warning}." for warning in origin.warnings), *origin.notes]),
        figures=(
            ("base", origin.base),
            *(("adapter" if weight == 1 else f"adapter, {weight:g} of it", name) for name, weight in shared),
        ),
    )


def _proof(proof: Comparison) -> Iterator[Section]:
    yield Section(
        title="Merged against base plus adapter",
        text=f"Computed in {proof.computed_in}, by a process of its own.",
        figures=(
            ("KL divergence of merged (nats a token)", f"{proof.kl:.2e}"),
            ("KL divergence of the base alone", f"{proof.kl_base:.2e}"),
            ("largest difference of a logit", f"{proof.max_difference:.2e}"),
            ("mean difference of the logits", f"{proof.mean_difference:.2e}"),
            ("same greedy answers", f"{proof.same_answers} of {len(proof.asked)}"),
            ("weights compared one by one", str(proof.probed)),
            ("largest difference of a weight, as a share of what rounding explains", f"{proof.deviation:.2f}"),
            ("largest memory of the comparison", size(proof.peak_bytes)),
        ),
        table=Table(
            ("prompt", "tokens", "KL", "KL of the base", "largest difference", "mean difference"),
            tuple(_row(each) for each in proof.asked),
        ),
    )
    yield Section(
        title="Greedy answers",
        answers=tuple(Answer(each.prompt, each.adapter, each.merged) for each in proof.asked),
        labels=("base + adapter", "merged"),
    )


def _row(asked: Asked) -> tuple[str, ...]:
    figures = (asked.kl, asked.kl_base, asked.max_difference, asked.mean_difference)
    return asked.prompt, str(asked.positions), *(f"{figure:.2e}" for figure in figures)


def _work(written: Written) -> Iterator[Section]:
    yield Section(
        title="Time, memory and bytes",
        figures=(
            ("read", size(written.bytes_read)),
            ("written", size(written.bytes_written)),
            ("largest memory of the merge", size(written.peak_bytes)),
            *((f"{phase} (s)", f"{seconds:.2f}") for phase, seconds in written.seconds.items()),
        ),
    )
    digests = [
        *(("read", *pair) for pair in written.inputs.items()),
        *(("written", *pair) for pair in written.outputs.items()),
    ]
    yield Section(
        title="Hashes",
        table=Table(("", "file", "SHA-256"), tuple((way, str(file), digest) for way, file, digest in digests)),
    )
