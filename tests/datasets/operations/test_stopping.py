"""Whatever ends an operation, a request or a kill, the registry and the files are as before."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from studio.datasets import Registry, download, operations, scratch
from studio.errors import Cancelled
from tests.datasets.operations.conftest import put

ROWS = [{"instruction": f"q{row} " * 30, "output": "a", "lang": "de" if row % 4 else "en"} for row in range(30_000)]
WORK: dict[str, Callable[..., object]] = {
    "duplicate": lambda registry, **hooks: operations.duplicate(registry, "it", **hooks),
    "split": lambda registry, **hooks: operations.split(registry, "it", 0.5, **hooks),
    "split by column": lambda registry, **hooks: operations.split(registry, "it", column="lang", **hooks),
    "merge": lambda registry, **hooks: operations.merge(registry, ["it", "it"], "openai", **hooks),
    "shuffle": lambda registry, **hooks: operations.shuffle(registry, "it", **hooks),
    "sample": lambda registry, **hooks: operations.sample(registry, "it", 29_000, **hooks),
    "deduplicate": lambda registry, **hooks: operations.deduplicate(registry, "it", **hooks),
    "convert": lambda registry, **hooks: operations.convert(registry, "it", "openai", "parquet", **hooks),
    "download": lambda registry, **hooks: download.write(
        registry, "it", "parquet", registry.data_dir / "it.parquet", **hooks
    ),
}


@pytest.fixture
def big(data_dir: Path) -> Registry:
    return put(Registry(data_dir), "it", ROWS)


def state(registry: Registry) -> tuple[set[str], list[str], bytes]:
    """Visible files, names in the registry, the source."""
    files = {path.name for path in registry.data_dir.iterdir() if not path.name.startswith(".")}
    return files, registry.names(), registry.file("it").read_bytes()


@pytest.mark.parametrize("work", WORK)
def test_stopped_work_leaves_nothing(work: str, big: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.datasets.pace.TOLD_S", 0)
    before = state(big)
    asked = iter(range(10**9))
    with pytest.raises(Cancelled):
        WORK[work](big, cancelled=lambda: next(asked) >= (0 if work == "duplicate" else 100))
    assert state(big) == before
    incoming_folder = big.data_dir / ".incoming"
    assert not incoming_folder.exists() or list(incoming_folder.iterdir()) == []


@pytest.mark.parametrize("work", WORK)
def test_progress_goes_up_to_the_end(work: str, big: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.datasets.pace.TOLD_S", 0)
    told: list[tuple[int, int]] = []
    WORK[work](big, progress=lambda *step: told.append(step))
    done = [step for step, _ in told]
    assert done == sorted(done)
    assert told[-1][0] == told[-1][1] > 0
    assert len({total for _, total in told}) == 1


KILLED = """
import sys, time
from pathlib import Path
from studio.datasets import Registry, operations, pace
pace.TOLD_S = 0
def tell(done, total):
    if done > total // 2:
        print("half", flush=True)
        time.sleep(60)
registry = Registry(Path(sys.argv[1]))
getattr(operations, sys.argv[2])(registry, "it", *map(eval, sys.argv[3:]), progress=tell)
"""


@pytest.mark.parametrize("work", [("shuffle",), ("split", "0.5"), ("convert", "'openai'"), ("deduplicate",)])
def test_killed_work_leaves_the_registry_and_files_whole(
    work: tuple[str, ...], big: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(big)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(big.data_dir), *work], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert state(big) == before
    (abandoned,) = (big.data_dir / ".incoming").iterdir()
    os.utime(abandoned, (0, time.time() - 2 * scratch.FRESH_S))
    operations.sample(big, "it", 1)
    assert list((big.data_dir / ".incoming").iterdir()) == []
    assert big.names() == ["it", "it-sample"]


def test_names_made_at_once_do_not_meet(big: Registry) -> None:
    code = "import sys; from pathlib import Path; from studio.datasets import Registry, operations\n"
    code += "operations.shuffle(Registry(Path(sys.argv[1])), 'it', int(sys.argv[2]), 'new')"
    makers = [subprocess.Popen([sys.executable, "-c", code, str(big.data_dir), str(seed)]) for seed in range(4)]
    assert [maker.wait(60) for maker in makers] == [0, 0, 0, 0]
    assert sorted(big.names()) == ["it", "new", "new-2", "new-3", "new-4"]
    assert len({big.entry(name).file_name for name in big.names()}) == 5
    assert len({big.file(name).read_bytes() for name in big.names()}) == 5
