"""Where a merged model ends up: in its folder by one rename when it is proven, in quarantine when it is not."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from studio.config.merge import MergeConfig
from studio.errors import ModelError
from studio.exports import target as targets
from studio.worker import outputs
from studio.worker.door import Desk

QUARANTINE = "quarantine"
UNFINISHED = ".unfinished"


def require(target: Path, config: MergeConfig, spared: Sequence[Path] = ()) -> None:
    """Refuse, before anything is written, an export folder that cannot be written or is something else.

    Raises:
        ModelError: why, and what to do.
    """
    for objection in targets.objections(target, config.overwrite_output_dir, spared) if config.export_dir else ():
        raise ModelError(objection)


@contextmanager
def draft(target: Path, config: MergeConfig, desk: Desk) -> Iterator[Path]:
    """A folder to write into that becomes `target` if all goes well, and vanishes if not.

    A target outside the run is written beside its place, and the run's model/ leads there.

    Raises:
        ModelError: `target` cannot be written, or is in use for something else.
        DiskFull: there was no room for it.
    """
    if not config.export_dir:
        with outputs.draft(desk.run_dir, target.name, last_call=desk.requests.protect) as folder:
            yield folder
        return
    with _beside(target, config, desk) as unfinished:
        with outputs.draft_at(target, unfinished, last_call=lambda: _last_call(target, config, desk)) as folder:
            yield folder
        link = desk.run_dir / "model"
        link.unlink(missing_ok=True)
        link.symlink_to(target, target_is_directory=True)


def quarantine(draft: Path, run_dir: Path) -> Path:
    """Put a finished draft where nothing looks for models, and say where that is."""
    outputs.sync(draft)
    kept = run_dir / QUARANTINE
    try:
        outputs.publish(draft, kept)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        kept = draft.with_name(f"{draft.name.removesuffix(UNFINISHED).lstrip('.')}.{QUARANTINE}")
        outputs.publish(draft, kept)  # on the disk where it lies: it may be too large for another
    return kept


def _last_call(target: Path, config: MergeConfig, desk: Desk) -> None:
    require(target, config)  # somebody else may have written there meanwhile
    desk.requests.protect()


@contextmanager
def _beside(target: Path, config: MergeConfig, desk: Desk) -> Iterator[Path]:
    """The unfinished folder for `target`, held as long as this process lives; those of dead ones are cleared away."""
    unfinished = target.with_name(f".{target.name}.{desk.run_dir.name}{UNFINISHED}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob(f".{glob.escape(target.name)}.*{UNFINISHED}*"):
            _restore(left, target) if left.name.endswith(outputs.REPLACED) else _clear(left)
        require(target, config)
        unfinished.mkdir(exist_ok=True)
    except OSError as error:
        raise ModelError(f"export_dir: {target} cannot be written ({error.strerror}): choose another folder") from error
    desk.requests.clear(unfinished)
    held = os.open(unfinished, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield unfinished
    finally:
        os.close(held)


def _restore(replaced: Path, target: Path) -> None:
    """What a merge was about to replace when it was killed gets its name back, if nothing has it yet."""
    if target.exists():
        shutil.rmtree(replaced, ignore_errors=True)
    else:
        replaced.rename(target)


def _clear(unfinished: Path) -> None:
    """Remove what a merge that was killed left behind."""
    descriptor = os.open(unfinished, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(unfinished, ignore_errors=True)
    except BlockingIOError:
        return  # its merge is alive
    finally:
        os.close(descriptor)
