"""Models of random weights in the shapes that people train, and rows to train them on."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from studio.settings import ASSETS, ROOT

SHAPES = {
    "1.1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_key_value_heads": 4},
    "7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_key_value_heads": 32},
}
OTHERS = {
    "vocab_size": 32_000, "num_attention_heads": 32, "max_position_embeddings": 4096,
    "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
PUBLIC = ROOT.parent / "shared/data/llamafactory/alpaca_en_demo.json"  # LLaMA-Factory's: 999 instructions and answers
SHARE = 0.54  # of the words of its answers: the bundled tokenizer, which is small, makes 204 tokens a row of them then
WORDS = 60  # a side of a row: about 200 tokens a row with the bundled tokenizer


def llama(name: str, folder: Path) -> Path:
    """The Llama of that shape with the bundled tokenizer, made on the GPU in `folder` if it is not there yet."""
    if folder.exists():
        return folder
    # imported here: a benchmark that only reads needs no torch in its process
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(LlamaConfig(**SHAPES[name], **OTHERS))
    model.save_pretrained(folder)
    torch.set_default_dtype(torch.float32)
    del model
    torch.cuda.empty_cache()
    for path in (ASSETS / "seedling").iterdir():
        if path.name.startswith(("tokenizer", "chat_template", "special_tokens")):
            shutil.copy(path, folder / path.name)
    return folder


def rows(folder: Path, count: int = 4000) -> Path:
    """A data folder with one set named words: `count` rows of chance words, the same ones each time."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(0)
    words = [word for word in (ASSETS / "seedling" / "README.md").read_text().split() if word.isalpha()]

    def text() -> str:
        return " ".join(chance.choices(words, k=WORDS))

    made = [{"instruction": text(), "input": "", "output": text()} for _ in range(count)]
    (folder / "words.json").write_text(json.dumps(made))
    (folder / "dataset_info.json").write_text(json.dumps({"words": {"file_name": "words.json"}}))
    return folder


def alpaca(folder: Path, source: Path = PUBLIC) -> Path:
    """A data folder with two sets: `rows` are those of `source`, or without it some of chance words, and `pairs` have
    the answer to the next row as the one that is rejected.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not source.exists():
        source = rows(folder, 999) / "words.json"
    made = [{**row, "output": _shortened(row["output"])} for row in json.loads(source.read_text())]
    pairs = [
        {"instruction": row["instruction"], "input": row["input"], "chosen": row["output"], "rejected": other["output"]}
        for row, other in zip(made, [*made[1:], made[0]], strict=True)
    ]
    (folder / "rows.json").write_text(json.dumps(made))
    (folder / "pairs.json").write_text(json.dumps(pairs))
    columns = {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"}
    about = {
        "rows": {"file_name": "rows.json"},
        "pairs": {"file_name": "pairs.json", "ranking": True, "columns": columns},
    }
    (folder / "dataset_info.json").write_text(json.dumps(about))
    return folder


def _shortened(text: str) -> str:
    words = text.split(" ")
    return " ".join(words[: max(1, round(SHARE * len(words)))])
