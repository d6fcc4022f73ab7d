import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.datasets.checks import survey
from studio.datasets.checks.near_duplicates import near_rows
from studio.datasets.entry import describe
from studio.errors import Cancelled

Write = Callable[[str, Any], Path]
ENTRY = describe("a", "a.jsonl", columns={"prompt": "text", "response": None})


def sentences(count: int, seed: int) -> list[str]:
    """Texts of 60 words that have nothing in common but their letters."""
    chance = random.Random(seed)
    return [" ".join("".join(chance.choices("abcdefgh", k=6)) for _ in range(60)) for _ in range(count)]


def changed(text: str, words: int) -> str:
    """`text` with so many words at its end replaced."""
    kept = text.split()
    return " ".join(kept[: len(kept) - words] + [f"other{number}" for number in range(words)])


def near(path: Path, threshold: float = 0.85) -> list[tuple[int, int]]:
    rows, origins = near_rows(path, ENTRY, threshold)
    return list(zip(rows.tolist(), origins.tolist(), strict=True))


def rows(texts: list[str]) -> list[dict[str, str]]:
    return [{"text": text} for text in texts]


def test_rows_that_differ_in_little_are_found_and_others_are_not(write: Write) -> None:
    texts = sentences(300, seed=1)
    nearly = [changed(text, 1) for text in texts[:40]]
    alike = [changed(text, 30) for text in texts[40:80]]
    found = near(write("a.jsonl", rows(texts + nearly + alike)), 0.8)
    assert found == [(301 + number, 1 + number) for number in range(40)]


@pytest.mark.parametrize(("threshold", "count"), [(0.2, 40), (0.6, 0), (1.0, 0)])
def test_the_threshold_decides(threshold: float, count: int, write: Write) -> None:
    texts = sentences(40, seed=2)
    # half of the words are common, so about a third of all pieces are: 30 / (30 + 30 + 30)
    path = write("a.jsonl", rows(texts + [changed(text, 25) for text in texts]))
    assert len(near(path, threshold)) == count


def test_exact_repetitions_are_near_at_every_threshold(write: Write) -> None:
    texts = sentences(5, seed=3)
    assert near(write("a.jsonl", rows(texts + texts)), 1.0) == [(6 + number, 1 + number) for number in range(5)]


def test_case_is_no_difference_and_chinese_is_read_too(write: Write) -> None:
    chance = random.Random(4)
    chinese = "".join(chance.choices("的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就", k=200))
    assert near(write("a.jsonl", rows(["Hello there, World", chinese, "hello there, world", chinese[:-3]]))) == [
        (3, 1), (4, 2),
    ]  # fmt: skip


def test_short_texts_and_faulty_rows_do_no_harm(write: Write) -> None:
    assert near(write("a.jsonl", [{"text": "a"}, {"text": ""}, {"text": "b"}, {"other": 1}, {"text": "a"}])) == [(5, 1)]
    assert near(write("b.jsonl", [{"text": ""}])) == []


def test_a_check_counts_near_rows_apart_from_exact_ones(write: Write) -> None:
    (text,) = sentences(1, seed=5)
    path = write("a.jsonl", rows([text, text, changed(text, 1)]))
    told: list[tuple[int, int]] = []
    report, _ = survey(path, ENTRY, near_duplicates=True, progress=lambda *done: told.append(done))
    found = {finding.code: finding.rows for finding in report.findings}
    assert found == {"duplicate_rows": (2,), "near_duplicates": (3,)}
    assert report.near_duplicate_threshold == 0.85


def test_looking_for_them_can_be_cancelled(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.datasets.pace.TOLD_S", 0)
    with pytest.raises(Cancelled):
        near_rows(write("a.jsonl", rows(sentences(50, seed=6))), ENTRY, 0.85, cancelled=lambda: True)
