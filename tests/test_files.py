"""Files under concurrent readers, full disks and names that lead elsewhere."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio import files
from studio.errors import PathError
from studio.settings import ROOT


def fill(folder: Path, leave_bytes: int = 0) -> None:
    with open(folder / "ballast", "wb", buffering=0) as file:
        written = file.write(bytes(2**20))
        file.truncate(written - leave_bytes)


# replacing


READER = """
import sys
from pathlib import Path
from studio.files import read_json
path, seen = Path(sys.argv[1]), set()
print("ready", flush=True)
while True:
    value = read_json(path)
    assert value["text"] == "x" * value["length"], "torn"
    seen.add(value["length"])
    if value["length"] == 0:
        break
print(len(seen))
"""


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "status.json"
    files.write_json(path, {"length": 1, "text": "x"})
    words = [sys.executable, "-c", READER, str(path)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "ready\n"
        for number in range(400):
            length = (number * 7919) % 20_000 + 1
            files.write_json(path, {"length": length, "text": "x" * length})
        files.write_json(path, {"length": 0, "text": ""})
        out, err = reader.communicate(timeout=20)
    assert reader.returncode == 0, err
    assert int(out) > 20
    assert [entry.name for entry in tmp_path.iterdir()] == ["status.json"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(small_disk):
    path = small_disk / "status.json"
    files.write_json(path, {"step": 1})
    fill(small_disk, leave_bytes=4096)
    with pytest.raises(OSError, match="No space"):
        files.write_text(path, "x" * 10_000)
    assert files.read_json(path) == {"step": 1}
    assert sorted(entry.name for entry in small_disk.iterdir()) == ["ballast", "status.json"]


def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path):
    files.write_json(tmp_path / "a", 1)
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a", {"b": object()})
    with pytest.raises(UnicodeEncodeError):
        files.write_text(tmp_path / "a", "\ud800")
    assert files.read_json(tmp_path / "a") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_secret_is_never_readable_by_others(tmp_path):
    before = os.umask(0)
    try:
        files.write_json(tmp_path / "server.json", {}, mode=0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "server.json").stat().st_mode & 0o777 == 0o600


def test_chinese_is_written_as_it_is(tmp_path):
    files.write_json(tmp_path / "a", {"名": "苗"})
    assert "苗" in (tmp_path / "a").read_text("utf-8")


# reading


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"nope"])
def test_a_damaged_file_is_named(tmp_path, data):
    (tmp_path / "bad.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"bad\.json is not valid JSON"):
        files.read_json(tmp_path / "bad.json")
    assert files.read_record(tmp_path / "bad.json") == {}


def test_what_is_not_there_is_none(tmp_path):
    assert files.read_json(tmp_path / "none") is None
    assert files.read_record(tmp_path / "none") == {}
    assert files.read_record(tmp_path) == {}


@pytest.mark.parametrize("text", ["[1]", "7", "null", '"a"'])
def test_a_record_is_an_object(tmp_path, text):
    (tmp_path / "a").write_text(text)
    assert files.read_record(tmp_path / "a") == {}


# appending


def test_what_is_not_finite_becomes_null_and_is_named(tmp_path):
    files.append_line(tmp_path / "a", {"loss": math.nan, "rate": 1.5, "norm": -math.inf, "list": [math.inf, 1]})
    line = (tmp_path / "a").read_text()
    assert json.loads(line) == {
        "loss": None, "rate": 1.5, "norm": None, "list": [None, 1], "not_finite": ["loss", "norm"],
    }  # fmt: skip


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@given(JSON)
def test_finite_values_are_always_valid_json(value):
    json.dumps(files.finite(value), allow_nan=False)


def test_a_line_that_does_not_fit_is_not_begun(small_disk):
    """The kernel takes what fits; the next line would stick to that half."""
    path = small_disk / "metrics.jsonl"
    files.append_line(path, {"step": 1})
    fill(small_disk)
    with pytest.raises(OSError, match="No space"):
        files.append_line(path, {"step": 2, "text": "x" * 10_000})
    (small_disk / "ballast").unlink()
    files.append_line(path, {"step": 3})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3]


APPENDER = """
import sys
from pathlib import Path
from studio.files import append_line
for number in range(300):
    append_line(Path(sys.argv[1]), {"number": number, "text": "x" * (number * 37 % 5000)})
"""


def test_a_reader_by_cursor_gets_every_line_once_while_it_is_written(tmp_path):
    path, cursor, seen = tmp_path / "metrics.jsonl", 0, []
    with subprocess.Popen([sys.executable, "-c", APPENDER, str(path)], cwd=ROOT) as writer:
        while writer.poll() is None or len(seen) < 300:
            data, cursor = files.read_since(path, cursor)
            seen += [json.loads(line)["number"] for line in data.splitlines()]
    assert seen == list(range(300))


# reading by cursor


def test_an_unfinished_last_line_waits(tmp_path):
    path = tmp_path / "a"
    assert files.read_since(path, 0) == (b"", 0)
    path.write_bytes(b"one\ntw")
    assert files.read_since(path, 0) == (b"one\n", 4)
    assert files.read_since(path, 4) == (b"", 4)
    path.write_bytes(b"one\ntwo\n")
    assert files.read_since(path, 4) == (b"two\n", 8)


@pytest.mark.parametrize("cursor", [9, 10**12, -1])
def test_a_cursor_beyond_the_end_starts_over(tmp_path, cursor):
    (tmp_path / "a").write_bytes(b"new\n")
    assert files.read_since(tmp_path / "a", cursor) == (b"new\n", 4)


def test_a_limit_ends_at_a_line(tmp_path):
    (tmp_path / "a").write_bytes(b"one\ntwo\nthree\n")
    assert files.read_since(tmp_path / "a", 0, limit=9) == (b"one\ntwo\n", 8)
    assert files.read_since(tmp_path / "a", 0, limit=2) == (b"", 0)


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line)), st.integers(1, 60))
def test_any_sequence_of_reads_gives_the_whole(tmp_path_factory, lines, limit):
    path = tmp_path_factory.mktemp("read") / "a"
    whole = b"".join(line + b"\n" for line in lines)
    path.write_bytes(whole)
    found, cursor = b"", 0
    while True:
        data, cursor = files.read_since(path, cursor, limit=max(limit, 21))
        if not data:
            break
        found += data
    assert found == whole


def test_tail(tmp_path):
    path = tmp_path / "log.txt"
    assert files.tail(path, 10) == ""
    path.write_text("first line\nsecond\nthird\n")
    assert files.tail(path, 13) == "third\n"
    assert files.tail(path, 100) == "first line\nsecond\nthird\n"
    path.write_bytes(b"\xff\xfe" + "好".encode()[1:] * 3)
    assert files.tail(path, 100)


# names

NASTY = [
    "", " ", ".", "..", "/", "//", "../x", "a/../../x", "/etc/passwd", "a\0b", "\0", "x" * 300, "\ud800", "a/..",
    "./.", "x/" * 3000, "link", "link/x", "loop", "loop/x", "..\\x/../..",
]  # fmt: skip
HARMLESS = [
    "a",
    "模型.json",
    "..a",
    "a..",
    "...",
    "C:\\temp\\x",
    "..\\..\\x",
    "-rf",
    "~",
    "$HOME",
    "a b",
    "a/b",
    "a/../b",
    "%2e%2e",
]


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    return root


@pytest.mark.parametrize("name", NASTY, ids=lambda name: ascii(name)[:20])
def test_no_name_leads_outside(root, name):
    with pytest.raises(PathError, match="use a plain file name"):
        files.inside(root, name)


@pytest.mark.parametrize("name", HARMLESS)
def test_a_plain_name_is_inside(root, name):
    assert files.inside(root, name).is_relative_to(root)


@given(st.text() | st.lists(st.sampled_from(["..", ".", "", "a", "link", "loop", "~", "\\", " "])).map("/".join))
def test_inside_is_inside_or_an_error(tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp() / "hypothesis-root"
    root.mkdir(exist_ok=True)
    try:
        found = files.inside(root, name)
    except PathError:
        return
    assert found != root
    assert os.path.realpath(found).startswith(f"{os.path.realpath(root)}/")


@pytest.mark.parametrize(
    ("typed", "safe"),
    [
        ("data.json", "data.json"),
        ("../../etc/passwd", "passwd"),
        ("/absolute/数据 集.jsonl", "数据 集.jsonl"),
        ("C:\\Users\\me\\rows.csv", "rows.csv"),
        (".hidden", "hidden"),
        ("-.a.b", "a.b"),
        ("--rf", "rf"),
        ("a\0b\n.json", "a_b_.json"),
        ("; rm -rf ~ #.json", "_ rm -rf _ _.json"),
        ("archive.tar.gz", "archive.tar.gz"),
        ("...", "file"),
        ("", "file"),
        ("dir/", "dir"),
        ("e\u0301.txt", "é.txt"),
    ],
)
def test_safe_name(typed, safe):
    assert files.safe_name(typed) == safe


@given(st.text() | st.text(alphabet=". -/\\a好\0\n"))
def test_a_safe_name_is_safe(typed):
    name = files.safe_name(typed)
    assert 0 < len(name.encode()) <= files.NAME_MAX_BYTES
    assert not name.startswith((".", "-", " "))
    assert not name.endswith((".", " "))
    assert not set(name) & set("/\\\0\n;&|$`'\"<>*?")
    assert files.safe_name(name) == name


def test_a_long_name_keeps_its_extension():
    assert files.safe_name("长" * 300 + ".jsonl").endswith("长.jsonl")
    assert files.safe_name("x" * 300 + "." + "y" * 300) == "x" * 103 + "." + "y" * 16


def test_folder_bytes_counts_files_and_not_what_links_point_to(tmp_path):
    folder = tmp_path / "a"
    (folder / "deep").mkdir(parents=True)
    (folder / "one").write_bytes(b"x" * 100)
    (folder / "deep" / "two").write_bytes(b"x" * 11)
    (tmp_path / "big").write_bytes(b"x" * 9999)
    (folder / "link").symlink_to(tmp_path / "big")
    assert 111 <= files.folder_bytes(folder) < 111 + 500
    assert files.folder_bytes(tmp_path / "none") == 0
