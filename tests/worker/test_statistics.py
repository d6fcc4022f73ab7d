"""What is measured, compared with what the training would see of the same rows."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from studio.config.data import DataConfig
from studio.config.load import parse
from studio.datasets.loading import load
from studio.datasets.masking import Masking
from studio.datasets.registry import Registry
from studio.datasets.statistics import findings, stored
from studio.errors import Cancelled, DatasetError, ModelError
from studio.models import BUNDLED
from studio.worker import pool
from studio.worker.encode import encode
from studio.worker.pool import Tokens
from studio.worker.statistics import _packed, measure
from studio.worker.tokenizer import find

ALPACA = {"file_name": "demo.jsonl"}
RANKING = {"file_name": "demo.jsonl", "ranking": True}


def registry(folder: Path, rows: list[dict[str, Any]], spec: dict[str, Any] = ALPACA) -> Registry:
    (folder / "demo.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    (folder / "dataset_info.json").write_text(json.dumps({"demo": spec}))
    return Registry(folder)


def config(**keys: Any) -> DataConfig:
    asked = {"action": "statistics", "dataset": ["demo"], "model_name_or_path": BUNDLED, "measured_rows": None}
    return parse(DataConfig, {**asked, **keys})


def alpaca(count: int) -> list[dict[str, Any]]:
    """Rows of many lengths, some with a long question, one in ten faulty."""
    draw = random.Random(0)
    rows: list[dict[str, Any]] = [
        {"instruction": "Why? " * draw.randint(1, 40), "output": "Because it is so. " * draw.randint(1, 60)}
        for _ in range(count)
    ]
    return [{**row, "output": 5} if number % 10 == 3 else row for number, row in enumerate(rows)]


def test_figures_are_those_of_the_encoded_rows(tmp_path: Path) -> None:
    data = registry(tmp_path, alpaca(1500))
    measured = measure(config(cutoff_len=100), data)
    tokenizer = Tokens(find(BUNDLED)).load()
    values: list[Any] = list(load(data, "demo", leave_out=lambda fault: None))
    whole = list(encode(values, tokenizer, Masking(1 << 20)))
    cut = list(encode(values, tokenizer, Masking(100)))
    kept = [row for row in cut if row.trained]
    assert (measured.rows, measured.rows_read, measured.rows_measured) == (1500, 1500, len(whole))
    assert (measured.tokens, measured.trained) == (sum(len(r.input_ids) for r in whole), sum(r.trained for r in whole))
    assert measured.kept_rows == len(kept) < len(whole)
    assert measured.kept_tokens == sum(len(row.input_ids) for row in kept)
    assert measured.kept_trained == sum(row.trained for row in kept)
    assert dict(measured.lengths) == Counter(len(row.input_ids) for row in whole)
    assert dict(measured.response_lengths) == Counter(row.trained for row in whole)
    assert measured.too_long == sum(row.cut > 0 for row in cut)
    assert measured.dropped == len(whole) - len(kept)
    assert dict(measured.languages)["en"] > 0.9 * measured.languages_read


def test_dropped_rows_follow_from_the_histogram_at_any_cutoff(tmp_path: Path) -> None:
    data = registry(tmp_path, alpaca(200))
    found = [measure(config(cutoff_len=cutoff), data) for cutoff in (20, 60, 100)]
    assert found[0].lengths == found[2].lengths
    assert [each.kept_rows + each.dropped + each.untrained for each in found] == [found[0].rows_measured] * 3


def test_rows_whose_tools_the_template_leaves_out_have_a_finding_of_their_own(tmp_path: Path) -> None:
    call = {"from": "function_call", "value": '{"name": "weather", "arguments": {"place": "Paris"}}'}
    calling = [{"from": "human", "value": "Rain?"}, call]
    plain = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
    spec = {"file_name": "demo.jsonl", "formatting": "sharegpt"}
    data = registry(tmp_path, [{"conversations": turns} for turns in (plain, calling)], spec)
    measured = measure(config(), data)
    assert (measured.kept_rows, measured.untrained, measured.tools_left_out) == (1, 0, 1)
    [finding] = findings(measured)
    assert (finding.code, finding.rows, finding.severity) == ("tools_left_out", (2,), "warning")
    assert "row 2: the model's chat template leaves out its call of weather" in finding.examples[0]
    assert stored(data, config()) == measured


def test_rows_that_become_several_sequences_are_measured_as_they_are_trained(tmp_path: Path) -> None:
    history = [["Hi", "<think>\nhm\n</think>\n\nHo"], ["Why?", "Because."]]
    rows = [{"instruction": "And?", "output": "So it is. " * count, "history": history} for count in (1, 2, 3)]
    data = registry(tmp_path, rows, {"file_name": "demo.jsonl", "columns": {"history": "history"}})
    asked = config(template="qwen3", cutoff_len=36)
    measured = measure(asked, data)
    values: list[Any] = list(load(data, "demo", leave_out=lambda fault: None))
    tokenizer = Tokens.of(asked, find(BUNDLED)).load()
    whole = list(encode(values, tokenizer, Masking(1 << 20)))
    kept = [row for row in encode(values, tokenizer, Masking(36)) if row.trained]
    assert (len(values), len(whole), measured.rows_measured) == (3, 9, 3)
    assert 3 < len(kept) < 9
    assert (measured.tokens, measured.trained) == (sum(len(r.input_ids) for r in whole), sum(r.trained for r in whole))
    assert measured.kept_tokens == sum(len(row.input_ids) for row in kept)
    assert measured.kept_trained == sum(row.trained for row in kept)
    assert (measured.kept_rows, measured.dropped) == (3, 0)


def test_findings_name_rows(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Hi", "output": "Ho"},
        {"instruction": "Hi", "output": "Ho " * 300},
        {"instruction": "Hi " * 300, "output": "Ho"},
    ]
    told = {finding.code: finding for finding in findings(measure(config(cutoff_len=64), registry(tmp_path, rows)))}
    assert {code: finding.rows for code, finding in told.items()} == {"too_long": (2, 3), "answer_cut_off": (3,)}
    assert told["answer_cut_off"].examples[0].startswith("row 3: what is trained of it begins at token ")


@pytest.mark.parametrize("filler", ["", "x" * 1000], ids=["row after row", "in stretches"])
def test_a_sample_lies_evenly_in_the_file(tmp_path: Path, filler: str) -> None:
    rows = [
        {"instruction": "Hi", "output": "yes " * (1 + number * 20 // 20_000), "unused": filler}
        for number in range(20_000)
    ]
    data = registry(tmp_path, rows)
    whole, sample = measure(config(), data), measure(config(measured_rows=2000), data)
    assert not whole.is_sample
    assert sample.is_sample
    assert 1900 < sample.rows_read < 2300
    assert sample.tokens_per_epoch == pytest.approx(whole.tokens_per_epoch, rel=0.03)
    assert len(sample.lengths) > 15


def test_several_processes_count_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = registry(tmp_path, alpaca(3000))
    alone = measure(config(), data)
    monkeypatch.setattr("studio.worker.statistics.processes_for", lambda text_bytes: 2)
    together = measure(config(), data)
    assert {**together.to_json(), "seconds": 0} == {**alone.to_json(), "seconds": 0}


def test_a_preference_counts_both_answers(tmp_path: Path) -> None:
    rows = [{"instruction": "Hi", "chosen": "Hello there", "rejected": "No " * 50}]
    measured = measure(config(), registry(tmp_path, rows, RANKING))
    [(longest, _)] = measured.lengths
    assert longest < measured.tokens < 2 * longest
    assert measured.packed_sequences == 1
    assert measured.turns == ((2, 1),)


def test_no_cutoff_takes_a_judged_answer(tmp_path: Path) -> None:
    rows = [{"instruction": "Hi " * 80, "chosen": "Hello there", "rejected": "No"}]
    whole, cut = (measure(config(cutoff_len=length), registry(tmp_path, rows, RANKING)) for length in (256, 24))
    assert (whole.kept_rows, cut.kept_rows) == (1, 1)
    assert (whole.kept_trained, cut.kept_trained) == (whole.trained, whole.trained)
    assert (whole.dropped, cut.dropped, cut.too_long) == (0, 0, 1)


def test_text_is_trained_whole(tmp_path: Path) -> None:
    spec = {"file_name": "demo.jsonl", "columns": {"prompt": "text"}}
    measured = measure(config(), registry(tmp_path, [{"text": "Once upon a time."}], spec))
    assert measured.trained == measured.tokens - 1


def test_only_the_rows_that_the_entry_takes_are_measured(tmp_path: Path) -> None:
    data = registry(tmp_path, alpaca(500), {**ALPACA, "num_samples": 120})
    assert measure(config(), data).rows_read == 120


def test_it_is_kept_and_tells_how_far_it_is(tmp_path: Path) -> None:
    data, told = registry(tmp_path, alpaca(6000)), list[tuple[int, int]]()
    measured = measure(config(), data, progress=lambda done, total: told.append((done, total)))
    assert stored(data, config()) == measured
    assert told[-1] == (6000, 6000)
    assert len(told) >= 3


def test_it_can_be_given_up(tmp_path: Path) -> None:
    data, asked = registry(tmp_path, alpaca(5000)), list[int]()

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 4

    with pytest.raises(Cancelled):
        measure(config(), data, cancelled=cancelled)
    assert stored(data, config()) is None


def test_what_cannot_be_measured_has_a_reason(tmp_path: Path) -> None:
    data = registry(tmp_path, alpaca(5))
    with pytest.raises(ModelError, match="absent"):
        measure(config(model_name_or_path=str(tmp_path / "absent")), data)
    with pytest.raises(DatasetError, match="nothing"):
        measure(config(dataset=["nothing"]), data)


def test_a_row_with_placeholders_is_counted_as_it_stands(tmp_path: Path) -> None:
    rows = [{"instruction": "Who?", "output": "I am {{name}} by {{author}}."}]
    assert measure(config(), registry(tmp_path, rows)).rows_measured == 1


@pytest.mark.parametrize(("lengths", "sequences"), [([], 0), ([6, 5, 4, 3, 2], 2), ([10, 10], 2), ([6, 6, 6], 3)])
def test_rows_are_packed_into_the_fullest_sequence_with_room(lengths: list[int], sequences: int) -> None:
    assert _packed(lengths, 10) == sequences


def test_processes_are_worth_their_start_for_large_files_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "cores", lambda: 32)
    megabytes = [pool.processes_for(size << 20) for size in (1, 60, 200, 100_000)]
    assert megabytes == [1, 1, 3, 8]
    assert [pool.processes_for(size << 20, wanted=16) for size in (1, 60, 200)] == [1, 15, 16]
