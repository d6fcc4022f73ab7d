"""What holds for every test: offline, and threads that sleep at barriers so that busy cores do not collapse."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from studio.serving.client import Server
from tests.forks import Forks

FAKE = Path(__file__).parent / "fakes" / "openai_server.py"

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

# how long an example takes says nothing on a busy machine
hypothesis.settings.register_profile("seedbed", deadline=None, max_examples=50)
hypothesis.settings.load_profile("seedbed")


@pytest.fixture(scope="session")
def fake() -> Iterator[Server]:
    """A server that is slow, breaks off or babbles, by the name of the model."""
    with subprocess.Popen([sys.executable, str(FAKE)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        yield Server(f"http://127.0.0.1:{int(child.stdout.readline())}")
        child.kill()


@pytest.fixture(scope="session")
def commands() -> Iterator[Forks]:
    """Runs the studio's commands without the seconds of their imports; that these are few has tests of its own."""
    parts = ("data.checks", "data.derive", "data.rows", "data.sets", "data.tokens", "arena", "merge", "runs", "train")
    forks = Forks([f"studio.cli.{part}" for part in parts])
    yield forks
    forks.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB that can be filled."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group whose processes may take 64 MB together; the kernel kills them if they take more."""
    root, limit = Path("/sys/fs/cgroup"), "memory.max"
    if (root / "memory").is_dir():  # the first version of control groups
        root, limit = root / "memory", "memory.limit_in_bytes"
    group = root / f"seedbed-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(64 << 20))
    except OSError as error:
        pytest.skip(f"no control groups here: {error}")
    yield group
    group.rmdir()
