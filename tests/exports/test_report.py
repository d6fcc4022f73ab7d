"""A report reads back as it was written, and its page keeps tables whole whatever the texts hold."""

from __future__ import annotations

from pathlib import Path

from studio.exports import report
from studio.exports.report import Answer, Report, Section, Table

WHOLE = Report(
    title="Merge",
    verdict="The merged model is base plus adapter.",
    passed=True,
    sections=(
        Section("Figures", "In float32.", figures=(("KL", "1e-6"),)),
        Section("Speed", table=Table(("what", "tokens/s"), (("before", "10"), ("after", "20")), ("tokens/s",))),
        Section("Answers", answers=(Answer("a | b", "one\ntwo", "one"),), labels=("adapter", "merged")),
    ),
    facts={"kl": 1e-6},
)


def test_a_report_reads_back_as_it_was_written(tmp_path: Path) -> None:
    report.write(WHOLE, tmp_path)
    assert report.read(tmp_path) == WHOLE


def test_a_folder_without_one_has_none(tmp_path: Path) -> None:
    assert report.read(tmp_path) is None
    (tmp_path / "report.json").write_text('{"rows": 3}')
    assert report.read(tmp_path) is None, "the report of another kind of run"


def test_a_figure_that_is_not_finite_is_still_json(tmp_path: Path) -> None:
    report.write(Report("Merge", "Broken.", False, facts={"kl": float("nan")}), tmp_path)
    assert "NaN" not in (tmp_path / "report.json").read_text()


def test_texts_do_not_break_the_tables(tmp_path: Path) -> None:
    report.write(WHOLE, tmp_path)
    assert "| a \\| b | one two | one |" in (tmp_path / "report.md").read_text()
