"""A small OpenAI-compatible server whose models answer and judge by a rule each, so that an arena's outcome is known.

    python debaters.py      prints its port, then serves until killed

`long` and `short` answer as they are called, `silent` says nothing, `shy` fails where the prompt holds "boom".
`judge-longer` prefers the longer answer, `judge-first` whatever stands first, `judge-mute` gives no verdict, and
`judge-broken` fails. `slow` takes its time.
"""

from __future__ import annotations

import json
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWERS = re.compile(r"=== Answer A ===\n(.*)\n\n=== Answer B ===\n(.*)", re.DOTALL)


class Server(ThreadingHTTPServer):
    """One that many can connect to at once."""

    request_queue_size = 128


class Handler(BaseHTTPRequestHandler):
    """One thread per request."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = answer(body["model"], body["messages"])
        self.send_response(500 if text is None else 200)
        self.send_header("Content-Type", "application/json" if text is None else "text/event-stream")
        self.end_headers()
        try:
            self.wfile.write(json.dumps({"error": {"message": "boom"}}).encode() if text is None else stream(text))
        except BrokenPipeError:
            return

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def answer(model: str, messages: list[dict[str, str]]) -> str | None:
    """What a model says to the last turn; None where it fails."""
    asked = messages[-1]["content"]
    if model == "judge-longer":
        found = ANSWERS.search(asked)
        assert found
        one, other = map(len, found.groups())
        return f"Not [[C]]. [[{'A' if one > other else 'B'}]]"
    if model == "shy" and "boom" in asked:
        return None
    if model == "slow":
        time.sleep(0.4)
    rules = {"judge-first": "[[A]]", "judge-mute": "Hard to say.", "judge-broken": None, "silent": "", "short": "Yes."}
    return rules.get(model, f"**A long answer** of {model} to: {asked}")


def stream(text: str) -> bytes:
    """An answer as server-sent events."""
    words = [{"choices": [{"index": 0, "delta": {"content": f"{word} "}}]} for word in text.split()]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": len(words)}}
    return b"".join(f"data: {json.dumps(each)}\n\n".encode() for each in (*words, end, usage)) + b"data: [DONE]\n\n"


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
