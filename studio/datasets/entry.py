"""One entry of `dataset_info.json`: which file, which shape, which column plays which role.

Two spellings are read: LLaMA-Factory's (file_name, formatting, columns.*, tags.*) and a shorter one (path,
instruction_column, input_column, output_column). LLaMA-Factory sets every key that a partial `columns` or `tags`
leaves out to null; here the documented defaults are filled in.

An entry that cannot be used carries a `note` that says why. It is never an error: one bad entry must not take the
other hundred with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from studio.errors import DatasetError, PathError
from studio.files import inside

FORMATTINGS = ("alpaca", "sharegpt", "openai")
MEDIA = ("images", "videos", "audios")
OPTIONAL_COLUMNS = ("history", "system", "tools", "chosen", "rejected", "kto_tag", *MEDIA)
COLUMNS = {"prompt": "instruction", "query": "input", "response": "output", "messages": "conversations"}
RANKING_COLUMNS = {"chosen": "chosen", "rejected": "rejected"}
TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
OPENAI_TAGS = {
    **TAGS,
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
}
# which place a set comes from, in the order in which LLaMA-Factory looks
HUB_KEYS = {"hf": "hf_hub_url", "ms": "ms_hub_url", "om": "om_hub_url", "cloud": "cloud_file_name"}
HUB_NAMES = {"hf": "the Hugging Face hub", "ms": "ModelScope", "om": "Modelers", "cloud": "cloud storage"}
HUBS_READ = ("hf", "ms")
SIMPLE_COLUMNS = {"instruction_column": "prompt", "input_column": "query", "output_column": "response"}
KNOWN_KEYS = frozenset(
    {
        *("file_name", "path", "formatting", "ranking", "columns", "tags", "split", "subset", "folder", "num_samples"),
        *("origin", "script_url", *SIMPLE_COLUMNS, *HUB_KEYS.values()),
    }
)


@dataclass(frozen=True)
class Entry:
    """A named set. `columns` and `tags` are complete; `mapped` names the columns that the registry itself gives.

    `file_name` is a file or a folder of files. `hub` (a key of HUB_NAMES) and `hub_id` say where else the set is:
    `subset`, `split` and `folder` choose a part of it there and mean nothing for a local file. `num_samples` is how
    many rows are used, as LLaMA-Factory documents; here these are the first usable ones (it draws them at random).
    `origin` says what a set was made from. `note` is empty where the set can be used, else a sentence that says why
    not.
    """

    name: str
    file_name: str = ""
    formatting: str = "alpaca"
    ranking: bool = False
    columns: Mapping[str, str] = field(default_factory=lambda: dict(COLUMNS))
    tags: Mapping[str, str] = field(default_factory=lambda: dict(TAGS))
    mapped: frozenset[str] = frozenset()
    split: str = "train"
    subset: str | None = None
    folder: str | None = None
    num_samples: int | None = None
    hub: str = ""
    hub_id: str = ""
    origin: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @cached_property
    def roles(self) -> Mapping[str, str]:
        """What each name of a speaker in the turns stands for: user, assistant, tool, function (a call) or system."""
        return {
            self.tags["user_tag"]: "user",
            self.tags["assistant_tag"]: "assistant",
            self.tags["observation_tag"]: "tool",
            self.tags["function_tag"]: "function",
            self.tags["system_tag"]: "system",
        }

    @property
    def remote(self) -> bool:
        """Whether it can be downloaded, and has not been."""
        return self.hub in HUBS_READ and not self.file_name


def describe(
    name: str,
    file_name: str,
    formatting: str = "alpaca",
    columns: Mapping[str, str | None] | None = None,
    tags: Mapping[str, str] | None = None,
    ranking: bool = False,
) -> Entry:
    """An entry for a new file, its defaults filled in; a column that is None is not used at all.

    Raises:
        DatasetError: an unknown formatting, column or tag.
    """
    spec = {"file_name": file_name, "formatting": formatting, "ranking": ranking}
    return _parse(name, {**spec, "columns": dict(columns or {}), "tags": dict(tags or {})})


def parse(name: str, spec: Any, data_dir: Path) -> Entry:
    """The entry that `spec`, a value of the registry, stands for. Never raises: what is wrong becomes its note."""
    try:
        entry = _parse(name, spec)
        note = _unavailable(entry, spec, data_dir)
    except DatasetError as error:
        return Entry(name, note=f"its entry in dataset_info.json cannot be used: {error}")
    return replace(entry, note=note)


def dump(entry: Entry) -> dict[str, Any]:
    """The registry's value for `entry`: every column and tag in use spelled out, so other readers agree."""
    chat = entry.formatting != "alpaca"
    spec: dict[str, Any] = _places(entry)
    if chat:
        spec["formatting"] = entry.formatting
    if entry.ranking:
        spec["ranking"] = True
    columns: dict[str, str | None] = {role: entry.columns[role] for role in entry.columns if role in entry.mapped}
    refilled = _columns(columns, entry.formatting, entry.ranking)
    columns.update({role: None for role in refilled if role not in entry.columns})
    if columns:
        spec["columns"] = columns
    if chat and dict(entry.tags) != TAGS:
        spec["tags"] = dict(entry.tags)
    if entry.num_samples is not None:
        spec["num_samples"] = entry.num_samples
    if entry.origin:
        spec["origin"] = dict(entry.origin)
    return spec


def _places(entry: Entry) -> dict[str, Any]:
    """Where the set is, in the registry's words."""
    spec: dict[str, Any] = {HUB_KEYS[entry.hub]: entry.hub_id} if entry.hub else {}
    if entry.file_name or not spec:
        spec["file_name"] = entry.file_name
    parts = {"subset": entry.subset, "split": entry.split if entry.split != "train" else None, "folder": entry.folder}
    return {**spec, **{key: part for key, part in parts.items() if part is not None}}


def _parse(name: str, spec: Any) -> Entry:
    if not isinstance(spec, dict):
        raise DatasetError(f"it must be an object {{…}}, found {type(spec).__name__}")
    if "path" in spec and "file_name" not in spec:
        spec = _long_form(spec)
    formatting = spec.get("formatting") or "alpaca"
    if formatting not in FORMATTINGS:
        raise DatasetError(f"formatting is {formatting!r}; it must be one of {', '.join(FORMATTINGS)}")
    ranking = bool(spec.get("ranking"))
    given = _names(spec, "columns", (*COLUMNS, *OPTIONAL_COLUMNS))
    columns = _columns(given, formatting, ranking)
    _require_columns(columns, formatting, ranking)
    hub, hub_id = _hub(spec)
    return Entry(
        name=name,
        file_name=_text(spec, "file_name") or "",
        formatting=formatting,
        ranking=ranking,
        columns=columns,
        tags={**(OPENAI_TAGS if formatting == "openai" else TAGS), **_present(_names(spec, "tags", tuple(TAGS)))},
        mapped=frozenset(_present(given)),
        split=_text(spec, "split") or "train",
        subset=_text(spec, "subset"),
        folder=_text(spec, "folder"),
        num_samples=_count(spec, "num_samples"),
        hub=hub,
        hub_id=hub_id,
        origin=_origin(spec),
    )


def _hub(spec: dict[str, Any]) -> tuple[str, str]:
    """The first hub that the entry names, and the name of the set there."""
    return next(((hub, name) for hub, key in HUB_KEYS.items() if (name := _text(spec, key))), ("", ""))


def _origin(spec: dict[str, Any]) -> dict[str, Any]:
    origin = spec.get("origin")
    return origin if isinstance(origin, dict) else {}


def _long_form(spec: dict[str, Any]) -> dict[str, Any]:
    columns = {role: spec[key] for key, role in SIMPLE_COLUMNS.items() if key in spec}
    rest = {key: value for key, value in spec.items() if key not in (*SIMPLE_COLUMNS, "path")}
    return {**rest, "file_name": spec["path"], "columns": {**columns, **(spec.get("columns") or {})}}


def _columns(given: Mapping[str, str | None], formatting: str, ranking: bool) -> dict[str, str]:
    defaults = {**COLUMNS, **(RANKING_COLUMNS if ranking else {})}
    if formatting == "openai":
        defaults["messages"] = "messages"
    # {"prompt": "input"} must not also make `input` the query: the text would stand there twice
    taken = set(given.values())
    free = {role: column for role, column in defaults.items() if role not in given and column not in taken}
    return {**free, **_present(given)}


def _require_columns(columns: Mapping[str, str], formatting: str, ranking: bool) -> None:
    asked = "prompt" if formatting == "alpaca" else "messages"
    # a list of turns may also come with each of the two answers
    needed = ["chosen", "rejected", *(["prompt"] if asked == "prompt" else [])] if ranking else [asked]
    for role in needed:
        if role not in columns:
            raise DatasetError(f"columns.{role} must name a column")


def _present(names: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in names.items() if value is not None}


def _names(spec: dict[str, Any], key: str, known: tuple[str, ...]) -> dict[str, str | None]:
    names = spec.get(key) or {}
    if not isinstance(names, dict):
        raise DatasetError(f"{key} must be an object {{…}}, found {type(names).__name__}")
    for role, name in names.items():
        if role not in known:
            raise DatasetError(f"{key}.{role} is unknown; known are {', '.join(known)}")
        if name is not None and not isinstance(name, str):
            raise DatasetError(f"{key}.{role} must be a name in quotes, found {name!r}")
    return names


def _text(spec: dict[str, Any], key: str) -> str | None:
    value = spec.get(key)
    if value is not None and not isinstance(value, str):
        raise DatasetError(f"{key} must be text, found {value!r}")
    return value


def _count(spec: dict[str, Any], key: str) -> int | None:
    value = spec.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise DatasetError(f"{key} must be a whole number from 1, found {value!r}")
    return value


def _unavailable(entry: Entry, spec: dict[str, Any], data_dir: Path) -> str:
    media = [role for role in MEDIA if role in entry.columns]
    if media:
        return f"it has {' and '.join(media)}; only text can be trained here"
    if entry.file_name:
        return _file_note(entry.file_name, data_dir)
    if entry.hub:
        advice = "download it" if entry.hub in HUBS_READ else "download its file and upload that"
        return f"it is on {HUB_NAMES[entry.hub]} ({entry.hub_id}), not on this computer: {advice}"
    if spec.get("script_url"):
        return f"it needs the loading script {spec['script_url']}, and scripts from data are never run here"
    return "its entry in dataset_info.json names no file: add file_name"


def _file_note(file_name: str, data_dir: Path) -> str:
    try:
        path = inside(data_dir, file_name)
    except PathError as error:
        return str(error)
    return "" if path.is_file() or path.is_dir() else f"its file {file_name} is not in {data_dir}: upload it there"
