import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.datasets import Registry, load
from studio.datasets.entry import describe
from studio.datasets.reading import rows
from studio.errors import RowError

Records = Callable[[Registry, str], list[dict[str, Any]]]


@pytest.fixture
def registry(data_dir: Path) -> Registry:
    """A registry with `it`: 100 rows, an unused column `lang`."""
    records = [{"instruction": f"q{row}", "output": f"a{row}", "lang": "de" if row % 4 else "en"} for row in range(100)]
    return put(Registry(data_dir), "it", records)


def put(registry: Registry, name: str, records: list[dict[str, Any]], **reading: Any) -> Registry:
    """Register `records` as a set."""
    (registry.data_dir / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    registry.add(describe(name, f"{name}.jsonl", **reading))
    return registry


def records(registry: Registry, name: str) -> list[dict[str, Any]]:
    """What the file of a set holds."""
    found = [record for _, record in rows(registry.file(name))]
    assert not any(isinstance(record, RowError) for record in found)
    return found  # type: ignore[return-value]


def values(registry: Registry, name: str) -> list[Any]:
    """What the rows of a set mean."""
    return [value for _, value in load(registry, name)]


def left(registry: Registry) -> set[str]:
    """Names of what is in the data folder, hidden files aside."""
    return {path.name for path in registry.data_dir.iterdir() if not path.name.startswith(".")} - {"dataset_info.json"}
