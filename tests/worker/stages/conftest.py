"""Rows of every kind, and trainings on them in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.worker.conftest import Finished, make_model, train_here, write_config

PAIRS = [
    {"instruction": f"What is {n} plus one?", "input": "", "chosen": f"It is {n + 1}.", "rejected": "No idea, sorry."}
    for n in range(12)
]
JUDGED = [
    {
        "messages": [
            {"role": "user", "content": f"What is {n} plus one?"},
            {"role": "assistant", "content": f"It is {n + 1}." if n % 2 else "No idea, sorry."},
        ],
        "label": bool(n % 2),
    }
    for n in range(12)
]
UNEVEN = [
    {
        **row,
        "instruction": f"What is {n} plus one?" + " Tell me at length." * (n % 3 * 4),
        "chosen": f"It is {n + 1}." * (1 + n % 5 * 3),
        "rejected": "No. " * (1 + (n * 7) % 12),
    }
    for n, row in enumerate(PAIRS)
]
TEXTS = [{"text": f"Seed {n} grew into tree {n}. " * (1 + 5 * (n % 4))} for n in range(12)]
PAIRED = {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"}
SETS = {
    "pairs": (PAIRS, {"ranking": True, "columns": PAIRED}),
    "uneven": (UNEVEN, {"ranking": True, "columns": PAIRED}),
    "alike": (
        [{**row, "chosen": "So " * 60 + "yes.", "rejected": "So " * 60 + "no."} for row in PAIRS],
        {"ranking": True, "columns": PAIRED},
    ),
    "judged": (
        JUDGED,
        {
            "formatting": "sharegpt",
            "columns": {"messages": "messages", "kto_tag": "label"},
            "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
        },
    ),
    "texts": (TEXTS, {"columns": {"prompt": "text"}}),
    "talks": ([{"instruction": row["instruction"], "input": "", "output": row["chosen"]} for row in PAIRS], {}),
}
StageTrain = Callable[..., Finished]


@pytest.fixture(scope="session")
def sets_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with all of SETS."""
    folder = tmp_path_factory.mktemp("sets")
    for name, (rows, _) in SETS.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    entries = {name: {"file_name": f"{name}.json", **entry} for name, (_, entry) in SETS.items()}
    (folder / "dataset_info.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path, tiny_model: Path) -> Path:
    """A model with other weights than tiny_model; both in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = make_model(tmp_path_factory.mktemp("other_model"), tokenizer_dir, dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(1)
    for weight in model.parameters():
        weight.data += 0.02 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def stage(tmp_path: Path, tiny_model: Path, sets_dir: Path) -> StageTrain:
    """Train in this process on one of the sets and hand back the run: stage("dpo", "pairs", …)."""

    def _stage(stage: str, dataset: str, name: str = "run", **keys: Any) -> Finished:
        steady = {"lr_scheduler_type": "constant", "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
        request = {"stage": stage, "dataset": [dataset], "save_steps": 0, "max_steps": 20, **steady, **keys}
        write_config(tmp_path / name, "train", tiny_model, sets_dir, request)
        train_here(tmp_path / name)
        return Finished(tmp_path / name)

    return _stage
