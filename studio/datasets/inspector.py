"""Rows shown as their tokens: asked of a process of its own, because tokenizers are slow to load and large.

One JSON object a line in either direction. The process ends when its standard input closes, so it never outlives the
studio, and by itself after minutes without a question.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from studio import errors, models
from studio.datasets.formats import Conversation, Feedback, Message, Preference, Row, Text, ToolCall
from studio.datasets.masking import Masking, MaskView
from studio.errors import DatasetError, ModelError, RowError
from studio.settings import ROOT

TIMEOUT_S = 60.0
READ_BYTES = 1 << 20


class Inspector:
    """A resident process `python -m studio.worker.inspector`, started when it is first asked. Thread-safe."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def mask(
        self, model: str, value: Row, masking: Masking, trust_remote_code: bool = False, number: int = 1
    ) -> MaskView:
        """Row `number`, whose value is `value`, as tokens of the model `model` (a name as a person gives it).

        Raises:
            ModelError: the model has no tokenizer that can be used.
            RowError: the template refuses the row.
            DatasetError: no answer in time.
        """
        question = {
            "model": models.resolve(model),
            "trust_remote_code": trust_remote_code,
            "masking": asdict(masking),
            "number": number,
            "row": row_to_json(value),
        }
        answer = self._ask(json.dumps(question).encode() + b"\n")
        if "error" in answer:
            raise _error(answer["error"])
        return MaskView.from_json(answer["view"])

    def close(self) -> None:
        """End the process; the next question starts another."""
        with self._lock:
            self._end()

    def _ask(self, line: bytes) -> dict[str, Any]:
        with self._lock:
            try:
                return self._converse(line)
            except (EOFError, BrokenPipeError):  # it was killed, or had been idle and left
                self._end()
            try:
                return self._converse(line)
            except (EOFError, BrokenPipeError) as error:
                code = self._end()
                raise DatasetError(
                    f"the process that shows tokens ended twice (code {code}): this row or tokenizer may need more "
                    "memory than there is"
                ) from error

    def _converse(self, line: bytes) -> dict[str, Any]:
        if self._process is None:
            self._process = _start()
        process = self._process
        assert process.stdin is not None
        process.stdin.write(line)
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._read_line(process))
        return answer

    def _read_line(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        deadline, parts = time.monotonic() + self._timeout_s, [b""]
        while not parts[-1].endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self._end()
                raise DatasetError(
                    f"the tokenizer did not answer within {self._timeout_s:.0f} s: try again, or a shorter row"
                )
            parts.append(os.read(process.stdout.fileno(), READ_BYTES))
            if not parts[-1]:
                raise EOFError
        return b"".join(parts)

    def _end(self) -> int | None:
        """Kill the process, which has nothing to save. Its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        with suppress(BrokenPipeError), process:  # leaving it flushes what it no longer reads
            pass
        return process.wait()


def row_to_json(value: Row) -> dict[str, Any]:
    """The value that `row_from_json` reads back."""
    return {"kind": type(value).__name__, **asdict(value)}


def row_from_json(value: Mapping[str, Any]) -> Row:
    """The inverse of `row_to_json`."""
    if value["kind"] == "Text":
        return Text(value["text"])
    if value["kind"] == "Preference":
        chosen, rejected = _message(value["chosen"]), _message(value["rejected"])
        return Preference(_messages(value["prompt"]), chosen, rejected, value["tools"])
    if value["kind"] == "Feedback":
        return Feedback(_messages(value["messages"]), value["good"], value["tools"])
    return Conversation(_messages(value["messages"]), value["tools"])


def _messages(values: list[Any]) -> tuple[Message, ...]:
    return tuple(map(_message, values))


def _message(value: Mapping[str, Any]) -> Message:
    return Message(value["role"], value["content"], tuple(ToolCall(**call) for call in value["tool_calls"]))


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "studio.worker.inspector"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the studio, which then closes the pipe
    )


def _error(card: Mapping[str, Any]) -> errors.SeedbedError:
    if card["kind"] == "RowError":
        return RowError(card["row"], card["message"])
    return {"ModelError": ModelError}.get(card["kind"], DatasetError)(card["message"])
