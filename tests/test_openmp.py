"""Which OpenMP computes in a worker."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from studio import openmp

SPIN = {"KMP_BLOCKTIME": "1", "GOMP_SPINCOUNT": "3000"}
ASK = """
import ctypes, json
import torch
(torch.rand(512, 512) @ torch.rand(512, 512)).sum()
maps = open("/proc/self/maps").read()
runtime = ctypes.CDLL(None)
figures = {"spin_ms": runtime.kmp_get_blocktime(), "threads": runtime.omp_get_max_threads()}
print(json.dumps({"is_intel": "libiomp5" in maps, **figures}))
"""
FORK = """
import os, torch
(torch.rand(512, 512) @ torch.rand(512, 512)).sum()
if os.fork() == 0:
    (torch.rand(512, 512) @ torch.rand(512, 512)).sum()
    print(len(os.sched_getaffinity(0)), flush=True)
    os._exit(0)
os.wait()
"""
needs_intel = pytest.mark.skipif(
    "LD_PRELOAD" not in openmp.environment({}),
    reason="Intel's OpenMP comes with vLLM for x86 CPUs, and needs a path without spaces and a /dev/shm",
)


@pytest.fixture
def intel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    library = tmp_path / "lib" / "libiomp5.so"
    library.parent.mkdir()
    library.touch()
    monkeypatch.setattr(openmp, "INTEL", library)
    return library


def test_intels_runtime_comes_first_and_spins_shortly(intel: Path) -> None:
    assert openmp.environment({}) == {**SPIN, "LD_PRELOAD": str(intel), "KMP_AFFINITY": "none"}


@pytest.mark.parametrize("given", ["/lib/mine.so:/lib/other.so", "/lib/mine.so /lib/other.so"])
def test_what_is_preloaded_already_stays(intel: Path, given: str) -> None:
    assert openmp.environment({"LD_PRELOAD": given})["LD_PRELOAD"] == f"{intel}:/lib/mine.so:/lib/other.so"


def test_a_worker_of_a_worker_has_it_already(intel: Path) -> None:
    inherited = openmp.environment({"LD_PRELOAD": "/lib/mine.so"})
    assert openmp.environment(inherited) == {}


@pytest.mark.parametrize("name", openmp.CHOSEN)
def test_a_wait_that_someone_has_set_stays(intel: Path, name: str) -> None:
    assert openmp.environment({name: "7"}) == {"LD_PRELOAD": str(intel), "KMP_AFFINITY": "none"}


def test_without_it_gnus_spins_shortly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "INTEL", tmp_path / "libiomp5.so")
    assert openmp.environment({}) == SPIN


@pytest.mark.parametrize("folder", ["full", "gone"])
def test_where_it_could_write_nothing_down_gnus_is_left(
    intel: Path, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(openmp, "REGISTERED", tmp_path / folder / "lib_")
    monkeypatch.setattr(openmp, "ROOM_BYTES", usage.total)
    if folder == "full":
        (tmp_path / folder).mkdir()
    assert openmp.environment({}) == SPIN


def test_a_folder_that_the_loader_cannot_be_told_of_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "My Projects" / "libiomp5.so"
    library.parent.mkdir()
    library.touch()
    monkeypatch.setattr(openmp, "INTEL", library)
    assert openmp.environment({}) == SPIN


@needs_intel
def test_torch_computes_with_it() -> None:
    bare = {name: value for name, value in os.environ.items() if name not in (*openmp.CHOSEN, "LD_PRELOAD")}
    environment = {**bare, **openmp.environment(bare), "OMP_NUM_THREADS": "2"}
    answer = subprocess.run([sys.executable, "-c", ASK], env=environment, check=True, capture_output=True, text=True)
    assert json.loads(answer.stdout) == {"is_intel": True, "spin_ms": 1, "threads": 2}
    assert answer.stderr == ""


@needs_intel
def test_a_forked_child_has_all_cores() -> None:
    environment = {**os.environ, **openmp.environment(os.environ)}
    answer = subprocess.run(
        [sys.executable, "-c", FORK], env=environment, check=True, capture_output=True, text=True, timeout=60
    )
    assert json.loads(answer.stdout) == len(os.sched_getaffinity(0))


@needs_intel
def test_what_a_killed_process_wrote_down_is_swept_away() -> None:
    environment = {**os.environ, **openmp.environment(os.environ)}
    words = [sys.executable, "-c", "import torch, time\nprint(torch.rand(512, 512).sum(), flush=True)\ntime.sleep(60)"]
    living, killed = (subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2))
    try:
        kept, left = (Path(f"{openmp.REGISTERED}{each.pid}_{os.getuid()}") for each in (living, killed))
        for each in (living, killed):
            assert each.stdout
            assert each.stdout.readline()
        assert kept.exists()
        assert left.exists()
        killed.kill()
        killed.wait()
        openmp.sweep()  # where the nanny of another test has not been before us
        assert kept.exists()
        assert not left.exists()
    finally:
        living.kill()
        living.wait()
