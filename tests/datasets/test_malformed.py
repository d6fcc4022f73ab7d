"""No file, whatever is in it, gets a traceback out of the studio, loses rows silently, or is changed by being read."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from malformed import BOMBS, CORPUS, GOOD_FILES, LINE, Trap, cut_files, nest

from studio.datasets import Registry, load, preview, upload
from studio.datasets.catalog import listings
from studio.datasets.checks import Report, survey
from studio.datasets.detect import Proposal, propose_for
from studio.datasets.entry import FORMATTINGS, describe
from studio.datasets.formats import convert
from studio.datasets.loading import Fault, scan
from studio.datasets.reading import READERS, rows
from studio.errors import DatasetError, RowError, SeedbedError, UploadError

ALPACA = {
    "prompt": "instruction", "response": "output", "query": "input", "history": "history", "tools": "tools",
}  # fmt: skip
MAPPINGS = {
    "alpaca": Proposal("alpaca", ALPACA, confidence=1.0, reason="by hand"),
    "openai": Proposal("openai", {"messages": "messages"}, confidence=1.0, reason="by hand"),
}
SUFFIXES = sorted(READERS) + [f"{suffix}{packed}" for suffix in (".jsonl", ".csv") for packed in (".gz", ".zst")]
MESSAGE_CHARS = 5000
PROGRAM = re.compile(r"Traceback|site-packages|<class|object at 0x|\bNoneType\b|errno", re.IGNORECASE)


def written(trap: Trap, folder: Path) -> Path:
    path = folder / trap.name
    path.write_bytes(trap.data())
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def left(data_dir: Path) -> set[str]:
    """Files in the folder; the lock and what is only a cache aside."""
    files = {str(path.relative_to(data_dir)) for path in data_dir.rglob("*") if path.is_file()}
    return {name for name in files if not name.startswith(".cache/")} - {".dataset_info.json.lock"}


def readable(error: SeedbedError) -> str:
    """What the error says, if a person can read it."""
    text = str(error)
    assert 10 < len(text) < MESSAGE_CHARS
    assert not PROGRAM.search(text), text
    return text


def checked(path: Path, formatting: str = "alpaca") -> Report | UploadError:
    """What the check of the whole file says."""
    try:
        return survey(path, MAPPINGS[formatting].entry("set", path.name))[0]
    except UploadError as error:
        return error


def said_of(result: Report | UploadError) -> str:
    return result.summary() if isinstance(result, Report) else readable(result)


# --- the corpus -------------------------------------------------------------------------------------------------


def test_the_corpus_is_large_and_its_names_differ() -> None:
    names = [trap.name for trap in (*CORPUS, *BOMBS)]
    assert len(set(names)) == len(names) >= 60


@pytest.mark.parametrize("trap", CORPUS, ids=lambda trap: trap.name)
def test_the_check_says_what_is_wrong(trap: Trap, tmp_path: Path) -> None:
    path = written(trap, tmp_path)
    before = digest(path)
    result = checked(path, trap.formatting)
    assert trap.said in said_of(result)
    if trap.usable is None:
        assert isinstance(result, UploadError) or result.fatal
    else:
        assert isinstance(result, Report), result
        assert (result.fatal, result.usable, result.rows - result.usable) == ("", trap.usable, trap.left_out)
    assert digest(path) == before


@pytest.mark.parametrize("trap", CORPUS, ids=lambda trap: trap.name)
def test_columns_are_proposed_or_refused_in_words(trap: Trap, tmp_path: Path) -> None:
    path = written(trap, tmp_path)
    try:
        assert propose_for(path).reason
    except DatasetError as error:
        readable(error)


@pytest.mark.parametrize("trap", CORPUS, ids=lambda trap: trap.name)
def test_an_upload_is_stored_whole_or_leaves_nothing(trap: Trap, tmp_path: Path, data_dir: Path) -> None:
    path = written(trap, tmp_path)
    before = digest(path)
    name = accepted(path, trap, data_dir)
    if name is None:
        assert trap.usable is None
        assert left(data_dir) == set()
    else:
        registry = Registry(data_dir)
        assert digest(registry.file(name)) == before
        assert_read_to_its_end(registry, name, trap)
    assert digest(path) == before


def accepted(path: Path, trap: Trap, data_dir: Path) -> str | None:
    """The name of the new set, or None where the file was refused."""
    try:
        return upload.accept(path, trap.name, data_dir, MAPPINGS[trap.formatting]).entry.name
    except DatasetError as error:
        readable(error)
        return None


def assert_read_to_its_end(registry: Registry, name: str, trap: Trap) -> None:
    """A page shows each row or its fault; a training gets the usable rows and is told of the others, or ends."""
    faults: list[object] = []
    try:
        page = preview.page(registry, name, limit=20)
        rows = [number for number, _ in load(registry, name, leave_out=faults.append)]
    except DatasetError as error:
        readable(error)
        assert trap.usable is None
        return
    assert all(bool(row.turns) != bool(row.error) for row in page.rows)
    assert (len(rows), len(faults)) == (trap.usable or 0, trap.left_out) or trap.usable is None


@pytest.mark.parametrize(("name", "data"), [pytest.param(*cut, id=cut[0]) for cut in cut_files()])
def test_a_file_cut_off_anywhere(name: str, data: bytes, tmp_path: Path, data_dir: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    result = checked(path)
    if isinstance(result, Report) and not result.fatal:
        assert name == "cut at -1.jsonl" or name.endswith(".csv")  # what is left is a whole file by chance
        return
    assert said_of(result)
    try:
        accepted = upload.accept(path, name, data_dir, MAPPINGS["alpaca"])
    except DatasetError:
        assert left(data_dir) == set()
        return
    assert accepted.report.fatal  # it can be repaired, and no training takes it as it is
    with pytest.raises(DatasetError):
        list(load(Registry(data_dir), accepted.entry.name))


# --- bombs: the guard must see them before the memory does ------------------------------------------------------

MEASURED = """
import re, sys
from pathlib import Path
import pyarrow.parquet
from studio.datasets import upload
from studio.datasets.detect import Proposal
from studio.errors import DatasetError

def peak_kb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before = peak_kb()
try:
    upload.accept(Path(sys.argv[1]), Path(sys.argv[1]).name, Path(sys.argv[2]), Proposal(), max_bytes=20_000_000)
except DatasetError as error:
    print(error, file=sys.stderr)
print((peak_kb() - before) // 1024)
"""
GROWN_MB = 150
DECODED_MB = 600  # two batches of 256 rows of parquet, each with a text of 1 MB


@pytest.mark.parametrize("trap", BOMBS, ids=lambda trap: trap.name)
def test_a_bomb_is_refused_in_bounded_memory(trap: Trap, tmp_path: Path, data_dir: Path) -> None:
    path = written(trap, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(path), str(data_dir)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert trap.said in done.stderr
    assert "Traceback" not in done.stderr
    assert int(done.stdout) < GROWN_MB + (DECODED_MB if "dictionary" in trap.name else 0)
    assert left(data_dir) == set()


# --- names ------------------------------------------------------------------------------------------------------

NAMES = [
    "../../etc/passwd", "/etc/passwd", "a/b/c", "C:\\a\\b", "\\\\host\\share", "..\\..\\x", "~root", "$HOME",
    "with  spaces", " around ", "a ", "a.", ".hidden", "..hidden", "-rf", "`id`", "a;b,c", "a|b", "a:b", "a*b?", "a<b>",
    'a"b', "a'b", "a\nb", "a\tb", "a\0b", "a\x1b[31mb", "%2e%2e%2f", "CON", "NUL", "aux", "COM1", "dataset_info",
    "中文 文件", "😀", "👩‍👩‍👧‍👦", "\u202egnp", "\ufeffa", "\ud800", os.fsdecode(b"\xff\xfe"),
    "x" * 300, "é" * 300, "中" * 300,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name_is_stored_inside_the_folder(name: str, tmp_path: Path, data_dir: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(LINE)
    entry = upload.accept(source, f"{name}.jsonl", data_dir, MAPPINGS["alpaca"]).entry
    stored = data_dir / entry.file_name
    assert stored.parent == data_dir
    assert len(stored.name.encode()) < 255
    assert stored.name.isprintable()
    assert not entry.name.startswith((".", "-"))
    registry = Registry(data_dir)
    assert [number for number, _ in load(registry, entry.name)] == [1]
    assert registry.restore(registry.remove(entry.name)).name == entry.name
    assert {path.name for path in tmp_path.iterdir()} == {"source", "data"}


# --- places that hold no file -----------------------------------------------------------------------------------


def make_loop(place: Path) -> None:
    place.symlink_to(place.with_name("other.jsonl"))
    place.with_name("other.jsonl").symlink_to(place)


def make_socket(place: Path) -> None:
    os.chdir(place.parent)  # a socket's whole path may have 108 bytes
    socket.socket(socket.AF_UNIX).bind(place.name)


def make_unreadable(place: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    place.write_bytes(LINE)
    place.chmod(0)


PLACES: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a loop of links": make_loop,
    "a link to nowhere": lambda place: place.symlink_to("nowhere.jsonl"),
    "a link to a device": lambda place: place.symlink_to("/dev/zero"),
    "a pipe": os.mkfifo,
    "a socket": make_socket,
    "an unreadable file": make_unreadable,
    "nothing": lambda place: None,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", PLACES)
def test_what_is_no_file_is_refused_at_once(
    kind: str, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "rows.jsonl"
    PLACES[kind](place)
    with pytest.raises(UploadError) as refusal:
        upload.accept(place, "rows.jsonl", data_dir, MAPPINGS["alpaca"])
    assert "rows.jsonl" in readable(refusal.value)
    with pytest.raises(DatasetError) as refusal:
        propose_for(place)
    assert "rows.jsonl" in readable(refusal.value)
    assert "rows.jsonl" in said_of(checked(place))
    assert left(data_dir) == set()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", PLACES)
def test_an_entry_that_leads_nowhere_is_listed_with_a_note(
    kind: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data_dir)
    PLACES[kind](data_dir / "rows.jsonl")
    (data_dir / "dataset_info.json").write_text(
        '{"bad": {"file_name": "rows.jsonl"}, "out": {"file_name": "../x.json"}}'
    )
    registry = Registry(data_dir)
    bad, out = listings(registry)
    assert bad.note
    assert out.note
    with pytest.raises(DatasetError):
        preview.page(registry, "bad")


# --- anything at all --------------------------------------------------------------------------------------------

NAMES_OF_FIELDS = st.text(max_size=8) | st.sampled_from(["instruction", "output", "messages", "history", "tools"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
RECORDS = st.lists(st.dictionaries(NAMES_OF_FIELDS, VALUES, min_size=1, max_size=5), min_size=1, max_size=6)
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12)
HEADERS = st.lists(CELLS.map(str.strip).filter(bool), min_size=2, max_size=4, unique=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files of the examples, one after the other."""
    return tmp_path_factory.mktemp("any")


@given(records=RECORDS)
def test_json_is_read_as_it_was_written(records: list[dict[str, object]], place: Path) -> None:
    (place / "rows.json").write_text(json.dumps(records))
    (place / "rows.jsonl").write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records))
    for name in ("rows.json", "rows.jsonl"):
        assert [record for _, record in rows(place / name)] == records


@given(header=HEADERS, data=st.data())
def test_tables_are_read_as_they_were_written(header: list[str], data: st.DataObject, place: Path) -> None:
    cells = data.draw(st.lists(st.lists(CELLS, min_size=len(header), max_size=len(header)), max_size=5))
    with open(place / "rows.tsv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL).writerows([header, *cells])
    read = [record for _, record in rows(place / "rows.tsv")]
    assert read == [dict(zip(header, row, strict=True)) for row in cells]


@given(data=st.binary(max_size=300), suffix=st.sampled_from(SUFFIXES))
def test_any_bytes_are_read_or_refused_in_words(data: bytes, suffix: str, place: Path) -> None:
    path = place / f"bytes{suffix}"
    path.write_bytes(data)
    assert_counted(path)


@given(kind=st.sampled_from(sorted(GOOD_FILES)), data=st.data())
def test_a_good_file_with_a_few_wrong_bytes(kind: str, data: st.DataObject, place: Path) -> None:
    damaged = bytearray(GOOD_FILES[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path = place / f"damaged.{kind}"
    path.write_bytes(damaged)
    assert_counted(path)


def assert_counted(path: Path) -> None:
    """The check refuses the file in words, or accounts for each of its rows."""
    before = path.read_bytes()
    result = checked(path)
    if isinstance(result, Report):
        seen = list(scan(path, MAPPINGS["alpaca"].entry("set", path.name)))
        usable = [each for each in seen if not isinstance(each.value, Fault)]
        assert (result.rows, result.usable) == (len(seen), len(usable))
        assert result.fatal or usable
    assert said_of(result)
    assert path.read_bytes() == before


@given(
    record=st.dictionaries(NAMES_OF_FIELDS, VALUES, max_size=5),
    formatting=st.sampled_from(FORMATTINGS),
    ranking=st.booleans(),
)
def test_any_record_is_a_row_or_a_fault(record: dict[str, object], formatting: str, ranking: bool) -> None:
    entry = describe("set", "rows.jsonl", formatting, {"history": "history", "tools": "tools"}, ranking=ranking)
    try:
        said = f"row 7: {convert(entry, 7, record)}"
    except RowError as error:
        said = readable(error)
    assert said.startswith("row 7: ")


@given(
    text=st.text(max_size=120) | VALUES.map(json.dumps) | st.dictionaries(st.text(max_size=6), VALUES).map(json.dumps)
)
def test_any_registry_is_listed_or_called_damaged(text: str, place: Path) -> None:
    registry = Registry(place)
    registry.path.write_text(text, encoding="utf-8", errors="surrogatepass")
    before = registry.path.read_bytes()
    try:
        notes = [line.note for line in listings(registry)]
    except DatasetError as error:
        notes = [readable(error)]
    assert all(notes)
    assert registry.path.read_bytes() == before


def test_a_registry_that_is_nested_too_deeply(data_dir: Path) -> None:
    registry = Registry(data_dir)
    registry.path.write_text('{"a": ' + nest("[", "]") + "}")
    with pytest.raises(DatasetError, match="nested too deeply"):
        registry.entries()
