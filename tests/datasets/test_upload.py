import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.datasets import Registry, checks, incoming, load, preview, scratch, upload
from studio.datasets.detect import Proposal
from studio.errors import Cancelled, DatasetError, SeedbedError, UploadError

Write = Callable[[str, Any], Path]
GOOD = {"instruction": "q", "output": "a"}


def left(data_dir: Path) -> set[str]:
    """Files in the folder, empty folders and the lock aside."""
    files = {str(path.relative_to(data_dir)) for path in data_dir.rglob("*") if path.is_file()}
    return files - {".dataset_info.json.lock"}


def test_a_file_becomes_a_set(write: Write, data_dir: Path) -> None:
    accepted = upload.accept(write("x.jsonl", [GOOD] * 3), "My rows.jsonl", data_dir)
    assert (accepted.entry.name, accepted.entry.file_name) == ("My rows", "My rows.jsonl")
    assert accepted.report.rows == 3
    registry = Registry(data_dir)
    assert [number for number, _ in load(registry, "My rows")] == [1, 2, 3]
    assert preview.page(registry, "My rows").total == 3


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("../../etc/rows.jsonl", "rows.jsonl"),
        ("/etc/passwd/rows.jsonl", "rows.jsonl"),
        ("C:\\Users\\me\\rows.jsonl", "rows.jsonl"),
        (".hidden.jsonl", "hidden.jsonl"),
        ("数据 集.jsonl", "数据 集.jsonl"),
        ("a,b;c|d.JSONL", "a_b_c_d.JSONL"),
        ("dataset_info.json", "dataset_info-2.json"),
    ],
)
def test_any_name_becomes_a_safe_one(name: str, stored: str, write: Write, data_dir: Path) -> None:
    accepted = upload.accept(write("x", json.dumps([GOOD])), name, data_dir)
    assert accepted.entry.file_name == stored
    assert (data_dir / stored).is_file()
    assert Registry(data_dir).names() == [accepted.entry.name]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_name_of_300_characters(suffix: str, write: Write, data_dir: Path) -> None:
    content = json.dumps(GOOD).encode()
    source = write("x", gzip.compress(content) if suffix.endswith("gz") else content)
    accepted = upload.accept(source, "数" * 300 + suffix, data_dir)
    assert len(accepted.entry.file_name.encode()) <= 123
    assert accepted.entry.file_name.endswith(suffix)
    assert accepted.entry.name == accepted.entry.file_name.removesuffix(suffix)


def test_a_taken_name_is_numbered(write: Write, data_dir: Path) -> None:
    source = write("x.jsonl", [GOOD])
    names = [upload.accept(source, "rows.jsonl", data_dir).entry.file_name for _ in range(3)]
    assert names == ["rows.jsonl", "rows-2.jsonl", "rows-3.jsonl"]
    assert Registry(data_dir).names() == ["rows", "rows-2", "rows-3"]


def test_two_uploads_of_one_name_at_once(write: Write, data_dir: Path) -> None:
    source = write("x.jsonl", [GOOD] * 200)
    threads = [threading.Thread(target=upload.accept, args=(source, "rows.jsonl", data_dir)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = Registry(data_dir).entries()
    assert len({entry.file_name for entry in entries}) == len({entry.name for entry in entries}) == 8
    assert not any(entry.note for entry in entries)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"", "a.jsonl is empty: it has no bytes at all"),
        ("a.jsonl", b"\n \n", "no"),
        ("a.json", b"[]", "no"),
        ("a.jsonl", bytes(range(256)) * 40, "not text"),
        ("a.csv", b"PK\x03\x04" + bytes(2000), "Office document"),
        ("a.jsonl", '{"instruction": "é", "output": "a"}'.encode("latin-1"), "row 1: (line 1) is not UTF-8"),
        ("a.csv", "instruction,output\n问,答\n".encode("gbk"), "save the file as UTF-8"),
        ("a.json", b'[{"instruction": "q", "output": "a"},\n{"instruction": "q" "output": "a"}]',
         "row 2: line 2, column 21: expected ',' or the closing bracket, found '\"'"),
        ("a.jsonl", b"{bad\n{bad\n", "row 1: line 1, column 2: expected a field name"),
        ("a.jsonl", b'{"instruction": "q"}\n', "no row can be used"),
        ("a.jsonl", b'{"foo": 1}\n', "not sure what its columns mean"),
        ("a.parquet", b"PAR1PAR1", "not a parquet file"),
        ("a.exe", b"MZ", "cannot read this kind of file; use .json"),
        ("..", b"x", "cannot read this kind of file"),
        ("", b"x", "cannot read this kind of file"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_and_nothing_remains(
    name: str, content: bytes, said: str, write: Write, data_dir: Path
) -> None:
    source = write("source", content)
    mapping = Proposal(columns={"response": "output"}) if said == "no row can be used" else None
    with pytest.raises(UploadError) as raised:
        upload.accept(source, name, data_dir, mapping)
    assert said in str(raised.value)
    assert left(data_dir) == set()
    assert source.read_bytes() == content


def test_rows_that_cannot_be_read_can_be_dropped_after_the_upload(write: Write, data_dir: Path) -> None:
    content = b'{"instruction": "q", "output": "a"}\n' * 300 + b'{"instruction": \n'
    accepted = upload.accept(write("source", content), "a.jsonl", data_dir)
    registry = Registry(data_dir)
    assert accepted.report.fatal.startswith("row 301 cannot be read: line 301, column 16: expected a value")
    assert registry.file("a").read_bytes() == content
    with pytest.raises(DatasetError, match="row 301"):
        list(load(registry, "a"))
    repaired, _ = checks.repair(registry, "a", ["drop_faulty"], None)
    assert len(list(load(registry, repaired.name))) == 300


def test_the_size_limit(write: Write, data_dir: Path) -> None:
    rows = [GOOD] * 1000
    with pytest.raises(UploadError, match=r"the limit is 0\.00 GB"):
        upload.accept(write("a.jsonl", rows), "a.jsonl", data_dir, max_bytes=1000)
    packed = write("b.jsonl.gz", gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    with pytest.raises(UploadError, match="unpacks to more than"):
        upload.accept(packed, "b.jsonl.gz", data_dir, max_bytes=5000)
    assert left(data_dir) == set()


def test_what_is_no_file_is_refused(tmp_path: Path, data_dir: Path) -> None:
    for source in (tmp_path / "missing.jsonl", Path("/dev/null")):
        with pytest.raises(UploadError, match="not a file that can be read"):
            upload.accept(source, "a.jsonl", data_dir)
    with pytest.raises(UploadError, match="has no data files"):
        upload.accept(tmp_path, "a", data_dir)


def test_faulty_rows_are_accepted_with_a_report(write: Write, data_dir: Path) -> None:
    rows = [GOOD] * 30 + [{"instruction": "q", "output": ""}]
    report = upload.accept(write("a.jsonl", rows), "a.jsonl", data_dir).report
    assert (report.usable, report.left_out, report.fatal) == (30, 1, "")


def test_a_mapping_by_hand_goes_before_detection(write: Write, data_dir: Path) -> None:
    mapping = Proposal(columns={"prompt": "foo", "query": None, "response": "baz"})
    accepted = upload.accept(write("a.jsonl", [{"foo": "x", "bar": "y", "baz": "z"}]), "a.jsonl", data_dir, mapping)
    (row,) = load(Registry(data_dir), accepted.entry.name)
    assert [message.content for message in row[1].messages] == ["x", "z"]
    with pytest.raises(DatasetError, match=r"columns\.promt is unknown"):
        upload.accept(write("b.jsonl", [GOOD]), "b.jsonl", data_dir, Proposal(columns={"promt": "x"}))


def test_a_damaged_registry_refuses_the_upload_whole(write: Write, data_dir: Path) -> None:
    (data_dir / "dataset_info.json").write_text("{broken")
    with pytest.raises(DatasetError, match="damaged at line 1"):
        upload.accept(write("a.jsonl", [GOOD]), "a.jsonl", data_dir)
    assert left(data_dir) == {"dataset_info.json"}
    assert (data_dir / "dataset_info.json").read_text() == "{broken"


FULL_DISK = """
import resource, sys
from pathlib import Path
from studio.datasets import upload
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
upload.accept(Path(sys.argv[1]), "a.jsonl", Path(sys.argv[2]))
"""


def test_a_file_that_cannot_be_stored_leaves_nothing(write: Write, data_dir: Path) -> None:
    source = write("a.jsonl", [GOOD] * 10_000)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(source), str(data_dir)], capture_output=True, text=True, check=False
    )
    assert "UploadError: a.jsonl could not be stored: File too large" in done.stderr
    assert left(data_dir) == set()


def test_leftovers_of_killed_uploads_are_swept(write: Write, data_dir: Path) -> None:
    old, new = data_dir / ".incoming" / "old", data_dir / ".incoming" / "new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "part.jsonl").write_text("x")
    os.utime(old, (0, time.time() - 2 * scratch.FRESH_S))
    upload.accept(write("a.jsonl", [GOOD]), "a.jsonl", data_dir)
    assert not old.exists()
    assert new.exists()


def test_what_another_process_is_making_is_not_swept(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "FRESH_S", 0)
    with incoming.workshop(data_dir, "a") as mine, incoming.workshop(data_dir, "b") as other:
        assert mine.exists()
        assert other.exists()
    assert list((data_dir / ".incoming").iterdir()) == []


def test_our_own_file_is_not_copied(write: Write, data_dir: Path) -> None:
    source = write("a.jsonl", [GOOD])
    accepted = upload.accept(source, "a.jsonl", data_dir, owned=True)
    assert (data_dir / accepted.entry.file_name).stat().st_ino == source.stat().st_ino


def test_a_person_s_file_is_copied_and_stays_as_it_is(write: Write, data_dir: Path) -> None:
    source = write("a.jsonl", [GOOD])
    source.chmod(0o444)
    before = source.stat()
    accepted = upload.accept(source, "a.jsonl", data_dir)
    assert (data_dir / accepted.entry.file_name).stat().st_ino != before.st_ino
    assert source.stat() == before


def test_a_folder_becomes_one_set(tmp_path: Path, data_dir: Path) -> None:
    folder = tmp_path / "my rows"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jsonl").write_text(json.dumps({"instruction": str(number), "output": "a"}))
    (folder / ".hidden").write_text("x")
    accepted = upload.accept(folder, folder.name, data_dir)
    assert (accepted.entry.name, accepted.entry.file_name, accepted.report.rows) == ("my rows", "my rows", 3)
    assert sorted(path.name for path in (data_dir / "my rows").iterdir()) == ["0.jsonl", "1.jsonl", "2.jsonl"]
    assert [row.messages[0].content for _, row in load(Registry(data_dir), "my rows")] == ["0", "1", "2"]
    assert upload.accept(folder, folder.name, data_dir).entry.name == "my rows-2"


def test_of_a_large_file_only_the_head_is_checked(tmp_path: Path, data_dir: Path) -> None:
    row = json.dumps({"instruction": "q" * 1000, "output": "a" * 1000}) + "\n"
    source = tmp_path / "big.jsonl"
    source.write_text(row * 10_000 + "{broken\n")
    accepted = upload.accept(source, "big.jsonl", data_dir)
    assert not accepted.whole
    assert 0 < accepted.report.rows < 10_000
    assert accepted.report.fatal == ""
    assert checks.stored(data_dir / "big.jsonl", accepted.entry, data_dir / ".cache") is None
    source.write_text(f"{{broken {'x' * 992}\n" * 17_600)
    with pytest.raises(UploadError, match="row 1"):
        upload.accept(source, "bad.jsonl", data_dir, Proposal())
    assert not (data_dir / "bad.jsonl").exists()


def test_a_whole_check_is_kept_for_later(write: Write, data_dir: Path) -> None:
    accepted = upload.accept(write("a.jsonl", [GOOD]), "a.jsonl", data_dir)
    assert accepted.whole
    assert checks.stored(data_dir / "a.jsonl", accepted.entry, data_dir / ".cache") == accepted.report


def test_a_copy_that_is_stopped_leaves_nothing(tmp_path: Path, data_dir: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text((json.dumps(GOOD) + "\n") * 1_000_000)
    told: list[tuple[int, int]] = []
    with pytest.raises(Cancelled):
        upload.accept(
            source, "a.jsonl", data_dir, progress=lambda *step: told.append(step), cancelled=lambda: len(told) > 0
        )
    assert 0 < told[0][0] <= told[0][1] == source.stat().st_size
    assert left(data_dir) == set()
    assert list((data_dir / ".incoming").iterdir()) == []


@pytest.mark.parametrize(
    "text", [f"{json.dumps(GOOD)}\n{json.dumps(GOOD)}", f"\n[{json.dumps(GOOD)}, {json.dumps(GOOD)}]"]
)
def test_pasted_rows(text: str, data_dir: Path) -> None:
    accepted = upload.paste(text, "note 1", data_dir)
    assert accepted.entry.name == "note 1"
    assert accepted.report.usable == 2


@pytest.mark.parametrize("text", ["", "hello", "[", "\ud83d", '{"a": "\\ud83d"}'])
def test_pasted_nonsense(text: str, data_dir: Path) -> None:
    with pytest.raises(UploadError):
        upload.paste(text, "", data_dir)
    assert left(data_dir) == set()


@given(st.text(max_size=40), st.binary(max_size=80) | st.just(b'{"instruction": "q", "output": "a"}'))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_no_name_and_no_content_escapes_as_a_traceback(tmp_path_factory: Any, name: str, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    source, data_dir = folder / "source", folder / "data"
    source.write_bytes(content)
    try:
        accepted = upload.accept(source, name + ".jsonl", data_dir)
    except SeedbedError:
        return
    assert (data_dir / accepted.entry.file_name).read_bytes() == content
    assert {path.name for path in folder.iterdir()} == {"source", "data"}


MEASURED = """
import resource, sys
from pathlib import Path
from studio.datasets import upload
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
accepted = upload.accept(Path(sys.argv[1]), Path(sys.argv[1]).name, Path(sys.argv[2]))
print(accepted.entry.name, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("name", ["big.jsonl", "big.json"])
def test_200_mb_in_flat_memory(name: str, tmp_path: Path, data_dir: Path) -> None:
    row = json.dumps({"instruction": "question " * 20, "output": "answer " * 1200})
    count = 200_000_000 // (len(row) + 2) + 1
    head, between, tail = ("", "\n", "\n") if name.endswith("l") else ("[", ",\n", "]")
    with open(tmp_path / name, "w") as file:
        file.write(head + row + (between + row) * (count - 1) + tail)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / name), str(data_dir)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    registered, grown_mb = done.stdout.split()
    assert registered == "big"
    assert (data_dir / name).stat().st_size == (tmp_path / name).stat().st_size
    assert int(grown_mb) < 30
