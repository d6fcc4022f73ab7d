"""A small OpenAI-compatible server for what a real one cannot be made to do on demand: be slow, break off, babble.

    python openai_server.py      prints its port, then serves until killed

The model's name says how it answers: `fast` (20 words at once), `slow` (one word every 0.3 s), `broken` (ends in
mid-answer without a word), `dying` (an error inside the stream), `babble` (no JSON), `deaf` (never answers).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = 20
SLOW_S = 0.3
# as vLLM 0.32 sends it after its engine was killed
DEAD = {"error": {"message": "EngineCore encountered an issue. See stack trace (above) for the root cause.",
                  "type": "InternalServerError", "param": None, "code": 500}}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """One thread per request."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["model"] == "deaf":
            time.sleep(60)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for event in events(body["model"]):
                self.wfile.write(f"data: {event}\n\n".encode())
                self.wfile.flush()
        except BrokenPipeError:
            print("gone", flush=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def events(model: str) -> Iterator[str]:
    """What a stream of this model consists of."""
    if model == "babble":
        yield "<html>"
        return
    yield chunk({"role": "assistant", "content": ""})
    for number in range(WORDS):
        if model == "slow":
            time.sleep(SLOW_S)
        if model in ("broken", "dying") and number == 3:
            yield from [json.dumps(DEAD), "[DONE]"] if model == "dying" else []
            return
        yield chunk({"content": f"{number} "})
    yield chunk({}, "stop")
    yield json.dumps({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": WORDS}})
    yield "[DONE]"


def chunk(delta: dict[str, str], finish_reason: str | None = None) -> str:
    """One piece of an answer."""
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
