"""The stream by itself: bytes, hashes, files and memory, with changes made for the purpose."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from studio import models
from studio.errors import ModelError
from studio.worker.merging import stream
from studio.worker.merging.work import Change, Plan, Read, Source, Tensor

SIZE = 200_000_000
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Plus:
    """Adds the stored `added`, line by line or all at once, and writes down which lines it was given."""

    added: Source
    seen: list[slice]
    whole: bool = False

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.added,)

    def apply(self, weight: torch.Tensor, read: Read, rows: slice) -> torch.Tensor:
        assert weight.dtype == torch.float32
        self.seen.append(rows)
        return weight.add_(read(self.added)[rows])


@dataclass(frozen=True)
class Doubled:
    """Twice the weight."""

    whole: bool = False
    sources: tuple[Source, ...] = ()

    def apply(self, weight: torch.Tensor, read: Read, rows: slice) -> torch.Tensor:
        return weight.mul_(2)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A file with a tensor of every kind that a model may have."""
    torch.manual_seed(0)
    weights = {
        "large": torch.randn(300, 70).bfloat16(),
        "wide": torch.randn(40, 9, 11),
        "half": torch.randn(50, 20).half(),
        "length": torch.randn(()),
        "none": torch.empty(0, 8),
        "numbers": torch.arange(6),
        "flags": torch.tensor([True, False, True]),
        "small": torch.randn(64).to(torch.float8_e4m3fn),
    }
    save_file(weights, tmp_path / "base.safetensors", {"format": "pt"})
    return tmp_path / "base.safetensors"


@pytest.fixture
def added(tmp_path: Path) -> Path:
    """Another file, with what is added to `large`, and an `other` tensor."""
    torch.manual_seed(1)
    weights = {"large": torch.randn(300, 70), "other": torch.randn(33, 3).bfloat16(), "unread": torch.randn(500)}
    save_file(weights, tmp_path / "added.safetensors")
    return tmp_path / "added.safetensors"


def tensors(path: Path, **changes: tuple[Change, ...]) -> list[Tensor]:
    """Every tensor of a file, as it is or with `changes`."""
    return [
        Tensor(name, Source(path, name), tuple(each["shape"]), each["dtype"], each["dtype"], changes.get(name, ()))
        for name, each in models.read_header(path).items()
    ]


def written(plan: list[Tensor], target: Path, shard_bytes: int = 10**9) -> Any:
    target.mkdir()
    return stream.write(Plan(tuple(plan)), target, shard_bytes, lambda done, total: None)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_not_changed_stays_as_it_is_to_the_bit(base: Path, tmp_path: Path) -> None:
    written(tensors(base), tmp_path / "out")
    before, after = load_file(base), load_file(tmp_path / "out/model.safetensors")
    assert before.keys() == after.keys()
    for name, weight in before.items():
        assert (after[name].dtype, after[name].shape) == (weight.dtype, weight.shape)
        assert after[name].reshape(-1).view(torch.uint8).equal(weight.reshape(-1).view(torch.uint8))
    with safe_open(tmp_path / "out/model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}  # Transformers refuses files without


@pytest.mark.parametrize("whole", [False, True])
def test_a_change_sees_every_line_once(
    base: Path, added: Path, tmp_path: Path, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PIECE_BYTES", 1000)
    change = Plus(Source(added, "large"), [], whole)
    written(tensors(base, large=(change, change)), tmp_path / "out")
    wanted = load_file(base)["large"].float() + 2 * load_file(added)["large"]
    assert load_file(tmp_path / "out/model.safetensors")["large"].equal(wanted.bfloat16())
    rows = sorted((each.start, each.stop) for each in change.seen)
    assert rows == ([(0, 300)] * 2 if whole else sorted(2 * [(n, min(n + 7, 300)) for n in range(0, 300, 7)]))


def test_hashes_are_those_of_the_files(base: Path, added: Path, tmp_path: Path) -> None:
    """Also where a tensor is read twice, where one is not read at all, and where one comes from nowhere."""
    plan = [
        *tensors(base, large=(Plus(Source(added, "large"), []),)),
        Tensor("twin", Source(base, "half"), (50, 20), "F16", "F16"),
        Tensor("other", Source(added, "other"), (33, 3), "BF16", "BF16", whole=True),
        Tensor("bias", None, (5,), "BF16", "BF16"),
    ]
    found = written([tensor for tensor in plan if tensor.name != "wide"], tmp_path / "out", shard_bytes=20_000)
    assert found.inputs == {str(path): digest(path) for path in (base, added)}
    assert found.outputs == {path.name: digest(path) for path in (tmp_path / "out").glob("*.safetensors")}
    assert len(found.outputs) > 2
    after = {name: each for path in found.outputs for name, each in load_file(tmp_path / "out" / path).items()}
    assert after["twin"].equal(after["half"])
    assert after["bias"].equal(torch.zeros(5, dtype=torch.bfloat16))
    assert found.bytes_read == base.stat().st_size + added.stat().st_size


def test_files_are_of_the_size_asked_for_and_the_index_counts_bytes(base: Path, tmp_path: Path) -> None:
    written(tensors(base), tmp_path / "out", shard_bytes=16_000)
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    inside = {path.name: models.read_header(path) for path in (tmp_path / "out").glob("*.safetensors")}
    sizes = {
        name: sum(e["data_offsets"][1] - e["data_offsets"][0] for e in each.values()) for name, each in inside.items()
    }
    assert index["metadata"]["total_size"] == sum(sizes.values())
    assert index["weight_map"] == {tensor: name for name, each in inside.items() for tensor in each}
    assert sorted(inside) == [f"model-{n:05d}-of-{len(inside):05d}.safetensors" for n in range(1, len(inside) + 1)]
    assert all(size <= 16_000 for name, size in sizes.items() if len(inside[name]) > 1)
    assert models.weight_files(tmp_path / "out") == sorted(inside)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_types_are_as_asked(base: Path, tmp_path: Path, dtype: str) -> None:
    plan = [replace(each, dtype=dtype) for each in tensors(base) if each.name in ("large", "wide", "half", "none")]
    written(plan, tmp_path / "out")
    before = load_file(base)
    for name, weight in load_file(tmp_path / "out/model.safetensors").items():
        assert weight.dtype == {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[dtype]
        assert weight.equal(before[name].to(weight.dtype))


def test_a_number_beyond_float16_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.tensor([1.0, 7e4, float("inf")])}, tmp_path / "a.safetensors")
    [tensor] = tensors(tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="x holds numbers beyond float16: set export_dtype"):
        written([replace(tensor, dtype="F16")], tmp_path / "out")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[20:24] = b"\xff\xfe{{"
    path.write_bytes(data)


def inflate(path: Path) -> None:
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


@pytest.mark.parametrize("damage", [cut, scribble, inflate], ids=["cut", "scribbled", "inflated"])
@pytest.mark.parametrize("which", ["base", "added"])
def test_a_damaged_file_is_named(
    base: Path, added: Path, tmp_path: Path, damage: Callable[[Path], None], which: str
) -> None:
    plan = tensors(base, large=(Plus(Source(added, "large"), []),))
    path = {"base": base, "added": added}[which]
    damage(path)
    with pytest.raises(ModelError, match=f"{re.escape(str(path))} is damaged"):
        written(plan, tmp_path / "out")


def test_a_file_that_shrinks_while_it_is_read(base: Path, tmp_path: Path) -> None:
    plan, target = tensors(base), tmp_path / "out"
    target.mkdir()

    def shrink(done: int, total: int) -> None:
        with open(base, "rb+") as file:
            file.truncate(100)

    with pytest.raises(ModelError, match="was cut short while it was read"):
        stream.write(Plan(tuple(plan)), target, 1000, shrink)


def test_numbers_that_share_bytes_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="type F4 cannot be merged"):
        written([Tensor("x", Source(base, "large"), (8,), "F4", "F4")], tmp_path / "out")


def test_a_file_that_is_gone(base: Path, tmp_path: Path) -> None:
    plan = tensors(base)
    base.unlink()
    with pytest.raises(ModelError, match=r"base\.safetensors is missing"):
        written(plan, tmp_path / "out")


def test_a_tensor_that_is_gone(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"base.safetensors lacks ghost: copy the whole model again"):
        written([Tensor("ghost", Source(base, "ghost"), (2,), "F32", "F32")], tmp_path / "out")


def test_an_error_of_a_change_ends_the_writing(base: Path, added: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="size of tensor"):
        written(tensors(base, large=(Plus(Source(added, "other"), []),)), tmp_path / "out")


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """Tensors of 200 MB, one of them changed; the file is a hole, so it costs the disk nothing but what is written."""
    header = {name: {"dtype": "BF16", "shape": [50_000, 2000]} for name in ("a", "b")}
    for number, each in enumerate(header.values()):
        each["data_offsets"] = [number * SIZE, (number + 1) * SIZE]  # type: ignore[assignment]
    text = json.dumps(header).encode()
    with open(tmp_path / "base.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 2 * SIZE)
    code = (
        "import sys; from pathlib import Path; from tests.worker.merging.test_stream import Doubled, tensors, written\n"
        "from studio.worker.merging.ledger import peak_bytes\n"
        "base = Path(sys.argv[1]); before = peak_bytes()\n"
        "written(tensors(base, a=(Doubled(),)), base.parent / 'out')\n"
        "print((peak_bytes() - before) / 1e6)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "base.safetensors")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert float(output) < 1.3 * SIZE / 1e6  # one such tensor in float32 is twice that by itself
