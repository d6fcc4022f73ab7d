"""What a merged model is asked: what its adapters were trained on where that is here, else fixed prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path

from studio.config.load import load_run_config
from studio.config.train import TrainConfig
from studio.datasets.formats import Conversation, Feedback, Message, Preference, Row
from studio.datasets.loading import Fault, load
from studio.datasets.registry import Registry
from studio.errors import SeedbedError

Question = list[dict[str, str]]
COUNT = 5
FIXED = (
    "Who are you?",
    "你是谁？",
    "What is 3 + 4?",
    "What is the opposite of hot?",
    "Write one sentence about the sea.",
)


def questions(adapters: Sequence[Path]) -> list[Question]:
    """COUNT conversations, each up to where its first answer begins."""
    learned = zip_longest(*map(_learned, adapters))
    asked = [question for each in learned for question in each if question]
    fixed = [[{"role": "user", "content": text}] for text in FIXED]
    distinct = {str(question): question for question in [*asked, *fixed]}
    return list(islice(distinct.values(), COUNT))


def _learned(adapter: Path) -> list[Question]:
    """The beginnings of rows that an adapter was trained on; none where its training or its data is not here."""
    run_dir = next((folder for folder in adapter.parents[:3] if (folder / "config.yaml").exists()), None)
    if run_dir is None:
        return []
    try:
        config = load_run_config(run_dir / "config.yaml")
        return list(_rows(config)) if isinstance(config, TrainConfig) else []
    except SeedbedError:
        return []


def _rows(config: TrainConfig) -> Iterator[Question]:
    registry = Registry(Path(config.dataset_dir))
    found = [(row for _, row in load(registry, name, COUNT, _pass)) for name in config.dataset]
    for row in chain(*found):
        if question := _beginning(row, config.default_system):
            yield question


def _pass(fault: Fault) -> None:
    """A row at fault asks nothing."""


def _beginning(row: Row, system: str | None) -> Question:
    turns = _turns(row)
    first = next((place for place, turn in enumerate(turns) if turn.role == "user"), None)
    if first is None:
        return []
    asked = [{"role": turn.role, "content": turn.content} for turn in turns[: first + 1]]
    return [{"role": "system", "content": system}, *asked] if system and asked[0]["role"] != "system" else asked


def _turns(row: Row) -> Sequence[Message]:
    if isinstance(row, Conversation | Feedback):
        return row.messages
    if isinstance(row, Preference):
        return row.prompt
    return (Message("user", row.text[:200]),)
