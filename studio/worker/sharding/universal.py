"""Checkpoints of ZeRO for another number of processes, in the universal form that DeepSpeed's own converter makes.

What a process wrote of weights and optimizer states is put together weight by weight, so that any number can take its
share. It needs the optimizers that keep two moments of each weight, as AdamW does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from deepspeed.checkpoint import ds_to_universal

from studio.errors import NotResumable
from studio.worker.outputs import publish

POLL_S = 0.1


def shards(checkpoint: Path) -> Path | None:
    """What DeepSpeed left of a checkpoint; None where another strategy wrote it."""
    return next(checkpoint.glob("global_step*"), None)


def convert(checkpoint: Path, target: Path) -> None:
    """Make `target` the same checkpoint in universal form; what needs no change is linked to.

    Raises:
        NotResumable: its optimizer's states cannot be dealt out anew.
    """
    draft = target.with_name(f".{target.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    parts = shards(checkpoint)
    assert parts
    for path in checkpoint.iterdir():
        if path != parts:
            (draft / path.name).symlink_to(path)
    try:
        with plainly_named(parts, draft) as (source, output):
            _convert(source, output / parts.name)
    except (KeyError, ValueError, AssertionError) as error:
        raise NotResumable(
            f"{checkpoint} cannot be dealt out to another number of processes ({error}): keep the number, or take "
            "resume_scope: weights"
        ) from error
    publish(draft, target)


@contextmanager
def plainly_named(*folders: Path) -> Iterator[tuple[Path, ...]]:
    """Other names of `folders`: DeepSpeed reads paths as patterns, and no file may be there for one like a[b]."""
    with tempfile.TemporaryDirectory() as plain:
        links = tuple(Path(plain, str(number)) for number in range(len(folders)))
        for link, folder in zip(links, folders, strict=True):
            link.symlink_to(folder.resolve())
        yield links


def _convert(source: Path, output: Path) -> None:
    options = argparse.Namespace(
        input_folder=str(source),
        output_folder=str(output),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        ds_to_universal.main(options)


def wait(target: Path) -> None:
    """Until the first process has converted: minutes for a large model, longer than processes wait for each other."""
    while not target.exists():
        time.sleep(POLL_S)
