import io
import os
import random
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from studio.exports import archive
from studio.exports.archive import Archive, Changed

GIB = 1 << 30


class Reader(io.RawIOBase):
    """An archive as a file that can be read from anywhere, as a program over HTTP does."""

    def __init__(self, packed: Archive) -> None:
        self.packed, self.at = packed, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = offset + (0, self.at, self.packed.size_bytes)[whence]
        return self.at

    def readinto(self, buffer: memoryview) -> int:
        data = b"".join(archive.read(self.packed, self.at, min(self.at + len(buffer), self.packed.size_bytes)))
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "merged 模型"
    (place / "deep").mkdir(parents=True)
    (place / "model.safetensors").write_bytes(random.Random(0).randbytes(2_500_000))
    (place / "config.json").write_text("{}")
    (place / "deep" / "空.txt").write_text("")
    return place


def whole(packed: Archive) -> bytes:
    return b"".join(archive.read(packed))


def test_it_is_a_zip_of_the_size_that_was_told(folder):
    packed = archive.archive(folder, "merged 模型")
    data = whole(packed)
    assert len(data) == packed.size_bytes
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None
        names = {f"merged 模型/{name}" for name in ("model.safetensors", "config.json", "deep/空.txt")}
        assert set(opened.namelist()) == names
        assert opened.read("merged 模型/model.safetensors") == (folder / "model.safetensors").read_bytes()
        assert {each.compress_type for each in opened.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.skipif(not shutil.which("unzip"), reason="no unzip on this machine")
def test_unzip_agrees(folder, tmp_path):
    (tmp_path / "a.zip").write_bytes(whole(archive.archive(folder, "x")))
    tested = subprocess.run(["unzip", "-t", str(tmp_path / "a.zip")], capture_output=True, text=True)
    assert "No errors detected" in tested.stdout, tested.stdout + tested.stderr


def test_it_can_be_read_from_any_byte_on(folder):
    packed = archive.archive(folder, "x")
    data = whole(packed)
    source = random.Random(1)
    cuts = [
        (0, 1),
        (len(data) - 1, len(data)),
        (0, 0),
        *(sorted(source.sample(range(len(data)), 2)) for _ in range(50)),
    ]
    for start, stop in cuts:
        assert b"".join(archive.read(packed, start, stop)) == data[start:stop]


def test_files_and_places_beyond_four_gigabytes(tmp_path, monkeypatch):
    folder = tmp_path / "large"
    folder.mkdir()
    with open(folder / "a.bin", "wb") as file:
        file.truncate(4 * GIB + 5)
    (folder / "b.txt").write_text("behind it")
    packed = archive.archive(folder, "large")
    hole = packed.entries[0]
    # what reading four gigabytes would tell, which is nothing that is looked at here
    monkeypatch.setitem(archive._checksums, (hole.path, hole.size_bytes, hole.mtime_ns), 0)
    with zipfile.ZipFile(io.BufferedReader(Reader(packed))) as opened:
        assert opened.getinfo("large/a.bin").file_size == 4 * GIB + 5
        assert opened.getinfo("large/b.txt").header_offset > 4 * GIB
        assert opened.read("large/b.txt") == b"behind it"
        with opened.open("large/a.bin") as inner:
            assert inner.read(10) == bytes(10)


def test_a_name_that_is_no_text_is_kept_as_its_bytes(tmp_path):
    (tmp_path / os.fsdecode(b"old-\xff.bin")).write_bytes(b"1")
    [entry] = archive.archive(tmp_path, "模型").entries
    assert entry.name == "模型/".encode() + b"old-\xff.bin"
    assert b"".join(archive.read(Archive((entry,))))


def test_an_empty_folder_is_an_empty_zip(tmp_path):
    with zipfile.ZipFile(io.BytesIO(whole(archive.archive(tmp_path, "x")))) as opened:
        assert opened.namelist() == []


def test_links_stay_behind(folder, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret")
    assert b"link.txt" not in whole(archive.archive(folder, "x"))


def test_a_file_that_changes_meanwhile_breaks_the_download_off(folder):
    packed = archive.archive(folder, "x")
    (folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(Changed):
        whole(packed)


def test_the_tag_follows_the_content(folder):
    before = archive.archive(folder, "x").tag
    assert archive.archive(folder, "x").tag == before
    (folder / "config.json").write_text("{ }")
    assert archive.archive(folder, "x").tag != before
