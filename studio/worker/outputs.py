"""What a run leaves behind. Everything is written below tmp/ and renamed into place when it is whole."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from studio.errors import RunError
from studio.files import read_json, write_json, write_text
from studio.models import weights_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
OTHER_TEMPLATES = "additional_chat_templates"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_ROOM_BYTES = 1_000_000
REPLACED = ".old"  # what had the name of a finished folder, until that has it


class DiskFull(RunError):
    """Something could not be written for lack of room; nothing half-written is left."""


@contextmanager
def draft(run_dir: Path, name: str, last_call: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """A folder to write into that becomes `run_dir/name` if all goes well, and vanishes if not.

    `last_call` is called when all is on disk, right before it gets its name.

    Raises:
        DiskFull: there was no room for it.
    """
    shutil.rmtree(run_dir / "tmp" / name, ignore_errors=True)
    with draft_at(run_dir / name, run_dir / "tmp" / name, last_call) as folder:
        yield folder


@contextmanager
def draft_at(target: Path, unfinished: Path, last_call: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """As `draft`, for any `target`; `unfinished` is where it is written: new or empty, and on the same disk."""
    unfinished.mkdir(parents=True, exist_ok=True)
    try:
        with room_told(target):
            yield unfinished
            sync(unfinished)
            last_call()
            publish(unfinished, target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


@contextmanager
def room_told(target: Path) -> Iterator[None]:
    """What fails in here for want of room, in whatever words, is a DiskFull on the way to `target`."""
    try:
        yield
    except Exception as error:
        if is_full(error, existing(target)):
            raise DiskFull(f"no room to write {target}: free some disk space") from error
        raise


def existing(path: Path) -> Path:
    """The nearest folder above `path` that is there."""
    return next(parent for parent in path.parents if parent.exists())


def sync(folder: Path) -> None:
    """Have all bytes below `folder` reach the disk."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def publish(folder: Path, target: Path) -> None:
    """Give a finished folder its name, in place of what had it, which is whole until then and gone afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    old = folder.with_name(f"{folder.name}{REPLACED}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    folder.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def is_full(error: Exception, folder: Path) -> bool:
    """Whether `error`, met while writing below `folder`, means that the disk is full.

    torch and safetensors report it in their own words or none, so the room that is left is looked at too.
    """
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return "No space left" in str(error) or shutil.disk_usage(folder).free < NO_ROOM_BYTES


def copy_tokenizer(source: Path, target: Path, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
    """The tokenizer's files as they are; of one that was trained with, its chat template and end of answers, too."""
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copy2(source / name, target / name)
    if (source / OTHER_TEMPLATES).is_dir():
        shutil.copytree(source / OTHER_TEMPLATES, target / OTHER_TEMPLATES, dirs_exist_ok=True)
    if tokenizer is not None:
        _write_template(target, tokenizer.chat_template)
        _write_end(source, target, tokenizer)


def _write_template(target: Path, template: str | dict[str, str] | None) -> None:
    others = dict(template) if isinstance(template, dict) else {"default": template}
    if text := others.pop("default", None):
        write_text(target / "chat_template.jinja", text)
        _forget_other(target / "tokenizer_config.json", text)
    for name, text in others.items():
        folder = target / OTHER_TEMPLATES
        folder.mkdir(exist_ok=True)
        write_text(folder / f"{name}.jinja", str(text))


def _forget_other(path: Path, text: str) -> None:
    """Older tools look into the tokenizer's configuration first."""
    config = read_json(path) or {}
    if isinstance(config.get("chat_template"), str) and config["chat_template"] != text:
        del config["chat_template"]
        write_json(path, config)


def _write_end(source: Path, target: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Where another token ends answers now, servers and generation must stop at it."""
    config = read_json(target / "tokenizer_config.json") or {}
    known = config.get("eos_token")
    if tokenizer.eos_token in (None, known["content"] if isinstance(known, dict) else known):
        return
    write_json(target / "tokenizer_config.json", {**config, "eos_token": tokenizer.eos_token})
    place = target if (target / "generation_config.json").exists() else source
    generation = read_json(place / "generation_config.json") or {}
    old = generation.get("eos_token_id")
    ends = old if isinstance(old, list) else [] if old is None else [old]
    generation["eos_token_id"] = list(dict.fromkeys([tokenizer.eos_token_id, *ends]))
    write_json(target / "generation_config.json", generation)


def write_base(folder: Path, name: str, path: Path) -> None:
    """base.json: which model an adapter belongs to, as the person named it and as it was found."""
    digest = hashlib.sha256((path / "config.json").read_bytes()).hexdigest()
    weights = weights_fingerprint(path)
    write_json(folder / "base.json", {"name": name, "path": str(path), "sha256": digest, "weights": weights})
