"""The process that compares a merged model with base plus adapter: python -m studio.worker.merging.verification

Loads its libraries, and of those that are mostly left out the ones that are named behind it. Then it reads requests,
lines of JSON, and answers each in lines of JSON: {"doing": ...} as it goes, at last {"found": ...} or {"failed": ...}.
"""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict
from typing import Any

from studio.errors import SeedbedError
from studio.worker import imports


def main() -> None:
    """Answer the requests of standard input."""
    imports.trim(sys.argv[1:])
    from studio.worker.merging.comparison import compare
    from studio.worker.merging.proof import Request

    imports.settle()
    for line in sys.stdin:
        try:
            found = compare(Request(**_tuples(json.loads(line))), lambda what: _say(doing=what))
        except SeedbedError as error:
            _say(failed=str(error))
        except Exception as error:  # noqa: BLE001  # a front door: what Transformers or PEFT raise is told, not guessed
            traceback.print_exc()
            _say(failed=f"{type(error).__name__}: {error}")
        else:
            _say(found=asdict(found))


def _tuples(record: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
