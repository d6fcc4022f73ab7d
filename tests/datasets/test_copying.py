import errno
import os
from pathlib import Path

import pytest

from studio.datasets import copying
from studio.errors import Cancelled

CONTENT = os.urandom(300_000)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("refusal", [errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS])
def test_what_the_kernel_does_not_copy_is_copied_by_hand(
    refusal: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = iter([True, False])
    in_kernel = os.copy_file_range

    def refused_halfway(reader: int, writer: int, count: int) -> int:
        if next(pieces):
            return in_kernel(reader, writer, 1000)
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "copy_file_range", refused_halfway)
    copying.copy(source, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == CONTENT


def test_other_errors_are_not_hidden(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OSError, match="No space left"):
        copying.copy(source, tmp_path / "target")


def test_a_range(source: Path, tmp_path: Path) -> None:
    with open(source, "rb") as reader, open(tmp_path / "target", "wb") as writer:
        counts = list(copying.copy_range(reader.fileno(), writer.fileno(), 100, 250_000))
    assert sum(counts) == 249_900
    assert (tmp_path / "target").read_bytes() == CONTENT[100:250_000]


def test_nothing_is_overwritten(source: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    with pytest.raises(FileExistsError):
        copying.copy(source, tmp_path / "target")
    assert (tmp_path / "target").read_text() == "mine"


def test_bytes_are_told_and_a_stop_is_heard(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PIECE_BYTES", 100_000)
    told: list[tuple[int, int]] = []
    copying.copy(source, tmp_path / "whole", lambda *step: told.append(step))
    assert told == [(100_000, 300_000), (200_000, 300_000), (300_000, 300_000)]
    with pytest.raises(Cancelled):
        copying.copy(source, tmp_path / "part", cancelled=lambda: (tmp_path / "part").stat().st_size >= 200_000)
