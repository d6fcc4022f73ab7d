"""Every error a user can meet. Each message says what is wrong, where, and what to do.

SeedbedError
├── ConfigError            one or more problems in a configuration, all of them at once
├── ModelError             a model folder that is missing, incomplete or damaged
├── PathError              a name that leaves the folder it belongs to
├── Cancelled              long work given up because somebody asked
├── ConversationError      a conversation that is gone, damaged, or cannot be written
├── VoteError              a vote that could not be written
├── HubError               the Hugging Face hub refuses, or cannot be reached
├── DatasetError
│   ├── DatasetNotFound    no such entry in the registry
│   ├── UploadError        a file that cannot be accepted
│   └── RowError           a row at fault, with its number
├── RunError
│   ├── RunNotFound        no such run directory
│   ├── AlreadyStarted     a run is started at most once
│   ├── NotResumable       no complete checkpoint to go on from
│   ├── RewardError        a reward that cannot be given
│   ├── ParallelError      processes that cannot train together as asked
│   └── SlurmError         SLURM refuses what it is asked for
│       └── SlurmSilent    SLURM does not answer at the moment
└── ServingError
    ├── SidecarNotReady    the model server is not up (yet, or any more)
    ├── RequestFailed      the model server refused or broke off a request
    │   └── PromptTooLong  the prompt is longer than the model's context
    ├── RestartNeeded      the model server could do it if it were started with other options
    └── AdapterRefused     the model server cannot serve this kind of adapter

Front doors (the CLI's main, a tab's handler, a worker's main) catch SeedbedError once and show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class SeedbedError(Exception):
    """Root of all errors that are shown to the user as they are."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one option: `where` is its key, `what` a sentence that says what to change."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class ConfigError(SeedbedError):
    """A configuration with one or more problems."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ModelError(SeedbedError):
    """A model folder that is missing, incomplete or damaged."""


class PathError(SeedbedError):
    """A name that would leave the folder it belongs to."""


class Cancelled(SeedbedError):
    """Long work was given up because somebody asked; nothing of it remains."""


class ConversationError(SeedbedError):
    """A kept conversation is gone or damaged, or cannot be written."""


class VoteError(SeedbedError):
    """A vote could not be written."""


class HubError(SeedbedError):
    """The Hugging Face hub refuses, or cannot be reached."""


class DatasetError(SeedbedError):
    """Something is wrong with a dataset."""


class DatasetNotFound(DatasetError):
    """No such entry in the dataset registry."""


class UploadError(DatasetError):
    """An uploaded file that cannot be accepted."""


class RowError(DatasetError):
    """A row at fault. `row` counts from 1, in the order of the file; `code` names the kind of fault, if it has one."""

    def __init__(self, row: int, what: str, code: str = "") -> None:
        self.row = row
        self.code = code
        super().__init__(f"row {row}: {what}")


class RunError(SeedbedError):
    """Something is wrong with a run."""


class RunNotFound(RunError):
    """No such run directory."""


class AlreadyStarted(RunError):
    """A run is started at most once."""


class NotResumable(RunError):
    """No complete checkpoint to go on from."""


class RewardError(RunError):
    """A reward cannot be given: a name, file or pattern that does not serve, or a function that failed."""


class ParallelError(RunError):
    """Processes cannot train together as it was asked for."""


class SlurmError(RunError):
    """SLURM refuses what it is asked for, or is not there."""


class SlurmSilent(SlurmError):
    """SLURM does not answer at the moment; it may again."""


class ServingError(SeedbedError):
    """Something is wrong with a model server."""


class SidecarNotReady(ServingError):
    """The model server is not up yet, or not any more."""


class RequestFailed(ServingError):
    """The model server refused or broke off a request."""


class PromptTooLong(RequestFailed):
    """The prompt is longer than the model's context."""


class RestartNeeded(ServingError):
    """The server of run `run_id` could do it, started again with `options` of its configuration changed."""

    def __init__(self, message: str, run_id: str, options: Mapping[str, Any]) -> None:
        self.run_id = run_id
        self.options = dict(options)
        super().__init__(message)


class AdapterRefused(ServingError):
    """The model server cannot serve this kind of adapter: it must be merged, or served by another server."""


def some(names: Sequence[str]) -> str:
    """The first of `names` for a sentence: `a, b, c`, or of many `a, b, c and 40 more`."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
