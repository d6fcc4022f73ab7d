"""A dataset measured in the tokens of one model: an even sample of its rows, or all of them."""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import chain, groupby
from math import ceil
from operator import attrgetter, sub
from typing import TYPE_CHECKING, Any

from studio import models
from studio.config.data import DataConfig
from studio.datasets import statistics
from studio.datasets.checks.finding import Sightings
from studio.datasets.formats import Feedback, Preference, Row, Text
from studio.datasets.index import Index, indexed
from studio.datasets.loading import Fault
from studio.datasets.masking import Masking
from studio.datasets.near_copies import near
from studio.datasets.pace import stop_if_asked
from studio.datasets.registry import Registry
from studio.datasets.statistics import Histogram, Statistics
from studio.errors import DatasetError, RowError
from studio.worker import tokenizer as tokenizers
from studio.worker.omission import told
from studio.worker.pool import Tokens, processes_for, spread
from studio.worker.rows import Part, Source, parts_of, read

if TYPE_CHECKING:
    from studio.worker.encode import Labelled

GROUP_ROWS = 1000  # packing looks at as many together
STRETCH_ROWS = 64
EXACT_VALUES = 2000
LANGUAGE_ROWS = 2000  # naming a language takes 0.2 ms, twice as long as counting the tokens of a row
LANGUAGE_CHARS = 400
CONFIDENCE = 0.5
COUNTERS = ("lengths", "first_trained", "prompt_lengths", "response_lengths", "turns", "languages")
FINDINGS = ("too_long", "answer_cut_off", "no_trained_token", "tools_left_out")


@dataclass
class Tally:
    """What was counted so far; the fields are those of `Statistics`."""

    rows_read: int = 0
    rows_measured: int = 0
    untrained: int = 0
    tools_left_out: int = 0
    tokens: int = 0
    trained: int = 0
    kept_rows: int = 0
    kept_tokens: int = 0
    kept_trained: int = 0
    packed_sequences: int = 0
    languages_read: int = 0
    counters: dict[str, Counter[Any]] = field(default_factory=lambda: {name: Counter() for name in COUNTERS})
    seen: dict[str, Sightings] = field(default_factory=lambda: {code: Sightings() for code in FINDINGS})

    def absorb(self, other: Tally) -> None:
        """Add what was counted elsewhere, of later rows."""
        for name, value in vars(other).items():
            if isinstance(value, int):
                setattr(self, name, getattr(self, name) + value)
        for name in COUNTERS:
            self.counters[name].update(other.counters[name])
        for code in FINDINGS:
            mine, theirs = self.seen[code], other.seen[code]
            for row, example in zip(theirs.rows, chain(theirs.examples, [""] * len(theirs.rows)), strict=False):
                mine.see(row, example)
            mine.count += theirs.count - len(theirs.rows)


@dataclass(frozen=True)
class Task:
    """What a process needs to measure some parts of a file."""

    source: Source
    tokens: Tokens
    masking: Masking
    name_every: int  # of so many rows one is read for its language


def measure(
    config: DataConfig,
    registry: Registry,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Statistics:
    """Measure the dataset of `config` and keep the result for `stored`. `progress` learns rows done and all rows.

    Raises:
        DatasetError: the set cannot be used, or has a row that the model's template refuses.
        ModelError: no tokenizer.
        Cancelled: `cancelled` said so.
    """
    began = time.monotonic()
    (name,) = config.dataset
    folder = tokenizers.find(config.model_name_or_path or "")
    tokens = Tokens.of(config, folder)
    path, entry = registry.file(name), registry.entry(name)
    index = indexed(path, registry.cache_dir, cancelled=cancelled)
    # whose name and author the data will speak of is not known here: {{name}} is counted as it stands
    source = Source(name, near(path, registry.cache_dir), entry, None, "{{name}}", "{{author}}")
    rows = min(index.rows, entry.num_samples or index.rows)
    groups = _groups(index, rows, min(rows, config.measured_rows or rows))
    total = sum(_count_rows(part) for group in groups for part in group)
    masking = Masking.of(config, models.within_context(folder, config.cutoff_len))
    task = Task(source, tokens, masking, name_every=max(1, total // LANGUAGE_ROWS))
    tally = Tally()
    processes = processes_for(source.text_bytes * total // max(1, index.rows))
    for part in spread(partial(_measure_group, task), groups, processes):
        stop_if_asked(cancelled)
        tally.absorb(part)
        if progress:
            progress(tally.rows_read, total)
    measured = _statistics(config, task, rows, tally, time.monotonic() - began)
    statistics.keep(registry, config, measured)
    return measured


def _groups(index: Index, rows: int, wanted: int) -> list[tuple[Part, ...]]:
    """About `wanted` of the first `rows` rows, evenly apart, as groups of parts.

    A large file is read in stretches, a smaller one row after row with most of them passed over.
    """
    parts = [part for part in parts_of(index, 1) if part.start.row <= rows]
    stretch = max(1, min(STRETCH_ROWS, rows // max(1, len(parts))))
    chosen = parts[:: max(1, len(parts) * stretch // max(1, wanted))]
    if len(chosen) < len(parts):
        within = [_shortened(part, ceil(wanted / len(chosen))) for part in chosen]
    else:
        within = [
            replace(_shortened(part, rows - part.start.row + 1), every=max(1, rows // max(1, wanted))) for part in parts
        ]
    groups: list[list[Part]] = [[]]
    for part in within:
        if sum(map(_count_rows, groups[-1])) >= GROUP_ROWS:
            groups.append([])
        groups[-1].append(part)
    return [tuple(group) for group in groups]


def _shortened(part: Part, rows: int) -> Part:
    return replace(part, rows=min(part.rows or 0, rows))


def _count_rows(part: Part) -> int:
    return ceil((part.rows or 0) / part.every)


def _measure_group(task: Task, parts: tuple[Part, ...]) -> Tally:
    tally, faults, kept = Tally(), list[Fault](), list[int]()
    rows = chain.from_iterable(read(task.source, part, faults.append, stage=None) for part in parts)
    try:
        for number, value, sequences, places in _labelled(rows, task):
            kept += _count(tally, number, value, sequences, places, task)
    except RowError as error:
        raise DatasetError(f"dataset {task.source.name}, {error}") from error
    tally.rows_read = tally.rows_measured + len(faults)
    tally.packed_sequences = _packed(kept, task.masking.cutoff_len)
    return tally


def _labelled(rows: Iterator[tuple[int, Row]], task: Task) -> Iterator[tuple[int, Row, list[Labelled], range]]:
    """Each row with its sequences and the places kept of them, through the functions that the training uses."""
    from studio.worker.encode import kept_places, label, sequences

    first = next(rows, None)
    if first is None:
        return
    masking = sequences(first[1], task.masking)[0][2]  # the same for all rows, which are of one kind
    waiting: deque[tuple[int, Row]] = deque()

    def flat() -> Iterator[Any]:
        for number, value in chain([first], rows):
            waiting.append((number, value))
            yield from ((number, sequence) for _, sequence, _ in sequences(value, masking))

    for _, found in groupby(label(flat(), task.tokens.load(), masking), key=attrgetter("number")):
        (number, value), parts = waiting.popleft(), list(found)
        yield number, value, parts, kept_places(value, parts, masking.cutoff_len)


def _count(
    tally: Tally, number: int, value: Row, sequences: Sequence[Labelled], places: range, task: Task
) -> list[int]:
    """Count a row; the lengths of its sequences as they are kept, none where it is left out."""
    cutoff, counters = task.masking.cutoff_len, tally.counters
    lengths = [len(sequence.ids) for sequence in sequences]
    trained = [sequence.trained for sequence in sequences]
    length, first = max(lengths), _first_trained(value, sequences)
    tally.rows_measured += 1
    tally.tokens += sum(lengths)
    tally.trained += sum(trained)
    counters["lengths"][length] += 1
    counters["prompt_lengths"][max(map(sub, lengths, trained))] += 1
    counters["response_lengths"][max(trained)] += 1
    counters["turns"][_turns(value)] += 1
    if (tally.rows_measured - 1) % task.name_every == 0:
        counters["languages"][_language(value)] += 1
        tally.languages_read += 1
    if any(sequence.lost for sequence in sequences):
        _see_lost(tally, number, sequences)
        return []
    if not _find(tally, number, length, first, cutoff):
        return []
    left = [sequence for sequence in sequences if sequence.trained_within(places)]
    kept = [min(len(sequence.ids), cutoff) for sequence in left]
    tally.kept_rows += 1
    tally.kept_tokens += sum(kept)
    tally.kept_trained += sum(sequence.trained_within(places) for sequence in left)
    return kept


def _first_trained(value: Row, sequences: Sequence[Labelled]) -> int:
    """The place, from 1, of the first trained token, where a cutoff could take it; 0 where there is none.

    Of two answers to one prompt both are needed, of a conversation in several renderings one is enough. Before judged
    answers the prompt gives way: no cutoff takes them whole, and 1 is as good as any place.
    """
    firsts = [sequence.first_trained for sequence in sequences]
    if isinstance(value, Preference | Feedback):
        return int(all(firsts))
    return min(filter(None, firsts), default=0)


def _find(tally: Tally, number: int, length: int, first: int, cutoff: int) -> bool:
    """Note what a check would tell; whether the row is kept."""
    if not first:
        tally.untrained += 1
        tally.seen["no_trained_token"].see(number, f"row {number}: none of its {length} tokens is trained")
        return False
    tally.counters["first_trained"][first] += 1
    if length > cutoff:
        tally.seen["too_long"].see(number, f"row {number} has {length} tokens, {length - cutoff} too many")
    if first > cutoff:
        tally.seen["answer_cut_off"].see(number, f"row {number}: what is trained of it begins at token {first}")
    return first <= cutoff


def _see_lost(tally: Tally, number: int, sequences: Sequence[Labelled]) -> None:
    tally.tools_left_out += 1
    lost = next(sequence.lost for sequence in sequences if sequence.lost)
    tally.seen["tools_left_out"].see(number, f"row {number}: {told(lost)}")


def _turns(value: Row) -> int:
    if isinstance(value, Text):
        return 1
    return len(value.prompt) + 1 if isinstance(value, Preference) else len(value.messages)


def _language(value: Row) -> str:
    if isinstance(value, Text):
        text = value.text
    else:
        messages = (*value.prompt, value.chosen) if isinstance(value, Preference) else value.messages
        text = "\n".join(message.content for message in messages if message.role in ("user", "assistant"))
    language, _ = _identifier().classify(text[:LANGUAGE_CHARS])
    return str(language)


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=CONFIDENCE)


def _packed(lengths: Iterable[int], cutoff: int) -> int:
    """Sequences of `cutoff` tokens that rows of these lengths fill, each row into the fullest that has room."""
    room: list[int] = []
    for length in sorted(lengths, reverse=True):
        at = bisect_left(room, length)
        insort(room, (room.pop(at) if at < len(room) else cutoff) - length)
    return len(room)


def _statistics(config: DataConfig, task: Task, rows: int, tally: Tally, seconds: float) -> Statistics:
    counts: dict[str, Any] = {name: value for name, value in vars(tally).items() if isinstance(value, int)}
    histograms: dict[str, Any] = {name: _histogram(tally.counters[name]) for name in COUNTERS if name != "languages"}
    seen = {code: sightings for code, sightings in tally.seen.items() if sightings.count}
    return Statistics(
        dataset=task.source.name,
        model=config.model_name_or_path or "",
        cutoff_len=task.masking.cutoff_len,
        rows=rows,
        languages=tuple(tally.counters["languages"].most_common()),
        sightings=tuple((code, each.count, tuple(each.rows), tuple(each.examples)) for code, each in seen.items()),
        seconds=seconds,
        **counts,
        **histograms,
    )


def _histogram(counter: Counter[int]) -> Histogram:
    if len(counter) > EXACT_VALUES:
        rounded: Counter[int] = Counter()
        for value, rows in counter.items():
            step = 1 << max(0, value.bit_length() - 8)
            rounded[ceil(value / step) * step] += rows
        counter = rounded
    return tuple(sorted(counter.items()))
