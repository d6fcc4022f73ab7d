"""A resident process that shows rows as tokens: python -m studio.worker.inspector

Questions and answers are JSON, one a line, on standard input and output (see studio.datasets.inspector, which asks).
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import replace
from functools import lru_cache
from typing import Any

from studio import models
from studio.datasets.inspector import row_from_json
from studio.datasets.masking import Masking
from studio.errors import RowError, SeedbedError
from studio.worker import tokenizer as tokenizers
from studio.worker.pool import Tokens

IDLE_S = 600.0


def main() -> None:
    """Answer until the other side hangs up, or has asked nothing for ten minutes."""
    tokenizers.without_torch()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    while line := _next_line():
        answers.write(json.dumps(answer(json.loads(line))).encode() + b"\n")
        answers.flush()


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The view of the row in `question`, or an error card. Never raises."""
    from studio.worker.encode import explain

    try:
        folder = tokenizers.find(question["model"])
        masking = Masking(**question["masking"])
        tokens = Tokens(folder, question["trust_remote_code"], masking.template, masking.enable_thinking)
        tokenizer = _tokenizer(tokens, tokens.fingerprint)
        masking = replace(masking, cutoff_len=models.within_context(folder, masking.cutoff_len))
        view = explain(question["number"], row_from_json(question["row"]), tokenizer, masking)
    except RowError as error:
        prefix = f"row {error.row}: "
        return {"error": {"kind": "RowError", "row": error.row, "message": str(error).removeprefix(prefix)}}
    except SeedbedError as error:
        return {"error": {"kind": type(error).__name__, "message": str(error)}}
    except Exception as error:  # noqa: BLE001  # this is the front door
        return {"error": {"kind": "DatasetError", "message": f"the row cannot be shown: {error}"}}
    return {"view": view.to_json()}


@lru_cache(maxsize=4)
def _tokenizer(tokens: Tokens, fingerprint: str) -> Any:
    """Loaded once until its files change, which the fingerprint tells."""
    return tokenizers.load(tokens.folder, tokens.trust_remote_code, tokens.template, tokens.enable_thinking)


def _next_line() -> bytes:
    leave = threading.Timer(IDLE_S, os._exit, (0,))
    leave.daemon = True
    leave.start()
    line = sys.stdin.buffer.readline()
    leave.cancel()
    return line


if __name__ == "__main__":
    main()
