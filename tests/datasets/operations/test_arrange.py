import itertools
from collections import Counter

import pytest

from studio.datasets import Registry, operations
from studio.datasets.operations import arrange
from studio.errors import DatasetError
from tests.datasets.operations.conftest import left, put, records


def test_shuffled_rows_are_the_same_in_another_order(registry: Registry) -> None:
    before = registry.file("it").read_bytes()
    (entry,) = operations.shuffle(registry, "it", seed=1)
    assert (entry.name, entry.file_name) == ("it-shuffled", "it-shuffled.jsonl")
    assert entry.origin == {"operation": "shuffle", "of": ["it"], "seed": 1}
    old, new = records(registry, "it"), records(registry, "it-shuffled")
    assert new != old
    assert sorted(new, key=str) == sorted(old, key=str)
    assert registry.file("it").read_bytes() == before


def test_a_seed_gives_one_order(registry: Registry) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        operations.shuffle(registry, "it", seed, name)
    assert records(registry, "a") == records(registry, "b") != records(registry, "c")


def test_every_order_is_as_likely_through_many_buckets(
    data_dir: object, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrange, "BUCKET_BYTES", 40)
    put(registry, "abc", [{"instruction": letter, "output": "x"} for letter in "abc"])
    orders: Counter[str] = Counter()
    for seed in range(120):
        (entry,) = operations.shuffle(registry, "abc", seed, "out")
        orders["".join(record["instruction"] for record in records(registry, entry.name))] += 1
        registry.file(entry.name).unlink()
        registry.remove(entry.name)
    assert set(orders) == {"".join(order) for order in itertools.permutations("abc")}
    # 20 each is expected; 4 standard deviations are 16
    assert all(4 <= count <= 36 for count in orders.values())


def test_a_sample_is_of_that_size_and_in_order(registry: Registry) -> None:
    (by_count,) = operations.sample(registry, "it", rows=10)
    (by_share,) = operations.sample(registry, "it", fraction=0.25, output_name="quarter")
    assert by_count.origin == {"operation": "sample", "of": ["it"], "rows": 10, "seed": 42}
    old = records(registry, "it")
    for name, count in ((by_count.name, 10), (by_share.name, 25)):
        places = [old.index(record) for record in records(registry, name)]
        assert len(places) == count
        assert places == sorted(places)


def test_every_row_is_drawn_as_often() -> None:
    counts = Counter(row for seed in range(2000) for row, taken in enumerate(arrange.drawn(5, 2, seed)) if taken)
    # 800 each is expected; 5 standard deviations are 110
    assert all(690 < counts[row] < 910 for row in range(5))


@pytest.mark.parametrize(
    ("rows", "fraction", "said"),
    [
        (None, None, "say how many rows"),
        (0, None, "it has 100 rows; 0 cannot be taken"),
        (101, None, "101 cannot be taken"),
        (None, 0.001, "0 cannot be taken"),
        (None, 1.5, "150 cannot be taken"),
    ],
)
def test_a_sample_of_nothing_or_of_too_much(
    rows: int | None, fraction: float | None, said: str, registry: Registry
) -> None:
    with pytest.raises(DatasetError, match=said):
        operations.sample(registry, "it", rows, fraction)
    assert left(registry) == {"it.jsonl"}
