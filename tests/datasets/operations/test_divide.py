import pytest

from studio.datasets import Registry, operations
from studio.errors import DatasetError
from tests.datasets.operations.conftest import left, put, records


def test_split_by_chance(registry: Registry) -> None:
    train, validation = operations.split(registry, "it", fraction=0.9, seed=7)
    assert (train.name, validation.name) == ("it-train", "it-validation")
    assert train.origin == {"operation": "split", "of": ["it"], "part": "train", "fraction": 0.9, "seed": 7}
    old, parts = records(registry, "it"), [records(registry, part.name) for part in (train, validation)]
    assert [len(part) for part in parts] == [90, 10]
    assert [record for record in old if record in parts[0]] == parts[0]
    assert [record for record in old if record not in parts[0]] == parts[1]


def test_a_seed_gives_one_split(registry: Registry) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        operations.split(registry, "it", 0.5, seed=seed, output_name=name)
    assert records(registry, "a-train") == records(registry, "b-train") != records(registry, "c-train")


def test_split_by_a_column(registry: Registry) -> None:
    english, german = operations.split(registry, "it", column="lang")
    assert (english.name, german.name) == ("it-en", "it-de")
    assert english.origin == {"operation": "split", "of": ["it"], "part": "en", "column": "lang"}
    assert [record["lang"] for record in records(registry, "it-en")] == ["en"] * 25
    assert len(records(registry, "it-de")) == 75


def test_values_that_look_alike_stay_apart(registry: Registry) -> None:
    odd = ["a/b", "a_b", "", None, 3, True, "../../x", "数" * 100]
    put(registry, "odd", [{"instruction": "q", "output": "a", "kind": value} for value in odd])
    made = operations.split(registry, "odd", column="kind")
    assert [entry.name for entry in made] == [
        "odd-a/b", "odd-a_b", "odd-empty", "odd-null", "odd-3", "odd-true", "odd-../../x", "odd-" + "数" * 40,
    ]  # fmt: skip
    assert [records(registry, entry.name)[0]["kind"] for entry in made] == odd
    assert all(registry.file(entry.name).parent == registry.data_dir for entry in made)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, "say how to split"),
        ({"fraction": 0.5, "column": "lang"}, "say how to split"),
        ({"fraction": 0.001}, "0 cannot be taken"),
        ({"fraction": 0.999}, "leave none for the rest"),
        ({"column": "none"}, "row 1 has no column 'none'; it has instruction, output, lang"),
        ({"column": "output"}, "more than 50 different values"),
    ],
)
def test_splits_that_make_no_sense(how: dict[str, object], said: str, registry: Registry) -> None:
    with pytest.raises(DatasetError, match=said):
        operations.split(registry, "it", **how)  # type: ignore[arg-type]
    assert left(registry) == {"it.jsonl"}
    assert registry.names() == ["it"]


def test_a_column_of_lists_is_refused(registry: Registry) -> None:
    put(registry, "lists", [{"instruction": "q", "output": "a", "tags": ["x"]}])
    with pytest.raises(DatasetError, match="row 1: 'tags' must hold a text, a number"):
        operations.split(registry, "lists", column="tags")
