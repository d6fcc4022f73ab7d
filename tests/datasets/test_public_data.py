"""LLaMA-Factory's public demo sets, from the first to the last row: checked, shown, and detected as registered."""

from pathlib import Path

import pytest

from studio.datasets import Registry, load, preview
from studio.datasets.checks import survey
from studio.datasets.detect import propose_for
from studio.datasets.loading import scan

SETS = {
    "identity": 91,
    "alpaca_en_demo": 999,
    "alpaca_zh_demo": 1000,
    "glaive_toolcall_en_demo": 300,
    "dpo_en_demo": 300,
    "kto_en_demo": 300,
    "wiki_demo": 30,
}


@pytest.mark.parametrize("name", SETS)
def test_a_check_finds_every_row_usable(name: str, public_data: Path) -> None:
    registry = Registry(public_data)
    report, index = survey(registry.file(name), registry.entry(name))
    assert (report.rows, report.usable, report.fatal) == (SETS[name], SETS[name], "")
    assert index.rows == SETS[name]


@pytest.mark.parametrize("name", SETS)
def test_every_page_shows_turns(name: str, public_data: Path, data_dir: Path) -> None:
    registry = copied(public_data, name, data_dir)
    shown = [row for at in range(0, SETS[name], 100) for row in preview.page(registry, name, at, 100).rows]
    assert [row.row for row in shown] == list(range(1, SETS[name] + 1))
    assert all(row.turns and not row.error for row in shown)


@pytest.mark.parametrize("name", SETS)
def test_detection_reads_every_row_as_the_registry_does(name: str, public_data: Path) -> None:
    registry = Registry(public_data)
    path = registry.file(name)
    guessed = propose_for(path).entry(name, path.name)
    assert [scanned.value for scanned in scan(path, guessed)] == [value for _, value in load(registry, name)]


def copied(public_data: Path, name: str, data_dir: Path) -> Registry:
    """A registry of our own: pages keep an index beside it."""
    entry = Registry(public_data).entry(name)
    (data_dir / entry.file_name).write_bytes((public_data / entry.file_name).read_bytes())
    registry = Registry(data_dir)
    registry.add(entry)
    return registry
