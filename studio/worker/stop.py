"""Requests that reach a running worker: the files STOP and SAVE in its run directory.

Standard library only, because it is started before anything heavy is imported. A daemon thread looks every
tenth of a second. While there is nothing to save it ends the process itself, whatever the main thread is doing;
once `protect` was called it only raises a flag, and the training saves and stops at its next step.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

STOPPED = 10
POLL_S = 0.1
REMOVALS_MAX = 10


class Requests:
    """Watches a run directory for STOP and SAVE.

    Args:
        run_dir: the run.
        last_words: called on the watching thread right before it ends the process (writes a last status).
        heeds: False for one of several processes that the first tells what to do, and when; it only learns of a stop.
    """

    def __init__(self, run_dir: Path, last_words: Callable[[], None], heeds: bool = True) -> None:
        self._stop = run_dir / "STOP"
        self._save = run_dir / "SAVE"
        self._unfinished = [run_dir / "tmp"]
        self._last_words = last_words
        self._lock = threading.Lock()
        self._heeds, self._protected = heeds, not heeds
        self._stopping = threading.Event()
        self._saving = threading.Event()
        threading.Thread(target=self._watch, name="requests", daemon=True).start()

    @property
    def stop(self) -> bool:
        """Whether the run has been asked to stop."""
        return self._stopping.is_set()

    def take_save(self) -> bool:
        """Whether a checkpoint has been asked for since the last call; the request is thereby answered."""
        if not self._saving.is_set():
            return False
        # a second request that lands between these two lines is answered by the same checkpoint
        self._save.unlink(missing_ok=True)
        self._saving.clear()
        return True

    def save(self) -> None:
        """Ask for a checkpoint, as the file does."""
        self._saving.set()

    def clear(self, folder: Path) -> None:
        """A stop is to remove `folder`, too."""
        self._unfinished.append(folder)

    def protect(self) -> None:
        """From here on there is something to save: a stop only raises the flag."""
        with self._lock:
            self._protected = True

    def _watch(self) -> None:
        while True:
            if self._heeds and self._save.exists():
                self._saving.set()
            if not self._stopping.is_set() and self._stop.exists():
                self._stopping.set()
                with self._lock:
                    if not self._protected:
                        self._leave()
            time.sleep(POLL_S)

    def _leave(self) -> None:
        # sys.exit would wait for the main thread, which may sit in an import or a tokeniser for many seconds
        for folder in self._unfinished:
            _remove(folder)
        self._last_words()
        os._exit(STOPPED)


def _remove(folder: Path) -> None:
    """The other threads may still be writing there: a file that they open behind the removal calls for another."""
    for _ in range(REMOVALS_MAX):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
