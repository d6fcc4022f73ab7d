"""Configurations in and out; every problem at once, each with its key and what to change."""

import contextlib
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.config import load
from studio.config.command import command
from studio.config.load import changed, dump, load_run_config, overrides, parse, parse_yaml, read_yaml, save
from studio.config.merge import MergeConfig
from studio.config.serve import Adapter, ServeConfig
from studio.config.train import TrainConfig
from studio.errors import ConfigError

DATA = {"dataset": "identity"}


def problems(kind, values):
    with pytest.raises(ConfigError) as caught:
        parse(kind, values)
    return {problem.where: problem.what for problem in caught.value.problems}


# problems


def test_every_problem_is_reported_at_once():
    found = problems(
        TrainConfig,
        {
            "lora_rank": 0,
            "learning_rate": "fast",
            "finetuning_type": "lara",
            "lerning_rate": 1,
            "deepspeed": "ds_z3.json",
            "bf16": True,
            "fp16": True,
            "warmup_steps": 3,
            "warmup_ratio": 0.1,
            "eval_steps": 5,
            "max_steps": 0,
        },
    )
    assert found["lora_rank"] == "input should be greater than or equal to 1 (got '0')"
    assert found["learning_rate"] == "input should be a valid number, unable to parse string as a number (got 'fast')"
    assert found["finetuning_type"] == "input should be 'lora', 'full' or 'freeze' (got 'lara')"
    assert found["lerning_rate"] == "there is no such option; did you mean learning_rate?"
    assert found["deepspeed"].startswith("there is no file 'ds_z3.json'")
    assert found["dataset"].startswith("choose at least one dataset")
    assert "keep bf16" in found["fp16"]
    assert "not both" in found["warmup_ratio"]
    assert "set val_size" in found["eval_steps"]
    assert "use -1" in found["max_steps"]
    assert len(found) == 10


def test_a_rule_between_keys_is_silent_about_a_key_that_is_wrong_by_itself():
    assert list(problems(TrainConfig, {**DATA, "max_steps": -5})) == ["max_steps"]
    assert list(problems(TrainConfig, {"dataset": 5.5j})) == ["dataset"]


def test_problems_are_one_text_a_line_each():
    with pytest.raises(ConfigError) as caught:
        parse(TrainConfig, {"seed": -1})
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["seed", "dataset"]


@pytest.mark.parametrize(
    ("key", "close"),
    [
        ("learningrate", "learning_rate"),
        ("lora_ranks", "lora_rank"),
        ("datasets", "dataset"),
        ("save_step", "save_steps"),
    ],
)
def test_an_unknown_key_names_the_close_one(key, close):
    assert problems(TrainConfig, {**DATA, key: 1})[key].endswith(f"did you mean {close}?")


@pytest.mark.parametrize("key", ["zzz", "", "训练", "<|start|>"])
def test_an_unknown_key_is_not_guessed_at(key):
    assert problems(TrainConfig, {**DATA, key: 1})[key] == "there is no such option"


def test_nested_keys_are_named_by_their_path():
    found = problems(ServeConfig, {"adapters": [{"name": "a"}, {"name": "b", "path": "p", "rank": 1}]})
    assert set(found) == {"adapters.0.path", "adapters.1.rank"}


def test_rules_of_the_other_kinds():
    two = [Adapter(name="a", path="x"), Adapter(name="a", path="y")]
    assert "two adapters are called 'a'" in problems(ServeConfig, {"adapters": two})["adapters"]
    assert problems(MergeConfig, {}) == {"adapter_name_or_path": "choose the adapter to merge"}
    assert "kv_cache_memory" in problems(ServeConfig, {"kv_cache_memory": "lots"})
    assert "max_lora_rank" in problems(ServeConfig, {"max_lora_rank": 24})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
KEYS = st.sampled_from([*TrainConfig.model_fields, "deepspeed", "template", "x"])


@given(st.dictionaries(KEYS, VALUES))
def test_no_value_breaks_the_parser(values):
    with contextlib.suppress(ConfigError):
        assert isinstance(parse(TrainConfig, values), TrainConfig)


# YAML


@pytest.mark.parametrize(
    ("text", "place"),
    [("a: b: c", "line 1, column 5"), ("a: 1\nb: [2, }\n", "line 2, column 8"), ("a: 1\n\t b: 2", "line 2, column 1")],
)
def test_a_yaml_error_gives_line_and_column(tmp_path, text, place):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=place) as caught:
        read_yaml(path)
    assert caught.value.problems[0].where == str(path)


@pytest.mark.parametrize("text", ["- a\n- b", "just words", "42"])
def test_yaml_that_is_no_mapping(text):
    with pytest.raises(ConfigError, match="key: value"):
        parse_yaml(text, "given")


@given(st.text())
def test_no_text_breaks_the_yaml_reader(text):
    with contextlib.suppress(ConfigError):
        assert isinstance(parse_yaml(text, "given"), dict)


@pytest.mark.parametrize("text", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused(text):
    """libyaml overflows the stack on it and takes the whole studio along."""
    with pytest.raises(ConfigError):
        parse_yaml(text * 50_000, "given")
    assert overrides([f"key={text * 50_000}"])


def test_files_that_are_no_texts(tmp_path):
    (tmp_path / "binary").write_bytes(b"\x93NUMPY\xff\xfe")
    (tmp_path / "utf16").write_bytes("a: 1".encode("utf-16"))
    for name in ("missing", "binary", "utf16", ".", "binary/deeper", "x" * 300, "nul\0"):
        with pytest.raises(ConfigError) as caught:
            read_yaml(tmp_path / name)
        assert caught.value.problems[0].where == str(tmp_path / name)


def test_empty_yaml_is_an_empty_mapping():
    assert parse_yaml("# nothing\n", "given") == {}


@pytest.mark.parametrize("text", ["2e-4", "2E-4", "2.0e-4", "0.0002", "'2e-4'", "0.2e-3"])
def test_a_learning_rate_in_every_form(text):
    """YAML 1.1 reads 2e-4 as a string."""
    assert parse(TrainConfig, DATA | parse_yaml(f"learning_rate: {text}", "given")).learning_rate == 2e-4


@pytest.mark.parametrize("text", ["7", "2026", "2026-13-45", "2026-01-01", "1e5", "1.5"])
def test_a_name_that_looks_like_a_number_or_a_date_is_a_name(text):
    assert parse(TrainConfig, DATA | overrides([f"run_name={text}", f"dataset={text}"])).run_name == text


# overrides


def test_overrides_are_read_as_yaml():
    words = [
        "lora_rank=16",
        "packing=true",
        "max_samples=null",
        "dataset=a,b",
        "default_system=x=y: z",
        "model_name=# 1",
        "--seed=3",
        "run_name=",
        "prompts=Who are you?\n2 + 2?\n",
        'system="one\\ntwo"',
    ]
    assert overrides(words) == {
        "lora_rank": 16,
        "packing": True,
        "max_samples": None,
        "dataset": "a,b",
        "default_system": "x=y: z",
        "model_name": "# 1",
        "seed": 3,
        "run_name": None,
        "prompts": "Who are you?\n2 + 2?\n",
        "system": "one\ntwo",
    }


def test_every_word_that_is_no_override_is_named():
    with pytest.raises(ConfigError) as caught:
        overrides(["lora_rank", "seed=1", "=5"])
    assert [problem.where for problem in caught.value.problems] == ["lora_rank", "=5"]


@given(st.text())
def test_no_word_breaks_the_overrides(text):
    assert list(overrides([f"key={text}"])) == ["key"]


def test_names_are_split_and_trimmed():
    assert parse(TrainConfig, {"dataset": " a, b,,c "}).dataset == ("a", "b", "c")
    assert parse(TrainConfig, {"dataset": ["a", "b"]}).dataset == ("a", "b")


# there and back

# PyYAML folds Unicode's own line ends, which nobody types
TEXT = st.text(st.characters(exclude_categories=["Cs", "Zl", "Zp"], exclude_characters="\x85"), min_size=1)
NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1), min_size=1, max_size=3
)
MODULES = st.lists(st.from_regex(r"[a-z_.]+", fullmatch=True), min_size=1, max_size=3)
CONFIGS = st.builds(
    TrainConfig, model_name_or_path=TEXT, run_name=st.none() | TEXT, dataset=NAMES, default_system=st.none() | TEXT,
    learning_rate=st.floats(1e-9, 1), lora_alpha=st.none() | st.integers(1, 4096), packing=st.booleans(),
    bf16=st.none() | st.booleans(), lora_target=MODULES, stage=st.sampled_from(["sft", "pt"]),
    gradient_checkpointing=st.sampled_from([None, "off", "selective", "on"]),
)  # fmt: skip


@given(CONFIGS)
def test_a_configuration_survives_its_file(tmp_path_factory, config):
    path = tmp_path_factory.mktemp("run") / "config.yaml"
    save(config, path)
    assert load_run_config(path) == config


@given(CONFIGS)
def test_a_configuration_survives_its_command(config):
    assert parse(TrainConfig, overrides(shlex.split(command(config))[4:])) == config
    assert parse(TrainConfig, changed(config)) == config


@pytest.mark.parametrize(
    ("written", "read"),
    [("on", "on"), ("off", "off"), ("true", "on"), ("false", "off"), ("selective", "selective"), ("null", None)],
)
def test_recomputation_is_a_word_or_a_switch(tmp_path, written, read):
    path = tmp_path / "config.yaml"
    path.write_text(dump(TrainConfig(**DATA)).replace("checkpointing: null", f"checkpointing: {written}"))
    config = load_run_config(path)
    assert config.gradient_checkpointing == read
    assert parse(TrainConfig, {**DATA, **overrides([f"gradient_checkpointing={written}"])}) == config
    assert read not in ("on", "off") or f'gradient_checkpointing="{read}"' in command(config)


@pytest.mark.parametrize(
    "config",
    [
        ServeConfig(adapters=[Adapter(name="a", path="/x y")], kv_cache_memory="1G"),
        MergeConfig(adapter_name_or_path="saves/x", export_size=2),
    ],
    ids=["serve", "merge"],
)
def test_the_other_kinds_survive_their_files(tmp_path, config):
    save(config, tmp_path / "config.yaml")
    assert load_run_config(tmp_path / "config.yaml") == config


def test_a_run_of_another_version_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(dump(TrainConfig(**DATA)).replace("schema_version: 1", "schema_version: 7"))
    with pytest.raises(ConfigError, match=r"another version.*7"):
        load_run_config(path)


def test_a_run_of_an_unknown_kind_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("kind: distil\n")
    with pytest.raises(ConfigError, match="'distil' is none of train, serve, merge"):
        load_run_config(tmp_path / "config.yaml")


@pytest.mark.parametrize("name", load.preset_names())
def test_every_preset_loads(name):
    values = load.preset(name)
    assert parse(TrainConfig, {**DATA, **values})
    assert not load.without_effect(values)
