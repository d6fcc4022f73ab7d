"""Handlers of the mask panel: real rows, the real tokenizer of the bundled model, the real resident process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.errors import ConfigError, DatasetError, ModelError
from studio.settings import ROOT, Settings
from studio.ui.context import Context
from studio.ui.tabs import data_masks
from studio.ui.tabs.data_masks import CUT, SPECIAL, TRAINED

ROWS = [{"instruction": "Who are you?", "output": "I am Fern."}, {"instruction": "Who is empty?", "output": ""}]


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    """One for all tests here, which only read: its resident process is started once."""
    folder = tmp_path_factory.mktemp("masks")
    data = folder / "data"
    data.mkdir()
    for name in ("dataset_info.json", "preference_demo.json"):
        shutil.copy(ROOT / "data" / name, data / name)
    (data / "fern.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    known = json.loads((data / "dataset_info.json").read_text())
    (data / "dataset_info.json").write_text(json.dumps({**known, "fern": {"file_name": "fern.jsonl"}}))
    ctx = Context.of(Settings(data_dir=data, saves_dir=folder / "saves"))
    yield ctx
    ctx.inspector.close()


def mask(ctx: Context, name: str, row: int, **settings: Any) -> dict[str, Any]:
    subject = json.dumps({"dataset": [name], "model_name_or_path": "seedling", "measured_rows": None, **settings})
    answer = data_masks.on_mask(ctx, subject, row)
    assert answer is not None
    return answer


def text_of(segment: dict[str, Any], flag: int) -> str:
    return "".join(text for _, text, flags in segment["pieces"] if flags & flag)


def test_the_answer_is_trained_with_its_end(ctx: Context) -> None:
    answer = mask(ctx, "fern", 1)
    [segment] = answer["segments"]
    assert (answer["row"], answer["total"]) == (1, 2)
    assert text_of(segment, TRAINED) == "I am Fern.<|im_end|>"
    assert text_of(segment, SPECIAL).startswith("<|im_start|>")
    assert segment["cut"] == 0
    assert segment["trained"] == sum(bool(flags & TRAINED) for *_, flags in segment["pieces"])


def test_settings_change_what_is_trained_and_kept(ctx: Context) -> None:
    [segment] = mask(ctx, "fern", 1, cutoff_len=10, default_system="Be kind.", train_on_prompt=True)["segments"]
    kept = [flags for *_, flags in segment["pieces"] if not flags & CUT]
    assert len(kept) == 10
    assert segment["cut"] == segment["tokens"] - 10
    assert "Be kind." in "".join(text for _, text, _ in segment["pieces"])
    assert all(flags & TRAINED for flags in kept[1:])


def test_a_preference_shows_both_answers(ctx: Context) -> None:
    assert [segment["label"] for segment in mask(ctx, "preference_demo", 3)["segments"]] == ["chosen", "rejected"]


def test_a_row_at_fault_says_why_and_where_it_is(ctx: Context) -> None:
    answer = mask(ctx, "fern", 2)
    assert (answer["row"], answer["fault"]) == (2, "'output' must not be empty")


def test_what_cannot_be_shown(ctx: Context, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="2 rows"):
        mask(ctx, "fern", 3)
    with pytest.raises(ConfigError, match="cutoff_len"):
        mask(ctx, "fern", 1, cutoff_len=1)
    with pytest.raises(ModelError):
        mask(ctx, "fern", 1, model_name_or_path=str(tmp_path))


def test_a_long_row_is_counted_whole_and_shown_in_part(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_masks, "SHOWN_TOKENS", 5)
    [segment] = mask(ctx, "fern", 1)["segments"]
    assert len(segment["pieces"]) == 5
    assert segment["tokens"] > 10
