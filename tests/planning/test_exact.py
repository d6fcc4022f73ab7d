"""What can be worked out exactly, beside real models and optimizers: counts of parameters, bytes of states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest

from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.planning import memory, optimizer, parameters, shape
from studio.planning.activations import layers_bytes
from studio.planning.batch import Batch
from studio.planning.ways import PLAIN, Ways
from tests.worker.conftest import make_model, tokenizer_dir  # noqa: F401  # a fixture

TOKENS = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:  # noqa: F811
    """A model large enough for 8-bit states, whose output head is its own."""
    sizes = {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 3, "tie_word_embeddings": False}
    return make_model(tmp_path_factory.mktemp("model"), tokenizer_dir, **sizes)


def of(**keys: Any) -> TrainConfig:
    return parse(TrainConfig, {"dataset": "demo", "bf16": None if keys.get("pure_bf16") else False, **keys})


def load(config: TrainConfig, folder: Path) -> Any:
    """The model as the worker trains it."""
    from peft import get_peft_model

    from studio import models
    from studio.worker import methods, sharding
    from studio.worker.ranks import Rank
    from studio.worker.tokenizer import load as load_tokenizer

    head = "reward" if config.stage == "rm" else "causal"
    tokenizer = load_tokenizer(folder, False)
    model = methods.load(config, models.check(folder), tokenizer, head, sharding.of(config, Rank(), folder))
    model, adapter = methods.attach(config, model, folder)
    return get_peft_model(model, adapter) if adapter else model


METHODS: list[dict[str, Any]] = [
    {},
    {"lora_rank": 64, "lora_target": "q_proj,v_proj"},
    {"lora_target": r".*\.mlp\.(up|down)_proj"},
    {"lora_target": r".*\.[0-9]{1,2}\.mlp\.up_proj"},
    {"lora_target": "self_attn.q_proj"},
    {"layers_to_transform": "0,2"},
    {"use_dora": True},
    {"use_adalora": True},
    {"additional_target": "embed_tokens,lm_head"},
    {"finetuning_type": "full"},
    {"finetuning_type": "full", "pure_bf16": True},
    {"finetuning_type": "freeze", "freeze_trainable_layers": 2},
    {"finetuning_type": "freeze", "freeze_trainable_layers": -1, "freeze_trainable_modules": "self_attn"},
    {"finetuning_type": "freeze", "freeze_trainable_layers": 1, "freeze_extra_modules": "lm_head,norm"},
    {"stage": "rm"},
    {"stage": "rm", "finetuning_type": "full"},
    {"quantization_bit": 4},
    {"quantization_bit": 4, "double_quantization": False},
]


@pytest.mark.parametrize("keys", METHODS, ids=lambda keys: " ".join(map(str, keys.values())) or "lora")
def test_parameters_and_bytes_of_weights(folder: Path, keys: dict[str, Any]) -> None:
    config = of(**keys)
    model, found = load(config, folder), parameters.of(config, shape.read(folder))
    free = [weight for weight in model.parameters() if weight.requires_grad]
    assert found.trainable == sum(weight.numel() for weight in free)
    held = memory.weights(memory.work_of(config, shape.read(folder), BATCH, on_gpu=False))
    assert held == pytest.approx(sum(_bytes(model)), rel=1e-4 if config.quantization_bit is None else 0.02)
    if config.quantization_bit is None:
        assert found.total == pytest.approx(sum(weight.numel() for weight in model.parameters()), rel=1e-4)


BATCH = Batch(TOKENS, TOKENS, masked=True)
OPTIMIZERS = [
    *("adamw_torch", "adamw_torch_fused", "adamw_8bit", "adafactor", "lion_32bit", "sgd", "muon"),
    *("schedule_free_adamw", "schedule_free_sgd", "galore_adamw"),
]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_bytes_of_an_optimizer(folder: Path, name: str) -> None:
    import torch

    from studio.worker import optimizers

    keys = {"galore_rank": 8} if name == "galore_adamw" else {}
    keys |= {"lr_scheduler_type": "constant"} if "schedule_free" in name else {}
    config = of(finetuning_type="full", optim=name, **keys)
    model = load(config, folder)
    trained = parameters.of(config, shape.read(folder)).trained
    optimizer_ = optimizers.build(config, model, 10)
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight)
    getattr(optimizer_, "train", lambda: None)()
    optimizer_.step()
    found = sum(tensor.nbytes for tensor in _tensors(optimizer_.state))
    assert optimizer.state_bytes(config, trained, 4) == pytest.approx(found, rel=0.005)


def test_paged_states_are_not_counted_on_the_device_but_in_checkpoints(folder: Path) -> None:
    trained = shape.read(folder).tensors
    paged, plain = of(optim="paged_adamw_32bit", finetuning_type="full"), of(finetuning_type="full")
    assert optimizer.state_bytes(paged, trained, 4) == 0
    assert optimizer.stored_bytes(paged, trained, 4) == optimizer.stored_bytes(plain, trained, 4)


ACTIVATIONS: list[dict[str, Any]] = [
    {},
    {"bf16": True},
    {"bf16": True, "use_dora": True},
    {"finetuning_type": "full"},
    {"bf16": True, "finetuning_type": "full"},
    {"bf16": True, "finetuning_type": "freeze", "freeze_trainable_layers": 2},
    {"pure_bf16": True, "finetuning_type": "full"},
]


@pytest.mark.parametrize("keys", ACTIVATIONS, ids=lambda keys: " ".join(map(str, keys.values())) or "lora")
@pytest.mark.parametrize("rows", [1, 4])
def test_activations_that_autograd_keeps(folder: Path, keys: dict[str, Any], rows: int) -> None:
    config = of(**keys)
    work = memory.work_of(config, shape.read(folder), Batch(TOKENS, TOKENS, masked=rows > 1), on_gpu=False, by=PLAIN)
    expected = layers_bytes(work) + memory.cast_weights(work)
    assert expected == pytest.approx(_kept(config, load(config, folder), rows), rel=0.06)


@pytest.mark.parametrize("keys", [{}, {"bf16": True}, {"bf16": True, "lora_rank": 32}], ids=["float", "bf16", "rank"])
@pytest.mark.parametrize("rows", [1, 4])
def test_what_autograd_keeps_of_rows_by_their_lengths_with_fused_adapters(
    folder: Path, keys: dict[str, Any], rows: int
) -> None:
    from studio.worker.fast import attention, lora

    config = of(**keys)
    model = load(config, folder)
    assert not lora.fuse(model, config).why
    assert attention.is_flat(model)
    by = Ways(attention=True, lora=True)
    work = memory.work_of(config, shape.read(folder), Batch(TOKENS, TOKENS, masked=rows > 1), on_gpu=False, by=by)
    # on a CPU rows are attended to one by one, and their results laid together once more
    joined = work.shape.layers * TOKENS * work.shape.query * work.precision.computed
    kept = _kept(config, model, rows, attention.row_keys([TOKENS // rows] * rows))
    assert layers_bytes(work) + joined == pytest.approx(kept, rel=0.06)


@dataclass(eq=False)
class Held:
    """A tensor that autograd keeps, as long as it does."""

    tensor: Any


def _kept(config: TrainConfig, model: Any, rows: int, keys: dict[str, Any] | None = None) -> int:
    """Bytes that autograd holds on to after the way forth through the layers, weights left out."""
    import torch

    known = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    held: WeakSet[Held] = WeakSet()

    def keep(tensor: Any) -> Held:
        held.add(kept := Held(tensor))
        return kept

    positions = torch.arange(TOKENS // rows).repeat(rows)[None]
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model.model.model
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bool(config.bf16))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept.tensor), autocast:
        out = decoder(input_ids=torch.arange(TOKENS)[None], position_ids=positions, use_cache=False, **(keys or {}))
    assert out.last_hidden_state.requires_grad
    storages = [each.tensor.untyped_storage() for each in held]
    return sum({each.data_ptr(): each.nbytes() for each in storages if each.data_ptr() not in known}.values())


def _bytes(model: Any) -> Iterator[int]:
    """Of all weights, with the scales of quantised ones."""
    for weight in model.parameters():
        yield weight.nbytes
        if state := getattr(weight, "quant_state", None):
            yield state.absmax.nbytes
            yield state.state2.absmax.nbytes if state.nested else 0


def _tensors(value: Any) -> Iterator[Any]:
    """Those of moments and projections, however deep; bitsandbytes' tables of codes are shared."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            if not str(key).startswith("qmap"):
                yield from _tensors(each)
    elif hasattr(value, "ortho_matrix"):
        yield from _tensors(value.ortho_matrix)
