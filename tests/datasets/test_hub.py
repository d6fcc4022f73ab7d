import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.datasets import Registry, hub, load
from studio.datasets.formats import Message
from studio.errors import Cancelled, DatasetError

FAKE = Path(__file__).parents[1] / "fakes" / "hub.py"
ROWS = [{"instruction": f"q{number}", "output": f"a{number}"} for number in range(20)]
CARD = """---
configs:
- config_name: en
  data_files:
  - split: train
    path: english/train-*.jsonl
  - split: test
    path: [english/last.jsonl]
- config_name: de
  data_dir: german
- config_name: all
  data_files: "**/*.jsonl"
---
# Rows
"""


def lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def files(root: Path, contents: dict[str, str]) -> None:
    for path, text in contents.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the fake hub has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = tmp_path_factory.mktemp("hub")
    files(root, {
        "some/single/rows.jsonl": lines(ROWS),
        "some/single/README.md": "# no head\n",
        "some/single/LICENSE.txt": "free",
        "some/splits/data/train-00000-of-00002.jsonl": lines(ROWS[:10]),
        "some/splits/data/train-00001-of-00002.jsonl": lines(ROWS[10:15]),
        "some/splits/data/validation.jsonl": lines(ROWS[15:]),
        "some/splits/data/validation.csv": "instruction,output\nq,a\n",
        "some/splits/dataset_infos.json": "{}",
        "some/card/README.md": CARD,
        "some/card/english/train-0.jsonl": lines(ROWS[:3]),
        "some/card/english/train-1.jsonl": lines(ROWS[3:5]),
        "some/card/english/last.jsonl": lines(ROWS[5:]),
        "some/card/german/dev.jsonl": lines(ROWS[:2]),
        "some/card/german/rest/train.jsonl": lines(ROWS[2:]),
        "some/script/script.py": "import os",
        "some/nothing/picture.png": "",
        "some/private/rows.jsonl": lines(ROWS),
        "some/gated/rows.jsonl": lines(ROWS),
        "some/breaking/rows.jsonl": lines(ROWS * 1000),
        "some/endless/rows.jsonl": lines(ROWS * 1000),
        "some/lying/rows.jsonl": lines(ROWS),
        "some/no-idea/rows.jsonl": lines([{"foo": "1", "bar": "2", "baz": "3"}]),
        "some/many/README.md": "x",
    })  # fmt: skip
    files(root, {f"some/many/part-{number:03d}.jsonl": lines([ROWS[number % 20]]) for number in range(250)})
    copy = root / "some/script@parquet/default/train"
    copy.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(ROWS), copy / "0000.parquet")
    return root


@pytest.fixture(scope="module")
def address(served: Path) -> Iterator[str]:
    process = subprocess.Popen([sys.executable, str(FAKE), str(served)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline())
    threading.Thread(target=process.stdout.read, daemon=True).start()
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture(autouse=True)
def online(address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", address)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("MODELSCOPE_API_TOKEN", raising=False)


KINDS = pytest.mark.parametrize("kind", ["hf", "ms"])


def asked(registry: Registry, name: str) -> list[str]:
    """The questions of a set, in order."""
    return [row.messages[0].content for _, row in load(registry, name)]  # type: ignore[union-attr]


def left(data_dir: Path) -> set[str]:
    return {path.name for path in data_dir.iterdir()} - {".incoming", ".dataset_info.json.lock"}


@KINDS
def test_one_file_becomes_a_file(kind: str, data_dir: Path) -> None:
    told: list[tuple[int, int]] = []
    registry = Registry(data_dir)
    entry = hub.download(registry, kind, "some/single", progress=lambda *step: told.append(step))
    assert (entry.name, entry.file_name) == ("single", "single.jsonl")
    assert entry.origin == {"hub": kind, "id": "some/single", "subset": "default", "split": "train"}
    assert (data_dir / "single.jsonl").read_text() == lines(ROWS)
    assert told[-1] == (len(lines(ROWS)), len(lines(ROWS)))
    assert [row.messages[1] for _, row in load(registry, "single")][3] == Message("assistant", "a3")


@KINDS
def test_several_files_become_a_folder_in_their_order(kind: str, data_dir: Path) -> None:
    registry = Registry(data_dir)
    entry = hub.download(registry, kind, "some/splits", output_name="mine")
    assert (entry.name, entry.file_name) == ("mine", "mine")
    assert asked(registry, "mine") == [f"q{number}" for number in range(15)]


@KINDS
def test_splits_are_told_from_names(kind: str) -> None:
    found = {(part.subset, part.split): part for part in hub.parts(kind, "some/splits")}
    assert {key: [file.path for file in part.files] for key, part in found.items()} == {
        ("default", "train"): ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"],
        ("default", "validation"): ["data/validation.jsonl"],
    }
    assert found["default", "validation"].bytes == len(lines(ROWS[15:]))


@KINDS
def test_subsets_and_splits_are_told_by_the_card(kind: str, data_dir: Path) -> None:
    found = {f"{part.subset} {part.split}": len(part.files) for part in hub.parts(kind, "some/card")}
    assert found == {"en train": 2, "en test": 1, "de validation": 1, "de train": 1, "all train": 5}
    registry = Registry(data_dir)
    assert hub.download(registry, kind, "some/card", "de", "validation").name == "card-de-validation"
    assert asked(registry, "card-de-validation") == ["q0", "q1"]
    with pytest.raises(DatasetError, match="these subsets: en, de, all"):
        hub.download(registry, kind, "some/card")
    with pytest.raises(DatasetError, match="no split 'dev'; it has train, test"):
        hub.download(registry, kind, "some/card", "en", "dev")


@KINDS
def test_a_folder_of_the_repository(kind: str) -> None:
    found = hub.parts(kind, "some/card", folder="english")
    assert [(part.split, len(part.files)) for part in found] == [("train", 2)]


def test_a_set_with_a_script_is_read_from_the_hub_s_own_copy(data_dir: Path) -> None:
    registry = Registry(data_dir)
    entry = hub.download(registry, "hf", "some/script")
    assert entry.file_name == "script.parquet"
    assert len(asked(registry, "script")) == 20
    with pytest.raises(DatasetError, match="no data file that can be read here"):
        hub.parts("ms", "some/script")


@KINDS
def test_long_lists_come_in_pages(kind: str) -> None:
    (part,) = hub.parts(kind, "some/many")
    assert len(part.files) == 250


@KINDS
@pytest.mark.parametrize(
    ("hub_id", "said"),
    [
        ("some/absent", "no dataset 'some/absent' on"),
        ("some/private", "or it is private"),
        ("some/gated", "ask there for access"),
        ("some/nothing", "no data file that can be read here"),
        ("../../etc", "is no name of a dataset"),
        ("a/b/c", "is no name of a dataset"),
        ("https://x/y", "is no name of a dataset"),
        ("", "is no name of a dataset"),
    ],
)
def test_what_cannot_be_had_is_explained(kind: str, hub_id: str, said: str, data_dir: Path) -> None:
    with pytest.raises(DatasetError, match=said):
        hub.download(Registry(data_dir), kind, hub_id)
    assert left(data_dir) == set()


def test_an_unknown_hub() -> None:
    with pytest.raises(DatasetError, match="there are hf"):
        hub.parts("xx", "some/single")


@KINDS
def test_the_token_of_the_environment_opens_what_is_private(
    kind: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv({"hf": "HF_TOKEN", "ms": "MODELSCOPE_API_TOKEN"}[kind], "open-sesame")
    hub.download(Registry(data_dir), kind, "some/private")
    assert "open-sesame" not in (data_dir / "dataset_info.json").read_text()


def test_a_token_in_the_home_folder_is_not_used(data_dir: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".cache/huggingface").mkdir(parents=True)
    (home / ".cache/huggingface/token").write_text("open-sesame")
    with pytest.raises(DatasetError, match="or it is private"):
        hub.download(Registry(data_dir), "hf", "some/private")


@KINDS
def test_a_broken_connection_is_taken_up_again(kind: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.datasets.hub.stream.PAUSE_S", 0)
    hub.download(Registry(data_dir), kind, "some/breaking")
    assert (data_dir / "breaking.jsonl").read_text() == lines(ROWS * 1000)


@KINDS
def test_other_bytes_than_announced_are_refused(kind: str, data_dir: Path) -> None:
    with pytest.raises(DatasetError, match=r"rows\.jsonl arrived damaged"):
        hub.download(Registry(data_dir), kind, "some/lying")
    assert left(data_dir) == set()


def test_a_download_stops_at_once(data_dir: Path) -> None:
    started = time.monotonic()
    with pytest.raises(Cancelled):
        hub.download(Registry(data_dir), "hf", "some/endless", cancelled=lambda: time.monotonic() > started + 0.5)
    assert time.monotonic() - started < 3
    assert left(data_dir) == set()
    assert list((data_dir / ".incoming").iterdir()) == []


@pytest.mark.parametrize(("kind", "mirror"), [("hf", "HF_ENDPOINT"), ("ms", "MODELSCOPE_ENDPOINT")])
def test_offline(kind: str, mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mirror, "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(DatasetError, match=f"cannot be reached from this computer.*{mirror}"):
        hub.parts(kind, "some/single")
    assert time.monotonic() - started < 3


def test_columns_that_nobody_can_tell_do_not_waste_the_download(data_dir: Path) -> None:
    entry = hub.download(Registry(data_dir), "hf", "some/no-idea")
    assert entry.note == ""
    assert (data_dir / "no-idea.jsonl").exists()


@pytest.mark.parametrize(("kind", "key"), [("hf", "hf_hub_url"), ("ms", "ms_hub_url")])
def test_a_registered_set_is_fetched_in_its_place(kind: str, key: str, data_dir: Path) -> None:
    spec = {key: "some/card", "subset": "en", "split": "test", "columns": {"prompt": "instruction"}, "mine": [1]}
    registry = Registry(data_dir)
    registry.path.write_text(json.dumps({"first": {}, "it": spec, "last": {"file_name": "x.json"}}))
    assert registry.entry("it").remote
    assert "download it" in registry.entry("it").note
    entry = hub.fetch(registry, "it")
    assert (entry.note, entry.remote, entry.file_name) == ("", False, "it.jsonl")
    assert json.loads(registry.path.read_text())["it"] == {**spec, "file_name": "it.jsonl"}
    assert asked(registry, "it") == [f"q{number}" for number in range(5, 20)]
    for name in ("it", "last"):
        with pytest.raises(DatasetError, match="not a dataset that waits"):
            hub.fetch(registry, name)


KILLED = """
import sys
from pathlib import Path
from studio.datasets import Registry, hub
hub.download(Registry(Path(sys.argv[1])), "hf", "some/endless", progress=lambda *step: print(*step, flush=True))
"""


def test_what_a_killed_download_left_is_swept(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.datasets.scratch.FRESH_S", 0)
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(data_dir)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert len(list((data_dir / ".incoming").iterdir())) == 1
    assert left(data_dir) == set()
    hub.download(Registry(data_dir), "hf", "some/single")
    assert list((data_dir / ".incoming").iterdir()) == []


def test_no_scripts_and_no_secrets(data_dir: Path) -> None:
    part: Any = hub.parts("hf", "some/single")[0]
    assert "authorization" not in repr(part).lower()
