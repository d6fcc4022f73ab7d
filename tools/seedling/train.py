"""Train Seedling from nothing: plain text and conversations in one stream, then bf16 weights on disk.

    python train.py --tokenizer ../../studio/assets/seedling --out /tmp/seedling --results /tmp/seedling

The corpus is drawn, tokenised and packed by all cores first and then lives on the device. A packed row
holds whole documents; attention never crosses from one into the next. In conversations the loss is on what
the assistant says, its end token included; in plain text on everything.
"""

import argparse
import json
import math
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

# A packed token is 16 bits: its id (12), whether it is trained (as a target), whether a document starts here.
ID_BITS, TRAIN_BIT, START_BIT = 0x0FFF, 0x8000, 0x4000
IGNORED = -100


@dataclass(frozen=True)
class Recipe:
    seed: int = 7
    shards: int = 160
    documents_per_shard: int = 20_000
    row_tokens: int = 2048
    batch_rows: int = 64
    steps: int = 6000
    learning_rate: float = 3e-3
    warmup_steps: int = 300
    weight_decay: float = 0.1


def model_config(bos: int, eos: int, pad: int) -> LlamaConfig:
    """5.8 M parameters; every row a multiple of 256 wide, so that llama.cpp's K-quants apply."""
    return LlamaConfig(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=pad,
    )


# ---- the corpus as packed rows


def mark(ids: np.ndarray, header: list[int], end: int) -> np.ndarray:
    """Which tokens of a rendered conversation the assistant says: after each header, to the next end token."""
    said = np.zeros(len(ids), bool)
    heads = np.flatnonzero(ids == header[0])
    ends = np.flatnonzero(ids == end)
    for head in heads:
        start = head + len(header)
        if list(ids[head:start]) == header:
            said[start : ends[np.searchsorted(ends, start)] + 1] = True
    return said


def tokens_of_shard(tokenizer: Tokenizer, recipe: Recipe, shard: int) -> Iterator[np.ndarray]:
    """Each document of a shard as packed 16-bit tokens."""
    header = tokenizer.encode("<|im_start|>assistant\n").ids
    end, stop = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id(corpus.END)
    documents = list(corpus.draw_documents(recipe.seed, shard, recipe.documents_per_shard))
    texts = [corpus.as_text(document) for document in documents]
    for document, encoding in zip(documents, tokenizer.encode_batch_fast(texts), strict=True):
        ids = np.array([*encoding.ids, stop], np.uint16)
        said = np.ones(len(ids), bool) if isinstance(document, str) else mark(ids, header, end)
        ids[said] |= TRAIN_BIT
        ids[0] |= START_BIT
        yield ids[: recipe.row_tokens]


def pack_shard(job: tuple[str, Recipe, int]) -> np.ndarray:
    """A shard as (rows, row_tokens) of packed tokens; a row's rest is one untrained document of padding."""
    tokenizer_file, recipe, shard = job
    tokenizer = Tokenizer.from_file(tokenizer_file)
    padding = np.full(recipe.row_tokens, tokenizer.token_to_id(corpus.END), np.uint16)
    padding[0] |= START_BIT
    rows: list[np.ndarray] = []
    row, room = padding.copy(), recipe.row_tokens
    for ids in tokens_of_shard(tokenizer, recipe, shard):
        if len(ids) > room:
            rows.append(row)
            row, room = padding.copy(), recipe.row_tokens
        start = recipe.row_tokens - room
        row[start : start + len(ids)] = ids
        room -= len(ids)
        row[recipe.row_tokens - room :] = padding[:room]
    return np.stack(rows)


def pack_corpus(tokenizer_file: Path, recipe: Recipe) -> np.ndarray:
    """(rows, row_tokens) of packed tokens, the shards in order."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    jobs = [(str(tokenizer_file), recipe, shard) for shard in range(recipe.shards)]
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        return np.concatenate(pool.map(pack_shard, jobs, chunksize=1))


# ---- the model: Llama, with transformers' names so that its weights load there as they are


class Norm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.size(-1),), self.weight, self.eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on (batch, heads, tokens, head_dim), halves paired as Llama in transformers does."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.num_attention_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, config.num_key_value_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, config.num_key_value_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * self.head_dim, config.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: BlockMask | Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if isinstance(mask, BlockMask):
            out = flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: BlockMask | Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, config: LlamaConfig, tokens: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size, config.rms_norm_eps)
        half = torch.arange(0, config.head_dim, 2).float() / config.head_dim
        angles = torch.outer(torch.arange(tokens).float(), 10_000.0**-half)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.apply(initialise)
        for name, weight in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):  # what is added to the residual starts small
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * config.num_hidden_layers))

    def forward(self, ids: Tensor, targets: Tensor, mask: BlockMask | Tensor) -> Tensor:
        """Mean loss over the targets that are not IGNORED; ids and targets are (rows, tokens)."""
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin, mask)
        logits = F.linear(self.norm(x), self.embed_tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED)


def initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


# ---- training


def unpack(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Packed rows as (ids, targets, document numbers), each (rows, tokens) of int64."""
    ids = rows & ID_BITS
    documents = ((rows & START_BIT) != 0).long().cumsum(1)
    targets = torch.full_like(ids, IGNORED)
    targets[:, :-1] = torch.where((rows[:, 1:] & TRAIN_BIT) != 0, ids[:, 1:], IGNORED)
    # a document's last token must not be asked for the first one of the next
    targets[:, :-1].masked_fill_(documents[:, 1:] != documents[:, :-1], IGNORED)
    return ids, targets, documents


def document_mask(documents: Tensor, blocks: bool) -> BlockMask | Tensor:
    """Causal within each document: blocks for flex_attention, or (rows, 1, tokens, tokens) of bool."""
    rows, tokens = documents.shape
    if not blocks:
        same = documents[:, None, :, None] == documents[:, None, None, :]
        return same & torch.ones(tokens, tokens, dtype=torch.bool, device=documents.device).tril()

    def visible(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (documents[row, query] == documents[row, key])

    return make_blocks(visible, rows, None, tokens, tokens, device=documents.device)


make_blocks = torch.compile(create_block_mask)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Warm up, stay, then fall in a straight line to zero over the last half."""
    rising = (step + 1) / recipe.warmup_steps
    falling = (recipe.steps - step) / (recipe.steps * 0.5)
    return recipe.learning_rate * min(rising, 1.0, falling)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.dim() == 2]
    norms = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": norms, "weight_decay": 0.0}]
    fused = matrices[0].is_cuda
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), fused=fused)


def train(model: Llama, packed: Tensor, recipe: Recipe) -> list[tuple[int, float]]:
    """Train in place on (rows, row_tokens) of packed tokens; (step, loss) every 100 steps."""
    cuda = packed.is_cuda
    optimizer = make_optimizer(model, recipe)
    forward = torch.compile(model) if cuda else model
    generator = torch.Generator(packed.device).manual_seed(recipe.seed)
    order = torch.empty(0, dtype=torch.long, device=packed.device)
    losses, started = [], time.monotonic()
    for step in range(recipe.steps):
        if len(order) < recipe.batch_rows:
            order = torch.randperm(len(packed), generator=generator, device=packed.device)
        batch, order = order[: recipe.batch_rows], order[recipe.batch_rows :]
        ids, targets, documents = unpack(packed[batch].long())
        with torch.autocast(packed.device.type, torch.bfloat16):
            loss = forward(ids, targets, document_mask(documents, blocks=cuda))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == recipe.steps - 1:
            losses.append((step, round(loss.item(), 4)))
            print(f"step {step:5d}  loss {losses[-1][1]:.4f}  {time.monotonic() - started:6.1f} s", flush=True)
    return losses


def save(model: Llama, config: LlamaConfig, tokenizer_dir: Path, out: Path) -> None:
    """The model as transformers keeps it, in bf16, with its tokenizer."""
    weights = {f"model.{name}": weight for name, weight in model.state_dict().items()}
    bundled = LlamaForCausalLM(config)
    bundled.load_state_dict(weights | {"lm_head.weight": weights["model.embed_tokens.weight"]})
    bundled.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    bundled.to(torch.bfloat16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (tokenizer_dir / name).resolve() != (out / name).resolve():
            shutil.copyfile(tokenizer_dir / name, out / name)


def report(recipe: Recipe, config: LlamaConfig, model: nn.Module, packed: Tensor) -> dict[str, Any]:
    """What the card states of a training, less its times."""
    return {
        "recipe": asdict(recipe),
        "config": {name: getattr(config, name) for name in STATED},
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": torch.cuda.get_device_name() if packed.is_cuda else "CPU",
        "torch": torch.__version__,
        "corpus_tokens": packed.numel(),
        "trained_tokens": recipe.steps * recipe.batch_rows * recipe.row_tokens,
    }


STATED = (
    "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
    "head_dim", "max_position_embeddings", "vocab_size",
)  # fmt: skip


def parse() -> tuple[Recipe, Path, Path, Path]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path, required=True, help="the folder that tokenizer.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True, help="where training.json goes")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = vars(parser.parse_args())
    paths = [args.pop(name) for name in ("tokenizer", "out", "results")]
    return Recipe(**args), *paths


def main() -> None:
    recipe, tokenizer_dir, out, results = parse()
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(recipe.seed)
    torch.set_float32_matmul_precision("high")
    started = time.monotonic()
    packed = torch.from_numpy(pack_corpus(tokenizer_dir / "tokenizer.json", recipe).view(np.int16)).to(device)
    packed_s = time.monotonic() - started
    print(f"{packed.numel() / 1e6:.1f} M tokens in {len(packed)} rows, made in {packed_s:.0f} s", flush=True)
    tokenizer = Tokenizer.from_file(str(tokenizer_dir / "tokenizer.json"))
    config = model_config(*(tokenizer.token_to_id(t) for t in (corpus.END, "<|im_end|>", corpus.END)))
    model = Llama(config, recipe.row_tokens).to(device)
    losses = train(model, packed, recipe)
    save(model, config, tokenizer_dir, out)
    times = {"corpus_s": round(packed_s), "training_s": round(time.monotonic() - started - packed_s)}
    measured = report(recipe, config, model, packed) | times | {"losses": losses}
    results.mkdir(parents=True, exist_ok=True)
    (results / "training.json").write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
