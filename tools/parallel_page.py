"""The page docs/parallel.md: strategies, what each keeps where, what goes with what, other programs' files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from studio.config.llamafactory.environment import OPTIONS
from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.config.train.rules.parallel import ON_GPUS, UNSHARDED, WHOLE
from studio.parallel import accelerate, fsdp_keys
from studio.parallel.foreign import Fates
from studio.parallel.strategies import STRATEGIES
from studio.planning.batch import Batch
from studio.planning.memory import estimate, host_gb
from studio.planning.shape import Shape, Tensor
from studio.planning.team import Team
from studio.planning.ways import PLAIN

PROCESSES = 8
LAYERS, WIDE, MIDDLE, WORDS = 32, 4096, 11_008, 32_000
BATCH = Batch(2048, 2048, masked=False)
OFFLOADS: tuple[Mapping[str, str], ...] = (
    {"parallel_strategy": "zero2", "offload_optimizer": "cpu"},
    {"parallel_strategy": "zero3", "offload_optimizer": "cpu"},
    {"parallel_strategy": "zero3", "offload_optimizer": "cpu", "offload_param": "cpu"},
    {"parallel_strategy": "fsdp2", "offload_param": "cpu"},
)
INTRODUCTION = f"""\
`parallel_strategy` says how a training is spread; every other option of the section has a default that runs. The form
shows what one device needs as it is chosen. The last columns are that figure for Llama 7B on {PROCESSES} GPUs, one row
of 2048 tokens a process with gradient checkpointing, in GB: all weights trained, and LoRA."""
OFFLOADING = f"""\
## Offloading

What is offloaded waits in the memory of the machine, or with `nvme` (ZeRO only) in `nvme_path`, and the GPU waits for
it. It pays where nothing else fits. GB for the same model on {PROCESSES} GPUs of one machine, all weights trained:"""
SEVERAL = """\
## Several machines

`nnodes`, or a `hostfile`, and `launcher: local`: the studio shows what to type on each further machine. With `launcher:
slurm` it submits the job. All machines see the studio and its saves folder under the same paths.

LLaMA-Factory's words of the environment are heard with `FORCE_TORCHRUN=1`: {words}.
Options that are written go before them. The other machines join with `--node-rank`, which takes the place of
`NODE_RANK`."""
NOT_OFFERED = """\
## What is not offered

Models larger than one GPU are trained with `zero3` or `fsdp2`, with `device_map` for LoRA, and served with vLLM's
tensor and pipeline parallel sizes. In a training, neither of these two is offered:

- **Tensor parallel.** Full fine-tuning with it, by Transformers' plans (with FSDP2 or without) and by DeepSpeed's
  AutoTP, follows the curve of one process within 1e-6 on two and four processes. A LoRA does not: by Transformers'
  plans its curve departs by 4e-3 in 20 steps, as each process starts its part of the adapter by itself, and saving the
  adapter fails; AutoTP loses the weights that its optimizer is to train. What a LoRA cannot take, and what needs
  links as fast as NVLink at every layer, is not worth its own kind of batches and checkpoints beside `zero3`.
- **Pipeline parallel.** PyTorch's and DeepSpeed's pipelines cut a model into stages and drive the steps themselves.
  Transformers' Trainer and TRL compute their losses on the whole output of a whole model and have no place for them."""
OWN_FILES = """\
## Settings of your own

`deepspeed` takes DeepSpeed's JSON, as text, as a mapping of the YAML, or as the path of a file, which is looked for
beside the YAML, in the folders above it, and where the command is given. What it says goes before what is generated; a
key that DeepSpeed does not know is refused by name, as is one that says something else than an option. The run keeps
what it trains with in `deepspeed.json`.

`accelerate_config=FILE.yaml` takes what `accelerate config` wrote; options that are written go before it. What becomes
of each of its keys:"""


def page(head: str) -> str:
    """The whole page."""
    lines = [head, "# Several devices", "", INTRODUCTION, "", *_strategies(), "", OFFLOADING, "", *_offloads(), ""]
    lines += ["## What does not go together", "", *_refusals(), ""]
    words = ", ".join(f"`{word}` is `{option}`" for word, option in OPTIONS.items())
    lines += [SEVERAL.format(words=words), "", NOT_OFFERED, "", OWN_FILES, "", *_fates()]
    return "\n".join(lines) + "\n"


def _strategies() -> Iterator[str]:
    yield "| strategy | what it does | full | LoRA |"
    yield "|---|---|---|---|"
    for name, strategy in STRATEGIES.items():
        kinds = ("full", "lora") if name != "device_map" else ("lora",)
        full, lora = ["", *(_gb({"parallel_strategy": name, "finetuning_type": kind}) for kind in kinds)][-2:]
        figures = f"{full} | {lora}"
        yield f"| `{name}` | {strategy.sentence[0]} | {figures} |"


def _offloads() -> Iterator[str]:
    yield "| options | each GPU | the machine |"
    yield "|---|---|---|"
    for keys in OFFLOADS:
        told = ", ".join(f"`{key}: {value}`" for key, value in keys.items())
        config = _config({**keys, "finetuning_type": "full"})
        host = host_gb(config, _seven(), BATCH, True, Team(PROCESSES, PROCESSES))
        yield f"| {told} | {_gb({**keys, 'finetuning_type': 'full'})} | {host:.0f} |"


def _refusals() -> Iterator[str]:
    by_optimizers: dict[tuple[str, ...], list[str]] = {}
    for strategy, optimizers in UNSHARDED.items():
        by_optimizers.setdefault(optimizers, []).append(strategy)
    for optimizers, strategies in by_optimizers.items():
        yield f"- {_codes(strategies)}: not with `optim` {_codes(optimizers)}."
    yield f"- Offloading: not with `optim` {_codes(ON_GPUS)}, which keep their states on a GPU."
    for strategy, keys in WHOLE.items():
        yield f"- `{strategy}`: not with {_codes(keys)}."
    yield "- `zero1`, `zero2`, `zero3`: not with `pure_bf16`: DeepSpeed keeps copies in float32 all the same."
    yield "- `fsdp2`: not with `fp16`, or embeddings beside an adapter."
    yield "- `nvme`: with `zero3` only."


def _fates() -> Iterator[str]:
    sections = {"": accelerate.FATES, "deepspeed_config": accelerate.DEEPSPEED, "fsdp_config": fsdp_keys.FATES}
    yield "| key | here |"
    yield "|---|---|"
    for section, fates in sections.items():
        for key in sorted(fates.keys):
            yield f"| `{section}.{key}` | {_fate(key, fates)} |" if section else f"| `{key}` | {_fate(key, fates)} |"


def _fate(key: str, fates: Fates) -> str:
    if key in fates.taken:
        return "taken"
    if key in fates.inert:
        return f"without effect: {fates.inert[key]}"
    return f"refused; instead: {fates.refused[key]}"


def _gb(keys: Mapping[str, str]) -> str:
    config = _config(keys)
    alone = {"single": Team(), "device_map": Team(devices=PROCESSES)}
    team = alone.get(config.parallel_strategy, Team(PROCESSES, PROCESSES))
    # what Liger would save is left out: the page is the same on machines that lack it
    return f"{estimate(config, _seven(), BATCH, True, LAYERS, team, by=PLAIN).total_gb:.0f}"


def _config(keys: Mapping[str, str]) -> TrainConfig:
    return parse(TrainConfig, {"dataset": "a", "bf16": True, "gradient_checkpointing": "on", **keys})


def _seven() -> Shape:
    """Llama 7B."""
    tensors = [Tensor(f"{name}.weight", (WORDS, WIDE), 0) for name in ("model.embed_tokens", "lm_head")]
    tensors.append(Tensor("model.norm.weight", (WIDE,), 0))
    for layer in range(LAYERS):
        own = f"model.layers.{layer}"
        tensors += [Tensor(f"{own}.self_attn.{name}_proj.weight", (WIDE, WIDE), 0) for name in "qkvo"]
        tensors += [Tensor(f"{own}.mlp.{name}_proj.weight", (MIDDLE, WIDE), 0) for name in ("gate", "up")]
        tensors += [Tensor(f"{own}.mlp.down_proj.weight", (WIDE, MIDDLE), 0)]
        tensors += [Tensor(f"{own}.{name}_layernorm.weight", (WIDE,), 0) for name in ("input", "post_attention")]
    return Shape(
        kind="llama",
        layers=LAYERS,
        hidden=WIDE,
        heads=32,
        query=WIDE,
        keys=WIDE,
        intermediate=MIDDLE,
        vocabulary=WORDS,
        context=4096,
        gated=True,
        packed=False,
        attention_dropout=0,
        tensors=tuple(tensors),
    )


def _codes(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
