"""The commands as a person types them: real processes, real runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from studio.cli import terminal
from studio.cli.front import COMMANDS
from studio.config.command import command
from studio.config.load import dump, parse
from studio.config.serve import ServeConfig
from studio.config.train import TrainConfig
from studio.models import check
from studio.runs.store import Store
from studio.settings import ROOT
from tests.forks import Forks

SHORT = ["dataset=alpaca_demo", "max_samples=16", "cutoff_len=64", "gradient_accumulation_steps=1"]
WAIT_S = 120.0

Studio = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders of our own for data and runs; whatever still runs at the end is ended."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "data").mkdir()
    for name in ("dataset_info.json", "identity.json", "alpaca_demo.json"):
        shutil.copy(ROOT / "data" / name, folder / "data")
    yield folder
    for run in Store(folder / "saves").list():
        if run.is_active:
            run.stop_now()


@pytest.fixture(scope="module")
def studio(home: Path, commands: Forks) -> Studio:
    """`studio("runs", "--json")` runs that command to its end."""

    def call(*words: str, input: str = "") -> subprocess.CompletedProcess[str]:
        return commands.run(["studio", *words], ROOT, variables(home), input)

    return call


def variables(home: Path) -> dict[str, str]:
    """The environment of a command."""
    folders = {"SEEDBED_SAVES": str(home / "saves"), "SEEDBED_DATA": str(home / "data")}
    return {**os.environ, **folders, "OMP_NUM_THREADS": "2"}


@pytest.fixture(scope="module")
def finished(studio: Studio, home: Path) -> tuple[str, subprocess.CompletedProcess[str]]:
    """The id of a training of three steps, and what its command printed."""
    looks = ["val_size=2", "eval_steps=2", "sample_prompts=Who are you?"]
    done = studio("train", *SHORT, *looks, "max_steps=3", "run_name=three steps")
    assert done.returncode == 0, done.stdout + done.stderr
    return Store(home / "saves").list("train")[-1].id, done


def read_json(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def until(condition: Callable[[], Any]) -> Any:
    """Wait for something that another process does."""
    deadline = time.monotonic() + WAIT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return value


# --- the front door ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*COMMANDS, ""])
def test_every_command_explains_itself(studio: Studio, name: str) -> None:
    done = studio(*name.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage" in done.stdout or "COMMAND" in done.stdout


def test_an_unknown_command_names_those_there_are(studio: Studio) -> None:
    done = studio("tarin")
    assert done.returncode == 2
    assert "no command 'tarin'" in done.stderr
    assert all(name in done.stderr for name in COMMANDS)


def test_looking_at_runs_loads_nothing_heavy() -> None:
    script = "import sys; from studio.cli.front import main; main(['runs']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "gradio", "datasets", "pandas", "numpy", "httpx", "plotly"}
    assert heavy & set(done.stdout.split()) == set()


def test_every_problem_of_a_config_is_told_at_once(studio: Studio, home: Path) -> None:
    done = studio("train", "lora_rank=0", "learning_rate=much", "lora_rnak=8", "warmup_ratio=0.1", "warmup_steps=5")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert {line.partition(":")[0] for line in lines} == {
        "lora_rank", "learning_rate", "lora_rnak", "dataset", "warmup_ratio",
    }  # fmt: skip
    assert "did you mean lora_rank?" in done.stderr
    assert not (home / "saves").exists() or not list((home / "saves").glob("*lora*"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "nowhere.yaml"], "nowhere.yaml: there is no such file"),
        (["train", "no-such-preset"], "neither a YAML file nor a preset"),
        (["train", "one", "two", "lora_rank=4"], "one YAML file or preset, not 2"),
        (["serve", "seedling", "--adapter", "no-equals"], "NAME=FOLDER"),
        (["serve", "seedling", "--port", "http"], "port: "),
        (["serve", "seedling", "tool_call_parser=herms", "chat_template=no.jinja"], "did you mean hermes?"),
        (["chat", "temperatur=1", "top_p=hot"], "temperatur: there is no such option"),
    ],
)
def test_what_is_asked_wrongly_is_said_in_a_line(studio: Studio, words: list[str], told: str) -> None:
    done = studio(*words)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["runs", "show", "20990101"], 1),
        (["runs", "stop", "../etc"], 1),
        (["merge", "nonsense"], 2),
        (["export", "gguf", "nonsense"], 2),
        (["data", "preview", "nonsense"], 1),
    ],
)
def test_what_is_not_there_is_said_in_a_line(studio: Studio, words: list[str], code: int) -> None:
    done = studio(*words)
    assert done.returncode == code
    assert words[-1] in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_who_has_seen_enough_gets_no_traceback(home: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "studio", "data"], cwd=ROOT, env=variables(home), stdout=writer, stderr=subprocess.PIPE,
        text=True, check=False,
    )  # fmt: skip
    os.close(writer)
    assert done.stderr == ""


# --- a configuration, three ways --------------------------------------------------------------------------------

AWKWARD: list[dict[str, Any]] = [
    {"dataset": ["identity"]},
    {"dataset": ["a b", "it's", "中文 数据"], "run_name": 'say "hi"; rm -rf $HOME `id`'},
    {"dataset": ["true", "123"], "model_name": "null", "model_author": "{a: 1}"},
    {"dataset": ["x"], "default_system": 'You are {"name": "芽"}.\nSecond line: [1, 2] # no comment'},
    {"dataset": ["x"], "model_name_or_path": "/tmp/with space/模型=1", "lora_target": ["q_proj", "v_proj"]},
    {"dataset": ["x"], "learning_rate": 1.5e-05, "bf16": False, "max_samples": 10, "val_size": 0.1, "eval_steps": 7},
]


@pytest.mark.parametrize("values", AWKWARD)
def test_the_shown_command_gives_the_same_config_through_a_shell(values: dict[str, Any]) -> None:
    config = parse(TrainConfig, values)
    assert through_shell(command(config)) == dump(config)


def test_the_options_file_of_a_server_is_printed_and_nothing_is_started(studio: Studio, home: Path) -> None:
    done = studio("serve", "seedling", "--port", "8080", "--print-config", "max_num_seqs=4")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["port"] == 8080
    assert yaml.safe_load(done.stdout)["max-num-seqs"] == 4
    assert not list((home / "saves").glob("*seedling*"))


def test_a_server_is_shown_as_a_command_too() -> None:
    adapters = [{"name": "it's mine", "path": "/tmp/a b/适配器"}]
    config = parse(ServeConfig, {"model_name_or_path": "/tmp/a=b c", "adapters": adapters, "max_model_len": 64})
    assert through_shell(command(config)) == dump(config)


def through_shell(line: str) -> str:
    """What a pasted command line would ask for."""
    assert line.startswith("python ")
    line = f"{sys.executable} {line.removeprefix('python ')} --dry-run"
    plain = {key: value for key, value in os.environ.items() if key not in ("SEEDBED_DATA", "SEEDBED_SAVES")}
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_yaml_file_is_overridden_by_words(studio: Studio, home: Path) -> None:
    file = home / "mine.yaml"
    file.write_text("stage: sft\ndataset: identity,alpaca_demo\nlearning_rate: 1.0e-4\noutput_dir: saves/old/name\n")
    config = yaml.safe_load(studio("train", str(file), "learning_rate=3e-4", "--dry-run").stdout)
    assert config["dataset"] == ["identity", "alpaca_demo"]
    assert config["learning_rate"] == 3e-4
    assert config["run_name"] == "name"
    assert config["dataset_dir"] == str(home / "data")
    again = home / "again.yaml"
    again.write_text(yaml.safe_dump(config))
    assert yaml.safe_load(studio("train", str(again), "--dry-run").stdout) == config


# --- runs -------------------------------------------------------------------------------------------------------


def test_a_training_is_followed_to_its_end(finished: tuple[str, subprocess.CompletedProcess[str]]) -> None:
    run_id, done = finished
    assert f"Run {run_id}" in done.stdout
    assert "step 3/3 · loss " in done.stdout
    assert re.search(r"validation after step 2: loss [\d.]+, perplexity \S+, token accuracy [\d.]+", done.stdout)
    assert "answer after step 3: 'Who are you?' → '" in done.stdout
    assert "completed: steps 3" in done.stdout
    assert done.stdout.rstrip().endswith("/adapter")


def test_a_run_is_listed_shown_and_logged(studio: Studio, finished: tuple[str, Any]) -> None:
    run_id, _ = finished
    listed = {line["id"]: line for line in read_json(studio("runs", "--json"))}
    assert listed[run_id]["state"] == "completed"
    shown = read_json(studio("runs", "show", run_id[:22], "--json"))
    assert (shown["id"], shown["state"], shown["result"]["steps"]) == (run_id, "completed", 3)
    assert shown["config"]["run_name"] == "three steps"
    assert run_id in studio("runs").stdout
    assert "completed" in studio("runs", "show", run_id).stdout
    log = studio("runs", "log", run_id, "--follow").stdout
    assert log == (Path(shown["path"]) / "log.txt").read_text()


def test_a_merge_as_llamafactory_writes_it_is_followed_to_its_end(
    studio: Studio, home: Path, finished: tuple[str, Any]
) -> None:
    theirs = """
        model_name_or_path: seedling
        adapter_name_or_path: saves/seedling/lora/three steps
        template: qwen3_nothink
        trust_remote_code: true
        export_dir: {home}/merged 模型
        export_size: 5
        export_device: cpu
        export_legacy_format: false
    """
    (home / "merge.yaml").write_text(theirs.format(home=home))
    done = studio("export", str(home / "merge.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    merged = Store(home / "saves").list("merge")[0]
    assert f"is taken to be {home / 'saves' / finished[0] / 'adapter'}" in done.stderr
    assert "The merged model is base plus adapter: " in done.stdout
    assert done.stdout.endswith(merged.path.joinpath("report.md").read_text())
    assert check(home / "merged 模型").has_chat_template
    assert (merged.path / "model").resolve() == home / "merged 模型"
    line = command(merged.config)
    assert line.startswith(f"python -m studio merge {home}")
    assert through_shell(line) == dump(merged.config)
    again = studio("export", str(home / "merge.yaml"))
    assert (again.returncode, "set overwrite_output_dir: true to replace it" in again.stderr) == (2, True)


def test_an_ended_run_goes_to_the_trash_and_back(studio: Studio, finished: tuple[str, Any]) -> None:
    run_id, _ = finished
    assert studio("runs", "delete", run_id[:22]).returncode == 0
    assert not any(line.startswith(run_id) for line in studio("runs").stdout.splitlines())
    restored = studio("runs", "restore", run_id[:22])
    assert restored.stdout.strip() == run_id
    assert any(line.startswith(run_id) for line in studio("runs").stdout.splitlines())


def test_what_an_ended_run_cannot_do_is_said(studio: Studio, finished: tuple[str, Any]) -> None:
    done = studio("runs", "stop", finished[0])
    assert done.returncode == 1
    assert "has ended already (completed)" in done.stderr


def test_ctrl_c_saves_and_a_resumed_run_can_be_stopped_at_once(studio: Studio, home: Path) -> None:
    train = subprocess.Popen(
        [sys.executable, "-m", "studio", "train", *SHORT, "max_steps=100000", "run_name=long"],
        cwd=ROOT, env=variables(home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert train.stdout
    assert train.stdout.readline().startswith("plan: fits: ")
    run_id = train.stdout.readline().split()[1]
    while not train.stdout.readline().startswith("step "):
        assert train.poll() is None
    train.send_signal(signal.SIGINT)
    rest, _ = train.communicate(timeout=WAIT_S)
    assert "Stopping; what is learned so far is saved." in rest
    assert train.returncode == 10, rest
    shown = read_json(studio("runs", "show", run_id, "--json"))
    assert (shown["state"], shown["result"]["stopped"]) == ("stopped", True)
    saved_step = int(shown["checkpoints"][-1].rpartition("-")[2])

    resumed = Store(home / "saves").get(studio("runs", "resume", run_id, "--detach").stdout.strip())
    until(lambda: resumed.status.get("step", 0) > saved_step)
    assert studio("runs", "save", resumed.id).returncode == 0
    until(lambda: len(resumed.checkpoints()) > 1)
    begun = time.monotonic()
    assert studio("runs", "stop", resumed.id, "--now").returncode == 0
    until(lambda: not resumed.is_active)
    assert time.monotonic() - begun < 10
    assert read_json(studio("runs", "show", resumed.id, "--json"))["state"] == "stopped"


def test_doubtful_data_is_said_and_fatal_data_refused(studio: Studio, home: Path) -> None:
    registry = home / "data" / "dataset_info.json"
    before = registry.read_text()
    good, empty = ('{"instruction": "Who?", "output": "Fern."}\n', '{"instruction": "What?", "output": ""}\n')
    (home / "data" / "gaps.jsonl").write_text(good + empty)
    (home / "data" / "torn.jsonl").write_text(good + "[broken\n")
    sets = {"gaps": {"file_name": "gaps.jsonl"}, "torn": {"file_name": "torn.jsonl"}}
    registry.write_text(json.dumps({**json.loads(before), **sets}))
    asked = studio("train", "dataset=gaps", "max_steps=1", "--detach")
    refused = studio("train", "dataset=torn", "max_steps=1", "--detach")
    registry.write_text(before)
    assert "warning: gaps: Fields that are empty (1)" in asked.stderr
    Store(home / "saves").get(asked.stdout.strip()).stop_now()
    assert refused.returncode == 2
    assert "row 2" in refused.stderr


def test_a_detached_training_prints_its_id_and_fails_with_a_reason(studio: Studio, home: Path) -> None:
    run_id = studio("train", *SHORT, "lora_target=no_such_module", "--detach").stdout.strip()
    run = Store(home / "saves").get(run_id)
    until(lambda: not run.is_active)
    shown = studio("runs", "show", run_id).stdout
    assert "failed" in shown
    assert "no_such_module" in shown


def test_what_does_not_exist_is_said_before_anything_starts(studio: Studio, home: Path, tmp_path: Path) -> None:
    before = Store(home / "saves").list()
    refused = studio("train", "dataset=no_such_set", f"model_name_or_path={tmp_path}", "learning_rate=7")
    assert refused.returncode == 2
    assert all(word in refused.stderr for word in ("no_such_set", "config.json", "learning_rate"))
    assert Store(home / "saves").list() == before


# --- data -------------------------------------------------------------------------------------------------------


def test_a_file_becomes_a_dataset_and_goes_again(studio: Studio, home: Path) -> None:
    file = home / "mine.jsonl"
    file.write_text('{"instruction": "Say hi", "output": "Hi!"}\n{"instruction": "你好吗？", "output": "很好。"}\n')
    added = studio("data", "add", str(file))
    assert added.returncode == 0, added.stderr
    assert "mine: 2 rows, 2 usable" in added.stdout
    assert "mine" in studio("data").stdout
    assert "user: 你好吗？\nassistant: 很好。" in studio("data", "preview", "mine", "--offset", "1").stdout
    assert studio("data", "check", "mine").stdout == "2 rows, 2 usable\n"
    trash_id = studio("data", "remove", "mine").stdout.split()[-1]
    assert studio("data", "preview", "mine").returncode == 1
    assert studio("data", "restore", trash_id).stdout == "mine\n"
    assert studio("data", "check", "mine").returncode == 0


def test_a_file_that_is_no_data_is_refused_whole(studio: Studio, home: Path) -> None:
    file = home / "broken.json"
    file.write_text('[{"instruction": "a", "output": "b"}, {"instruction": ')
    done = studio("data", "add", str(file))
    assert done.returncode == 1
    assert "row 2" in done.stderr
    assert "broken" not in studio("data").stdout


# --- what needs a model server ----------------------------------------------------------------------------------


@pytest.mark.vllm
def test_a_server_is_started_talked_to_and_stopped(studio: Studio, home: Path, finished: tuple[str, Any]) -> None:
    run_id, _ = finished
    served = studio("serve", "seedling", "--adapter", f"tuned={run_id}", "run_name=mine")
    assert served.returncode == 0, served.stdout + served.stderr
    server = Store(home / "saves").list("serve")[0]
    assert "answers as seedling, tuned" in served.stdout
    assert "\ntuned: " in served.stdout, "what its proof has found"
    assert server.server["api_key"] not in served.stdout
    assert studio("serve", "--key", server.id).stdout.strip() == server.server["api_key"]
    assert "serves that model already" in studio("serve", "seedling").stderr

    lines = "Who are you?\n/clear\nWhat is 2+3?\n"
    talk = studio("chat", "seedling", run_id, "temperature=0", "max_tokens=8", input=lines)
    assert talk.returncode == 0, talk.stdout + talk.stderr
    assert talk.stdout.count("[seedling]") == talk.stdout.count(f"[{run_id}]") == 2
    assert talk.stdout.count("tokens, first after") == 4
    assert talk.stdout.count("\ntuned: ") + talk.stdout.startswith("tuned: ") == 1
    assert server.is_active, "a server that chat did not start is left alone"

    assert studio("runs", "stop", server.id).returncode == 0
    until(lambda: not server.is_active)
    assert server.state == "stopped"
    assert "does not answer (it is stopped)" in studio("serve", "--key", server.id).stderr


# --- the terminal -----------------------------------------------------------------------------------------------


def test_columns_line_up_with_chinese_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.table(["name", "rows"], [["身份", "1"], ["identity", "22"]])
    lines = capsys.readouterr().out.splitlines()
    assert [terminal.width(line[: line.rindex(" ") + 1]) for line in lines] == [10, 10, 10]


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1:00"), (185, "3:05"), (7385, "2:03:05")])
def test_durations_read_like_a_clock(seconds: float, text: str) -> None:
    assert terminal.duration(seconds) == text


def test_a_cut_line_fits_and_says_so() -> None:
    assert terminal.cut("abcdef", 6) == "abcdef"
    assert terminal.cut("abcdefg", 6) == "abcde…"
    assert terminal.width(terminal.cut("身份数据集", 6)) <= 6
