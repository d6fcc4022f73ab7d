"""`python -m studio data …` as a person types it: real processes on real files."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from studio.cli import front
from studio.cli.data import ACTIONS, flags, main, parser
from studio.config.command import command as command_of
from studio.config.data import DataConfig
from studio.datasets.registry import Registry
from studio.settings import ROOT
from tests.forks import Forks

GOOD = {"instruction": "What is it?", "output": "It is this."}
WAIT_S = 60.0
Done = subprocess.CompletedProcess[str]
Data = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Folders of our own for data and runs, with two of the demo sets."""
    (tmp_path / "data").mkdir()
    for name in ("dataset_info.json", "alpaca_demo.json", "sharegpt_demo.json"):
        shutil.copy(ROOT / "data" / name, tmp_path / "data")
    return tmp_path


@pytest.fixture
def data(home: Path, commands: Forks) -> Data:
    """`data("list", "--json")` runs that action to its end, in the folder of our own."""

    def call(*words: str | Path) -> Done:
        return commands.run(["studio", "data", *map(str, words)], home, variables(home))

    return call


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "studio", "data", *map(str, words)]


def variables(home: Path) -> dict[str, str]:
    folders = {"SEEDBED_SAVES": str(home / "saves"), "SEEDBED_DATA": str(home / "data"), "PYTHONPATH": str(ROOT)}
    return {**os.environ, **folders, "OMP_NUM_THREADS": "2"}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_json(done: Done) -> Any:
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def said(done: Done) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


# --- help -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIONS)
def test_every_action_explains_itself_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert f"example: python -m studio data {name}" in text
    assert (ACTIONS[name].run.__doc__ or "").partition("\n")[0] in text.replace("\n", " ")
    assert "--json" in text


@pytest.mark.parametrize("name", ACTIONS)
def test_every_example_is_understood(name: str) -> None:
    words = ACTIONS[name].example.split()
    assert words[0] == name
    assert parser().parse_args(words).run is ACTIONS[name].run


def test_help_names_every_action(data: Data) -> None:
    assert re.findall(r"^    (\w+)", said(data("--help")), re.MULTILINE) == list(ACTIONS)


@pytest.mark.parametrize(
    "words", ["list", "check alpaca_demo", "preview alpaca_demo", "split alpaca_demo --fraction 0.9"]
)
def test_looking_at_data_loads_nothing_heavy(home: Path, words: str) -> None:
    script = f"import sys; from studio.cli.front import main; main(['data', *{words.split()}]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=variables(home), capture_output=True, text=True)
    heavy = {"torch", "transformers", "gradio", "datasets", "pandas", "plotly", "modelscope", "huggingface_hub"}
    assert "studio.datasets" in done.stdout
    assert heavy & set(done.stdout.split()) == set()


# --- the list ---------------------------------------------------------------------------------------------------


def test_the_list_is_what_comes_without_an_action(data: Data) -> None:
    assert said(data()) == said(data("list"))
    lines = {line["name"]: line for line in read_json(data("list", "--json"))}
    assert lines["alpaca_demo"]["rows"] == len(json.loads((ROOT / "data" / "alpaca_demo.json").read_text()))
    assert lines["identity"]["note"]


def test_several_files_are_added_and_a_bad_one_does_not_stop_the_rest(data: Data, home: Path) -> None:
    good = write(home / "good.jsonl", GOOD)
    bad = write(home / "bad.jsonl", "no object")
    table = home / "table.csv"
    table.write_text("Frage,Antwort\nWas?,Das.\n")
    done = data("add", good, bad, "--map", "prompt=instruction", "--map", "response=output")
    assert done.returncode == 1
    assert "good: 1 rows, 1 usable" in done.stdout
    assert "bad.jsonl" in done.stdout + done.stderr
    assert "Read as alpaca: as told" in done.stdout
    (made,) = read_json(data("add", table, "--map", "prompt=Frage", "--map", "response=Antwort", "--json"))
    assert made["name"] == "table"
    assert {"good", "table"} <= set(Registry(home / "data").names())
    assert "bad" not in Registry(home / "data").names()


def test_a_file_is_imported_and_downloaded_as_another_kind(data: Data, home: Path) -> None:
    said(data("import", write(home / "mine.jsonl", GOOD, GOOD)))
    text = said(data("download", "mine", "--to", home / "mine.parquet"))
    assert "mine.parquet" in text
    assert pq.read_table(home / "mine.parquet").to_pylist() == [GOOD, GOOD]
    refused = data("download", "mine", "--to", home / "mine.doc")
    assert refused.returncode == 1
    assert "jsonl" in refused.stderr


def test_a_hub_that_cannot_be_reached_is_said_in_a_line(data: Data) -> None:
    done = data("import", "--hf", "tatsu-lab/alpaca")
    assert done.returncode == 1
    assert "Hugging Face hub" in done.stderr
    assert "Traceback" not in done.stderr


def test_remove_trash_and_restore(data: Data, home: Path) -> None:
    trash_id = re.search(r"restore (\S+)", said(data("remove", "alpaca_demo")))
    assert trash_id
    assert "alpaca_demo" not in Registry(home / "data").names()
    assert [item["name"] for item in read_json(data("trash", "--json"))] == ["alpaca_demo"]
    assert trash_id[1] in said(data("trash"))
    said(data("restore", trash_id[1]))
    assert (home / "data" / "alpaca_demo.json").is_file()


# --- rows -------------------------------------------------------------------------------------------------------


def test_rows_of_a_set_and_of_any_file_are_shown(data: Data, home: Path) -> None:
    assert said(data("preview", "sharegpt_demo", "--rows", "1", "--offset", "2")).startswith("--- row 3\n")
    text = said(data("preview", write(home / "mine.jsonl", GOOD, {**GOOD, "output": ""})))
    assert "user: What is it?\nassistant: It is this." in text
    assert "at fault: 'output' must not be empty" in text
    page = read_json(data("preview", "alpaca_demo", "--rows", "2", "--json"))
    assert [row["row"] for row in page["rows"]] == [1, 2]


def test_a_mask_is_plain_in_a_pipe(data: Data) -> None:
    words = ("mask", "alpaca_demo", "--row", "2", "--model", "seedling")
    lines = [line.split("\t") for line in said(data(*words)).splitlines()]
    assert {fate for _, fate, _, _ in lines} == {"read", "trained"}
    assert any(special for _, _, special, _ in lines)
    row = json.loads((ROOT / "data" / "alpaca_demo.json").read_text())[1]
    assert row["output"] in "".join(json.loads(text) for _, fate, _, text in lines if fate == "trained")
    (segment,) = read_json(data(*words, "--json"))["segments"]
    assert [str(piece["id"]) for piece in segment["pieces"]] == [line[0] for line in lines]
    cut = said(data(*words, "--cutoff_len", "8")).splitlines()
    assert [line.split("\t")[1] == "cut" for line in cut] == [False] * 8 + [True] * (len(cut) - 8)


def test_a_mask_is_shown_under_a_named_template(data: Data) -> None:
    words = ("mask", "alpaca_demo", "--model", "seedling", "--json", "--template", "qwen3", "--enable-thinking")
    thinking, silent = (read_json(data(*words, mode))["segments"][0]["pieces"] for mode in ("true", "false"))
    empty = "<think>\n\n</think>\n\n"
    assert "".join(piece["text"] for piece in thinking if piece["trained"]).startswith(empty)
    assert empty in "".join(piece["text"] for piece in silent if not piece["trained"])
    refused = data("mask", "alpaca_demo", "--model", "seedling", "--template", "baichuan2")
    assert refused.returncode
    assert "template: the format baichuan2 is not known here" in refused.stderr


def test_a_mask_is_coloured_on_a_terminal(home: Path) -> None:
    text = on_terminal(home, "mask", "alpaca_demo", "--model", "seedling")
    row = json.loads((ROOT / "data" / "alpaca_demo.json").read_text())[0]
    green = "".join(re.findall(r"\033\[32m(.*?)\033\[0m", text, re.DOTALL))
    assert row["output"].split("\n")[0] in green.replace("\r", "")
    assert row["instruction"] not in green


def on_terminal(home: Path, *words: str) -> str:
    """What a command prints where it believes to stand on a terminal."""
    reader, writer = pty.openpty()
    process = subprocess.Popen(command(*words), cwd=home, env=variables(home), stdout=writer, stderr=subprocess.DEVNULL)
    os.close(writer)
    parts = []
    try:
        while part := os.read(reader, 65536):
            parts.append(part)
    except OSError:
        pass  # the terminal is gone with its last writer
    assert process.wait(WAIT_S) == 0
    os.close(reader)
    return b"".join(parts).decode()


def test_rows_are_edited_and_the_edit_is_undone(data: Data, home: Path) -> None:
    said(data("add", write(home / "mine.jsonl", *({**GOOD, "instruction": f"q{n}"} for n in range(3)))))
    path = home / "data" / "mine.jsonl"
    before = path.read_bytes()
    undo = re.search(r"--undo (\S+)", said(data("edit", "mine", "--delete", "2")))
    assert undo
    assert b"q1" not in path.read_bytes()
    said(data("edit", "mine", "--undo", undo[1]))
    assert path.read_bytes() == before
    said(data("edit", "mine", "--row", "1", "--replace", json.dumps({**GOOD, "output": "new"})))
    said(data("edit", "mine", "--add", json.dumps(GOOD)))
    assert json.loads(path.read_text().splitlines()[0])["output"] == "new"
    assert len(path.read_text().splitlines()) == 4
    for words in (("--replace", "{}"), ("--delete", "9"), ("--add", "[1]"), ("--undo", "../..")):
        done = data("edit", "mine", *words)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr


# --- checks and statistics --------------------------------------------------------------------------------------


def test_a_good_set_passes_the_check(data: Data) -> None:
    assert "usable" in said(data("check", "alpaca_demo"))
    report = read_json(data("check", "alpaca_demo", "--json"))
    assert report["fatal"] == ""
    assert report["rows"] == report["usable"] > 0


def test_fatal_findings_end_with_1_in_words_and_for_programs(data: Data, home: Path) -> None:
    file = home / "mine.jsonl"
    file.write_text(json.dumps(GOOD) + "\n{broken\n")
    before = file.read_bytes()
    done = data("check", file)
    assert done.returncode == 1
    assert "row 2" in done.stdout
    done = data("check", file, "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert "row 2" in report["fatal"]
    assert report["findings"][0]["rows"] == [2]
    assert file.read_bytes() == before
    assert not (home / "mine.jsonl.lock").exists()


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_file_whose_columns_nobody_can_tell(data: Data, home: Path, flags: tuple[str, ...]) -> None:
    file = write(home / "odd.jsonl", {"foo": "x", "bar": "y", "baz": "z"})
    done = data("check", file, *flags)
    assert done.returncode == 1
    assert "not sure what its columns mean" in (json.loads(done.stdout)["fatal"] if flags else done.stderr)
    assert "1 usable" in said(data("check", file, "--map", "prompt=foo", "--map", "response=baz"))


def test_repairs_named_by_a_check_can_be_done(data: Data, home: Path) -> None:
    file = write(home / "mine.jsonl", GOOD, GOOD, {**GOOD, "output": ""}, {**GOOD, "output": " padded "})
    said(data("add", file))
    repairs = {found["repair"] for found in read_json(data("check", "mine", "--json"))["findings"]} - {""}
    assert {"drop_faulty", "drop_duplicates"} <= repairs
    figures = read_json(data("repair", "mine", *sorted(repairs), "--output-name", "clean", "--json"))
    assert figures["datasets"] == ["clean"]
    assert read_json(data("check", "clean", "--json"))["usable"] == 2
    assert "mine.jsonl" in file.name
    wrong = data("repair", "mine", "mend_everything")
    assert wrong.returncode == 1
    assert "drop_faulty" in wrong.stderr


def test_a_check_with_a_model_counts_what_is_too_long(data: Data, home: Path) -> None:
    file = write(home / "mine.jsonl", GOOD, {**GOOD, "output": "word " * 400})
    report = read_json(data("check", file, "--model", "seedling", "--cutoff-len", "64", "--json"))
    found = {each["code"]: each for each in report["findings"]}
    assert found["too_long"]["count"] == 1
    assert list((home / "data").glob("mine*")) == []


def test_statistics_are_measured_once(data: Data) -> None:
    words = ("stats", "alpaca_demo", "--model", "seedling", "--cutoff-len", "128")
    text = said(data(*words))
    assert "cutoff 128" in text
    assert "tokens a row" in text
    assert "█" in text
    started = time.monotonic()
    figures = read_json(data(*words, "--json"))
    assert time.monotonic() - started < 5  # kept: no worker is started
    assert figures["rows_measured"] > 0
    assert 0 < figures["trained_share"] < 1
    wrong = data("stats", "alpaca_demo")
    assert wrong.returncode == 2
    assert "model" in wrong.stderr


# --- new sets from old ones -------------------------------------------------------------------------------------


def test_sets_are_made_from_sets(data: Data, home: Path) -> None:
    rows = read_json(data("check", "alpaca_demo", "--json"))["rows"]
    parts = read_json(data("split", "alpaca_demo", "--fraction", "0.8", "--seed", "7", "--json"))["datasets"]
    sizes = [len(Registry(home / "data").file(name).read_text().splitlines()) for name in parts]
    assert sizes == [round(rows * 0.8), rows - round(rows * 0.8)]
    (both,) = read_json(data("merge", *parts, "--output-name", "both", "--json"))["datasets"]
    assert f"{rows:,} rows" in said(data("shuffle", both))
    assert "5 rows" in said(data("sample", both, "--rows", "5", "--output-name", "few"))
    assert said(data("deduplicate", "few")).startswith("few-deduplicated: 5 rows")
    assert said(data("duplicate", "few", "--output-name", "again")).startswith("again: 5 rows")
    said(data("convert", "few", "--shape", "openai", "--file-format", "parquet", "--output-name", "turns"))
    assert set(pq.read_table(home / "data" / "turns.parquet").column_names) >= {"messages"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("preview", "a", "--rows", "-1"), "--rows: must be 1 or more, got -1"),
        (("preview", "a", "--offset", "-3"), "--offset: must be 0 or more"),
        (("mask", "a", "--row", "0"), "--row: must be 1 or more"),
        (("check", "a", "--near-duplicates", "--threshold", "0"), "--threshold: must be above 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("split", "alpaca_demo"), "fraction"),
        (("split", "alpaca_demo", "--fraction", "2"), "fraction"),
        (("sample", "alpaca_demo", "--rows", "many"), "rows"),
        (("convert", "alpaca_demo", "--shape", "round"), "shape"),
        (("merge", "alpaca_demo"), "at least two"),
        (("add", "x.jsonl", "--map", "prompt"), "NAME=VALUE"),
    ],
)
def test_what_is_asked_wrongly_is_said_in_a_line(data: Data, words: tuple[str, ...], told: str) -> None:
    done = data(*words)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "check {}", "preview {}", "split {} --fraction 0.5", "download {} --to x.csv", "remove {}", "restore {}",
        "mask {} --model seedling", "stats {} --model seedling", "edit {} --delete 1", "import {}",
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_in_a_line(
    words: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    for key, value in variables(home).items():
        monkeypatch.setenv(key, value)
    assert front.main(["data", *words.format("nonsense").split()]) == 1
    assert "nonsense" in capsys.readouterr().err


# --- being interrupted ------------------------------------------------------------------------------------------


def test_ctrl_c_ends_a_check_and_leaves_nothing(home: Path) -> None:
    file = home / "large.jsonl"
    line = json.dumps(GOOD) + "\n"
    file.write_text(line * 3_000_000)
    process = subprocess.Popen(
        command("add", file), cwd=home, env=variables(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + WAIT_S
    while not list((home / "data").glob(".incoming/*/*")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not list((home / "data").glob("large*"))
    assert not list((home / "data").glob(".incoming/*"))


def test_progress_goes_to_stderr(home: Path) -> None:
    file = home / "large.jsonl"
    file.write_text((json.dumps(GOOD) + "\n") * 200_000)
    reader, writer = pty.openpty()
    with open(home / "out", "w") as out:
        code = subprocess.run(
            command("check", file, "--json"), cwd=home, env=variables(home), stdout=out, stderr=writer, check=False
        ).returncode
    os.close(writer)
    told = os.read(reader, 65536).decode()
    os.close(reader)
    assert code == 0
    assert json.loads((home / "out").read_text())["rows"] == 200_000
    assert "checking large.jsonl: " in told
    assert "%" in told


@pytest.mark.parametrize(
    "config",
    [
        DataConfig(action="split", dataset=("a set",), fraction=0.9, seed=7),
        DataConfig(action="merge", dataset=("one", "two"), output_name="both"),
        DataConfig(action="check", dataset=("one",), near_duplicates=True, near_duplicate_threshold=0.9),
        DataConfig(action="repair", dataset=("one",), repairs=("drop_faulty", "trim_answers")),
        DataConfig(action="convert", dataset=("one",), shape="sharegpt", file_format="parquet"),
        DataConfig(action="sample", dataset=("one",), rows=10),
    ],
    ids=lambda config: config.action,
)
def test_the_command_of_a_piece_of_work_is_one_that_is_understood(config: DataConfig) -> None:
    python, dash_m, studio, data, action, *words = shlex.split(command_of(config))
    assert (python, dash_m, studio, data, action) == ("python", "-m", "studio", "data", config.action)
    parser().parse_args([action, *flags(words)])
