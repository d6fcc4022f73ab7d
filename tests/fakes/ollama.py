"""A small program in Ollama's place: `ollama create NAME -f FILE` reads a Modelfile as Ollama does and keeps it.

What it understood goes to $FAKE_OLLAMA_KEPT as JSON. $FAKE_OLLAMA_REFUSES is what it complains about, with no server
running for example; $FAKE_OLLAMA_SLEEPS how many seconds it takes.
"""

import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

COMMAND = re.compile(r"(FROM|TEMPLATE|SYSTEM|PARAMETER (\w+)) (.*)", re.DOTALL)


def main(words: list[str]) -> int:
    verb, name, flag, file = words
    assert (verb, flag) == ("create", "-f")
    print("\x1b[?25l\x1b[1Ggathering model components \x1b[K", flush=True)
    time.sleep(float(os.environ.get("FAKE_OLLAMA_SLEEPS", "0")))
    if refusal := os.environ.get("FAKE_OLLAMA_REFUSES"):
        print(f"Error: {refusal}", file=sys.stderr)
        return 1
    kept = {"name": name, **read(Path(file).read_text(encoding="utf-8"))}
    kept["sha256"] = hashlib.sha256(Path(str(kept["FROM"])).read_bytes()).hexdigest()
    Path(os.environ["FAKE_OLLAMA_KEPT"]).write_text(json.dumps(kept), encoding="utf-8")
    print("writing manifest \nsuccess", flush=True)
    return 0


def read(text: str) -> dict[str, object]:
    """The commands of a Modelfile. A value in quotes goes on until they are closed at the end of a line."""
    stops: list[str] = []
    found: dict[str, object] = {"stop": stops}
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        command = COMMAND.fullmatch(pending.rstrip("\n"))
        assert command, f"not understood: {pending!r}"
        if (value := unquoted(command[3])) is None:
            continue
        if command[2] == "stop":
            stops.append(value)
        else:
            found[command[2] or command[1]] = value
        pending = ""
    assert not pending, f"never closed: {pending!r}"
    return found


def unquoted(value: str) -> str | None:
    """What is between the quotes, as it is; None where they are still open."""
    quotes = next((mark for mark in ('"""', '"') if value.startswith(mark)), "")
    if not quotes:
        return value
    closed = len(value) >= 2 * len(quotes) and value.endswith(quotes)
    return value[len(quotes) : -len(quotes)] if closed else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
