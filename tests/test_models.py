"""Model and adapter folders, whole and broken in every way a copy can break."""

import json
import re
import shutil
import struct
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from studio import models
from studio.errors import ModelError
from studio.settings import ASSETS

CONFIG = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512, "model_type": "llama"}


def write_json(path, value):
    path.write_text(json.dumps(value))


@pytest.fixture
def folder(tmp_path):
    """A whole model folder with two shards."""
    path = tmp_path / "model"
    path.mkdir()
    write_json(path / "config.json", CONFIG)
    write_json(path / "tokenizer.json", {})
    write_json(path / "tokenizer_config.json", {"chat_template": "{{ x }}"})
    save_file({"a": numpy.zeros((2, 3), "float16")}, path / "one.safetensors", metadata={"format": "pt"})
    save_file({"b": numpy.zeros(5, "float16"), "c": numpy.zeros((), "float16")}, path / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}}
    write_json(path / "model.safetensors.index.json", index)
    return path


@pytest.fixture
def adapter(tmp_path):
    path = tmp_path / "adapter"
    path.mkdir()
    config = {"peft_type": "LORA", "r": 8, "rank_pattern": {"q": 16}, "base_model_name_or_path": "org/model"}
    write_json(path / "adapter_config.json", config)
    save_file({"a": numpy.zeros((8, 4), "float32")}, path / "adapter_model.safetensors")
    return path


# models


def test_a_whole_model(folder):
    info = models.check(folder)
    assert info == models.ModelInfo(folder, "LlamaForCausalLM", 12, "F16", 512, True)


def test_a_model_in_one_file_is_not_confused_by_others(folder):
    (folder / "model.safetensors.index.json").unlink()
    (folder / "one.safetensors").rename(folder / "model.safetensors")
    assert models.check(folder).parameters == 6
    assert models.weight_files(folder) == ["model.safetensors"]


def test_a_template_may_be_a_file_of_its_own(folder):
    write_json(folder / "tokenizer_config.json", {})
    assert not models.check(folder).has_chat_template
    (folder / "chat_template.jinja").touch()
    assert models.check(folder).has_chat_template


def test_a_multimodal_config_has_its_text_part_inside(folder):
    write_json(
        folder / "config.json", {**CONFIG, "max_position_embeddings": 1, "text_config": {"max_position_embeddings": 9}}
    )
    assert models.check(folder).max_position_embeddings == 9


def test_the_bundled_model_is_whole():
    bundled = models.resolve("seedling")
    if not (ASSETS / "seedling" / "model.safetensors").exists():
        pytest.skip("the bundled model has not been trained yet")
    info = models.check(ASSETS / "seedling")
    assert str(info.path) == bundled
    assert info.has_chat_template
    assert models.display_name(bundled) == "seedling"


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


FAULTS = {
    "no folder": (shutil.rmtree, "is not a folder on this machine"),
    "no config": (lambda path: (path / "config.json").unlink(), r"is not a model folder: it has no config\.json"),
    "config is text": (lambda path: (path / "config.json").write_text("hello"), r"config\.json is not valid JSON"),
    "config is cut": (lambda path: cut(path / "config.json", 20), r"config\.json is not valid JSON"),
    "config is a list": (
        lambda path: (path / "config.json").write_text("[]"),
        r"config\.json should hold a JSON object",
    ),
    "config is nested": (
        lambda path: (path / "config.json").write_text("[" * 10**5),
        r"config\.json is not valid JSON",
    ),
    "config is bytes": (
        lambda path: (path / "config.json").write_bytes(b"\xff\xfe"),
        r"config\.json is not valid JSON",
    ),
    "config is a folder": (lambda path: replace_by_folder(path / "config.json"), r"config\.json cannot be read"),
    "no tokenizer": (lambda path: (path / "tokenizer.json").unlink(), r"has no tokenizer \(tokenizer\.json"),
    "tokenizer config": (lambda path: cut(path / "tokenizer_config.json", 3), r"tokenizer_config\.json is not valid"),
    "index is cut": (lambda path: cut(path / "model.safetensors.index.json", 30), r"index\.json is not valid JSON"),
    "index is empty": (lambda path: (path / "model.safetensors.index.json").write_text("{}"), "names no weight files"),
    "index leads out": (
        lambda path: write_json(path / "model.safetensors.index.json", {"weight_map": {"a": "../x.safetensors"}}),
        "names no weight files of this folder",
    ),
    "index of numbers": (
        lambda path: write_json(path / "model.safetensors.index.json", {"weight_map": {"a": 1}}),
        "names no weight files of this folder",
    ),
    "missing shard": (
        lambda path: (path / "two.safetensors").unlink(),
        r"lacks two\.safetensors; it has: .*one\.safetens",
    ),
    "no weights": (
        lambda path: [found.unlink() for found in path.glob("*.safetensors*")],
        r"lacks model\.safetensors; it has: config\.json",
    ),
    "empty shard": (lambda path: cut(path / "two.safetensors", 0), r"two\.safetensors is damaged: it has no readable"),
    "cut header": (
        lambda path: cut(path / "two.safetensors", 40),
        r"two\.safetensors is damaged: its header is cut short",
    ),
    "cut data": (
        lambda path: cut(path / "two.safetensors", -2),
        r"two\.safetensors is damaged: \d+ bytes where its header",
    ),
    "longer": (
        lambda path: (path / "two.safetensors").open("ab").write(b"x"),
        r"two\.safetensors is damaged: \d+ bytes",
    ),
    "pickle": (lambda path: (path / "two.safetensors").write_bytes(b"PK\3\4" * 99), r"two\.safetensors is damaged"),
    "a folder": (lambda path: replace_by_folder(path / "two.safetensors"), r"two\.safetensors cannot be read"),
}


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_model_is_named_by_its_broken_file(folder, fault):
    damage, message = FAULTS[fault]
    damage(folder)
    with pytest.raises(ModelError, match=message):
        models.check(folder)


# headers that lie


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


LIES = {
    "a list": [],
    "a number": 1,
    "tensor is a number": {"a": 1},
    "no offsets": {"a": {"dtype": "F32", "shape": [1]}},
    "one offset": {"a": tensor(offsets=[4])},
    "offsets are text": {"a": tensor(offsets=["0", "4"])},
    "offsets are null": {"a": tensor(offsets=None)},
    "backwards": {"a": tensor(offsets=[4, 0])},
    "negative": {"a": tensor(offsets=[-4, 0])},
    "a gap": {"a": tensor(offsets=[0, 4]), "b": tensor(offsets=[8, 12])},
    "an overlap": {"a": tensor(offsets=[0, 4]), "b": tensor(offsets=[0, 4])},
    "shape too large": {"a": tensor(shape=[2])},
    "shape too small": {"a": tensor(shape=[0])},
    "shape negative": {"a": tensor(shape=[-1, -1])},
    "shape is text": {"a": tensor(shape="1")},
    "shape is huge": {"a": tensor(shape=[10**300, 10**300])},
    "no such dtype": {"a": tensor(dtype="FLOAT")},
    "dtype is null": {"a": tensor(dtype=None)},
    "deep": b"[" * 100_000,
    "not JSON": b"hello",
    "not text": b"\xff\xff",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies(tmp_path, lie):
    path = tmp_path / "lie.safetensors"
    path.write_bytes(safetensors(LIES[lie], b"1234"))
    with pytest.raises(ModelError, match=r"lie\.safetensors is damaged"):
        models.read_header(path)


def test_a_header_longer_than_any_file(tmp_path):
    (tmp_path / "a").write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(ModelError, match="cut short"):
        models.read_header(tmp_path / "a")


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [("BOOL", [3], 3), ("BF16", [2, 2], 8), ("F8_E4M3", [5], 5), ("I64", [], 8), ("F4", [4], 2)],
)
def test_headers_of_every_width(tmp_path, dtype, shape, size):
    header = {"__metadata__": {"a": "b"}, "x": tensor(dtype, shape, [0, size])}
    (tmp_path / "a").write_bytes(safetensors(header, bytes(size)))
    assert set(models.read_header(tmp_path / "a")) == {"x"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=4)
)
TENSORS = st.fixed_dictionaries(
    {}, optional={"dtype": VALUES | st.just("F32"), "shape": VALUES, "data_offsets": VALUES}
)


@given(st.binary() | st.dictionaries(st.text(), VALUES | TENSORS).map(safetensors), st.binary(max_size=8))
def test_no_bytes_raise_anything_but_a_model_error(tmp_path_factory, head, rest):
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    path.write_bytes(head + rest)
    try:
        assert isinstance(models.read_header(path), dict)
    except ModelError:
        return


@given(st.dictionaries(st.sampled_from(["architectures", "text_config", "max_position_embeddings"]), VALUES))
def test_no_config_raises_anything_but_a_model_error(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / "random-model"
    path.mkdir(exist_ok=True)
    write_json(path / "config.json", config)
    write_json(path / "tokenizer.json", {})
    (path / "model.safetensors").write_bytes(safetensors({"a": tensor()}, b"1234"))
    info = models.check(path)
    assert isinstance(info.architecture, str)
    assert info.max_position_embeddings is None or isinstance(info.max_position_embeddings, int)


# adapters


def test_a_whole_adapter(adapter):
    assert models.check_adapter(adapter) == models.AdapterInfo(adapter, 16, "org/model")


def test_the_base_is_found_by_the_name_it_was_given(adapter, folder):
    write_json(adapter / "base.json", {"name": str(folder), "path": "/gone"})
    assert models.check_adapter(adapter).base == str(folder)
    write_json(adapter / "base.json", {"name": "/gone", "path": str(folder)})
    assert models.check_adapter(adapter).base == str(folder)


def edited(**changes):
    def edit(path):
        config = json.loads((path / "adapter_config.json").read_text())
        write_json(path / "adapter_config.json", {**config, **changes})

    return edit


ADAPTER_FAULTS = {
    "no folder": (shutil.rmtree, "is not a folder"),
    "no config": (lambda path: (path / "adapter_config.json").unlink(), "is not an adapter folder"),
    "cut config": (lambda path: cut(path / "adapter_config.json", 9), r"adapter_config\.json is not valid JSON"),
    "no weights": (
        lambda path: (path / "adapter_model.safetensors").unlink(),
        r"adapter_model\.safetensors is missing",
    ),
    "cut weights": (lambda path: cut(path / "adapter_model.safetensors", -1), r"adapter_model\.safetensors is damaged"),
    "no base": (edited(base_model_name_or_path=None), "does not say which model it belongs to"),
    "base is a number": (edited(base_model_name_or_path=3), r"adapter_config\.json is damaged"),
    "base.json is cut": (lambda path: (path / "base.json").write_text('{"name'), r"base\.json is not valid JSON"),
    "another method": (edited(peft_type="IA3"), "holds a IA3 adapter; only LoRA"),
    "no method": (edited(peft_type=None), "only LoRA"),
    "no rank": (edited(r=0, rank_pattern=None), r"adapter_config\.json is damaged \(rank 0\)"),
    "rank is text": (edited(r="eight"), r"adapter_config\.json is damaged"),
    "ranks are a list": (edited(rank_pattern=[1]), r"adapter_config\.json is damaged"),
}


@pytest.mark.parametrize("fault", ADAPTER_FAULTS)
def test_a_broken_adapter_is_named_by_its_broken_file(adapter, fault):
    damage, message = ADAPTER_FAULTS[fault]
    damage(adapter)
    with pytest.raises(ModelError, match=message):
        models.check_adapter(adapter)


def test_an_adapter_of_another_method_can_be_looked_at(adapter):
    edited(peft_type="IA3", r=None, rank_pattern=None)(adapter)
    info = models.adapter_info(adapter)
    assert (info.kind, info.rank, info.base) == ("IA3", 0, "org/model")


def test_a_fingerprint_follows_weights_and_configuration(adapter, tmp_path):
    first = models.fingerprint(adapter)
    copy = shutil.copytree(adapter, tmp_path / "copy")
    assert models.fingerprint(copy) == first
    edited(r=4)(copy)
    assert models.fingerprint(copy) != first
    save_file({"a": numpy.ones((8, 4), "float32")}, adapter / "adapter_model.safetensors")
    assert models.fingerprint(adapter) != first
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors cannot be read"):
        models.fingerprint(adapter)


def lora(adapter, module, shape_a, shape_b, fill=0.0):
    """Give an adapter the LoRA pair of one module."""
    pair = {"lora_A": numpy.ones(shape_a, "float32"), "lora_B": numpy.full(shape_b, fill, "float32")}
    weights = {f"base_model.model.{module}.{name}.weight": weight for name, weight in pair.items()}
    save_file(weights, adapter / "adapter_model.safetensors")


def test_an_adapter_is_untrained_while_all_its_b_are_zero(adapter):
    lora(adapter, "model.layers.0.q", (2, 4), (4, 2))
    assert models.is_untrained(adapter)
    lora(adapter, "model.layers.0.q", (2, 4), (4, 2), fill=1e-8)
    assert not models.is_untrained(adapter)


@pytest.mark.parametrize(
    ("module", "shape_a", "shape_b", "why"),
    [
        ("model.layers.1.q_proj", (2, 4), (6, 2), None),
        ("model.layers.1.c_attn", (2, 3), (5, 2), None),  # stored the other way around
        ("model.layers.1.new_proj", (2, 9), (9, 2), None),  # under another name: the server will say
        ("model.layers.1.conv", (2, 4, 3), (6, 2, 1), None),
        ("model.layers.2.q_proj", (2, 4), (6, 2), "it changes layer 2, and the model has layers 0 to 1"),
        ("model.layers.1.q_proj", (2, 8), (6, 2), r"q_proj is \[6, 4\] in the model and \[6, 8\] in the adapter"),
    ],
)
def test_an_adapter_of_another_base_is_told_by_layers_and_sizes(folder, adapter, module, shape_a, shape_b, why):
    write_json(folder / "config.json", {**CONFIG, "num_hidden_layers": 2})
    names = {"model.layers.1.q_proj.weight": (6, 4), "model.layers.1.c_attn.weight": (3, 5)}
    names["model.layers.1.conv.weight"] = (6, 4, 3)
    weights = {name: numpy.zeros(shape, "float16") for name, shape in names.items()}
    save_file(weights, folder / "one.safetensors")
    lora(adapter, module, shape_a, shape_b)
    found = models.misfit(adapter, folder)
    assert re.search(why, found) if why else found is None


def test_a_head_that_grew_with_the_vocabulary_comes_along_whole(folder, adapter):
    write_json(folder / "config.json", {**CONFIG, "num_hidden_layers": 2})
    save_file({"lm_head.weight": numpy.zeros((6, 4), "float16")}, folder / "one.safetensors")
    parts = {"lora_A.weight": (2, 4), "lora_B.weight": (8, 2), "base_layer.weight": (8, 4)}
    grown = {f"base_model.model.lm_head.{part}": numpy.ones(shape, "float32") for part, shape in parts.items()}
    save_file(grown, adapter / "adapter_model.safetensors")
    assert models.misfit(adapter, folder) is None


# names


def test_resolve(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models.resolve("model") == models.resolve("./model") == models.resolve("~/model") == str(folder)
    assert models.resolve("./gone") == str(tmp_path / "gone")
    assert models.resolve("Qwen/Qwen3-4B") == "Qwen/Qwen3-4B"
    assert models.is_local(models.resolve("model"))
    assert not models.is_local(models.resolve("Qwen/Qwen3-4B"))


@pytest.mark.parametrize("name", ["~nobody-here/x", "a\0b", "/a\0b", "x" * 5000, "/" + "x" * 5000, "\ud800"])
def test_no_name_breaks_resolve(name):
    folder = models.resolve(name)
    with pytest.raises(ModelError):
        models.check(Path(folder))


def test_local_models_are_found_one_level_down(tmp_path, folder):
    (tmp_path / "deep" / "er" / "still").mkdir(parents=True)
    write_json(tmp_path / "deep" / "er" / "config.json", {})
    write_json(tmp_path / "deep" / "er" / "still" / "config.json", {})
    assert models.local_models([tmp_path]) == sorted([folder, tmp_path / "deep" / "er"])
    assert models.local_models([tmp_path / "none"]) == []


def test_the_same_weights_in_other_files_are_the_same(folder, tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    parts = [load_file(folder / name) for name in models.weight_files(folder)]
    weights = {name: weight for part in parts for name, weight in part.items()}
    save_file(weights, whole / "model.safetensors")
    assert models.weights_fingerprint(whole) == models.weights_fingerprint(folder)
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, whole / "model.safetensors")
    assert models.weights_fingerprint(whole) != models.weights_fingerprint(folder)
