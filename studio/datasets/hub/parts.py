"""Which files of a repository make up which subset and split: as its card says, or as their names tell."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from studio.datasets.hub.places import Repository, repository
from studio.datasets.hub.stream import RemoteFile
from studio.datasets.reading import READERS, format_name
from studio.errors import DatasetError

DEFAULT = "default"
# where the Hugging Face hub keeps its own parquet copy of sets that come as archives or with a script
CONVERTED = "refs/convert/parquet"
# of one split only one kind of file is taken: the first of these that there is
KINDS = (".parquet", ".arrow", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".xlsx")
# fmt: off
SPLITS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}
NO_DATA = {
    "dataset_info.json", "dataset_infos.json", "config.json", "state.json", "dataset_dict.json", "configuration.json",
    "license.txt", "readme.txt", "requirements.txt",
}
# fmt: on


@dataclass(frozen=True)
class Part:
    """One split of one subset, which can be downloaded by itself."""

    subset: str
    split: str
    files: tuple[RemoteFile, ...]

    @property
    def bytes(self) -> int:
        """What there is to download."""
        return sum(file.bytes for file in self.files)


def parts(kind: str, hub_id: str, folder: str | None = None) -> list[Part]:
    """The subsets and splits of a data set on a hub (hf or ms), of its `folder` alone if one is given.

    Raises:
        DatasetError: it cannot be reached, is not there, or has no file that can be read here.
    """
    found = list(_parts(repository(kind, hub_id), folder))
    if not found and kind == "hf":
        found = list(_converted_parts(hub_id))
    if not found:
        raise DatasetError(f"{hub_id} has no data file that can be read here ({', '.join(READERS)})")
    return found


def _parts(there: Repository, folder: str | None) -> Iterator[Part]:
    inside = f"{folder.strip('/')}/" if folder else ""
    files = [file for file in there.files if _is_data(file.path) and file.path.startswith(inside)]
    listed = list(_listed(there.configs, files)) if not folder else []
    yield from listed or _named(DEFAULT, files)


def _is_data(path: str) -> bool:
    name = PurePosixPath(path).name.lower()
    hidden = any(part.startswith((".", "_")) for part in PurePosixPath(path).parts)
    return format_name(name) in READERS and name not in NO_DATA and not hidden


def _listed(configs: Sequence[Mapping[str, Any]], files: Sequence[RemoteFile]) -> Iterator[Part]:
    """The parts that the card lists."""
    for config in configs:
        subset = str(config.get("config_name") or DEFAULT)
        below = str(config.get("data_dir") or "").strip("/")
        patterns = list(_patterns(config.get("data_files")))
        if not patterns:
            yield from _named(subset, [file for file in files if file.path.startswith(below)] if below else files)
        for split, globs in patterns:
            globs = [f"{below}/{glob}" if below else glob for glob in globs]
            yield from _part(subset, split, [file for file in files if any(_fits(file.path, glob) for glob in globs)])


def _patterns(data_files: Any) -> Iterator[tuple[str, list[str]]]:
    """`data_files` of a card in its three spellings: a pattern, a list of patterns, a list of {split, path}."""
    listed = data_files if isinstance(data_files, list) else [data_files] if data_files else []
    plain = [each for each in listed if isinstance(each, str)]
    if plain:
        yield "train", plain
    for each in listed:
        if isinstance(each, dict) and each.get("path"):
            paths = each["path"] if isinstance(each["path"], list) else [each["path"]]
            yield str(each.get("split") or "train"), [str(path) for path in paths]


def _fits(path: str, glob: str) -> bool:
    # a pattern may also name a folder, and ** may stand for no folder at all
    return any(fnmatchcase(path, each) for each in (glob, glob.replace("**/", ""), f"{glob.rstrip('/')}/*"))


def _named(subset: str, files: Sequence[RemoteFile]) -> Iterator[Part]:
    """The parts that the names of the files tell; all of them are for training where none tells anything."""
    by_split: defaultdict[str, list[RemoteFile]] = defaultdict(list)
    for file in files:
        by_split[_split_of(file.path)].append(file)
    unnamed = by_split.pop("", [])
    if not by_split:
        by_split["train"] = unnamed
    for split, members in by_split.items():
        yield from _part(subset, split, members)


def _split_of(path: str) -> str:
    words = [word for part in reversed(path.split("/")) for word in re.split(r"[^a-z]+", part.lower())]
    return next((SPLITS[word] for word in words if word in SPLITS), "")


def _part(subset: str, split: str, files: Iterable[RemoteFile]) -> Iterator[Part]:
    by_kind: defaultdict[str, list[RemoteFile]] = defaultdict(list)
    for file in files:
        by_kind[format_name(file.path)].append(file)
    kind = next((kind for kind in KINDS if kind in by_kind), None)
    if kind:
        yield Part(subset, split, tuple(sorted(by_kind[kind], key=lambda file: file.path)))


def _converted_parts(hub_id: str) -> Iterator[Part]:
    """The hub's own copy: SUBSET/SPLIT/0000.parquet, …"""
    try:
        there = repository("hf", hub_id, CONVERTED)
    except DatasetError:
        return
    by_part: defaultdict[tuple[str, str], list[RemoteFile]] = defaultdict(list)
    for file in there.files:
        places = file.path.split("/")
        if len(places) == 3 and places[2].endswith(".parquet"):
            by_part[places[0], places[1].removeprefix("partial-")].append(file)
    for (subset, split), files in by_part.items():
        yield from _part(subset, split, files)
