"""A small OpenAI-compatible server for what a real one cannot be made to do on demand: be slow, break off, babble.

    python openai_server.py      prints its port, then serves until killed

The model's name says how it answers: see `MODELS`.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = 20
SLOW_S = 0.1
FLOOD, FLOOD_PER_S = 4000, 2000
# as vLLM 0.32 sends it after its engine was killed
DEAD = {"error": {"message": "EngineCore encountered an issue. See stack trace (above) for the root cause.",
                  "type": "InternalServerError", "param": None, "code": 500}}  # fmt: skip
TOO_LONG = (
    "This model's maximum context length is 512 tokens. However, your prompt contains at least 513 input tokens, which "
    "exceeds this limit even without any output tokens. Please reduce the length of the input prompt. "
    "(parameter=input_tokens, value=513)"
)
NO_PARSER = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
PAGE = "<!DOCTYPE html><html><head><title>Welcome to nginx!</title></head></html>"

MODELS = {
    "fast": "20 words at once",
    "slow": "one word every 0.1 s",
    "flood": "4,000 words, 2,000 of them a second",
    "broken": "ends in mid-answer without a word",
    "cut": "closes the connection in the middle of an event",
    "dying": "an error inside the stream",
    "babble": "no JSON",
    "odd": "JSON of another kind",
    "deaf": "never answers",
    "hanging": "begins its answer, and never goes on",
    "page": "a web page",
    "moved": "points elsewhere",
    "whole": "no stream, but the answer in one piece",
    "busy": "too many requests",
    "long": "the prompt is too long; it counts tokens",
    "uncounted": "the prompt is too long; it does not count",
    "parserless": "takes tools only where none is chosen",
    "lines": "signs of Unicode that end a line, and an event in two lines' ends",
    "thinker": "thoughts beside the answer",
    "caller": "two calls of tools, in pieces",
    "sure": "log-probabilities",
}


class Handler(BaseHTTPRequestHandler):
    """One thread per request."""

    def do_GET(self) -> None:
        self._answer(200, PAGE, "text/html")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model = body["model"]
        if self.path == "/tokenize":
            self._answer(*((200, {"count": 549, "max_model_len": 512}) if model == "long" else (404, {"detail": "No"})))
        elif refused := refusal(body):
            self._answer(*refused)
        else:
            self._stream(model)

    def _answer(self, status: int, body: Any, kind: str = "application/json") -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if status == 307:
            self.send_header("Location", "https://elsewhere.example/v1/chat/completions")
        if status == 429:
            self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, model: str) -> None:
        if model == "deaf":
            time.sleep(60)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for event in events(model):
                self.wfile.write(f"data: {event}\n\n".encode())
                self.wfile.flush()
            if model == "cut":
                self.wfile.write(b'data: {"choices": [{"del')
                self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            print("gone", flush=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def refusal(body: dict[str, Any]) -> tuple[int, Any, str] | tuple[int, Any] | None:
    """What this model says instead of answering."""
    message = {"role": "assistant", "content": "Hi"}
    no_parser = body["model"] == "parserless" and body.get("tool_choice") != "none"
    return {
        "page": (200, PAGE, "text/html"),
        "moved": (307, ""),
        "whole": (200, {"choices": [{"message": message}]}),
        "busy": (429, {"object": "error", "message": "Too many requests."}),
        "long": (400, {"error": {"message": TOO_LONG, "code": 400}}),
        "uncounted": (400, {"error": {"message": TOO_LONG, "code": 400}}),
        "parserless": (400, {"error": {"message": NO_PARSER, "code": 400}}) if no_parser else None,
    }.get(body["model"])


def events(model: str) -> Iterator[str]:
    """What a stream of this model consists of."""
    if model in ODD:
        yield ODD[model]
        return
    yield chunk({"role": "assistant", "content": ""})
    if model in PIECES:
        yield from PIECES[model]
    else:
        yield from words(model)
        if model in ("broken", "cut"):
            return
    if model == "dying":
        yield json.dumps(DEAD)
    else:
        yield chunk({}, "tool_calls" if model == "caller" else "stop")
        tokens = FLOOD if model == "flood" else WORDS
        yield json.dumps({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": tokens}})
    yield "[DONE]"


def words(model: str) -> Iterator[str]:
    """Number after number, at the model's pace."""
    begun = time.monotonic()
    for number in range({"broken": 3, "cut": 3, "dying": 3, "hanging": 3, "flood": FLOOD}.get(model, WORDS)):
        if model == "slow":
            time.sleep(SLOW_S)
        if model == "flood":
            time.sleep(max(0.0, begun + number / FLOOD_PER_S - time.monotonic()))
        yield chunk({"content": f"{number} "})
    if model == "hanging":
        time.sleep(60)


def chunk(delta: dict[str, Any], finish_reason: str | None = None, logprobs: Any = None) -> str:
    """One piece of an answer."""
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
    return json.dumps({"choices": [choice]}, ensure_ascii=False)


def call(index: int, **piece: Any) -> str:
    """One piece of a call."""
    identity = {"id": piece.pop("id")} if "id" in piece else {}
    return chunk({"tool_calls": [{"index": index, **identity, "function": piece}]})


def token(text: str, logprob: float, *others: tuple[str, float]) -> dict[str, Any]:
    """A token as the protocol has it."""
    top = [{"token": other, "logprob": value} for other, value in others]
    return {"token": text, "logprob": logprob, "top_logprobs": top}


ODD = {"babble": "<html>", "odd": '{"choices": 5}'}
PIECES = {
    "lines": [chunk({"content": "a\u2028b\u0085c\x0bd"}) + "\r"],
    "thinker": [chunk({"reasoning": "They greet."}), chunk({"reasoning_content": " So I."}), chunk({"content": "Hi"})],
    "caller": [
        call(0, id="a", name="weather", arguments=""),
        call(0, arguments='{"city": '),
        call(0, arguments='"Bern"}'),
        call(1, id="b", name="time", arguments="{}"),
    ],
    "sure": [
        chunk({"content": "Hi"}, None, {"content": [token("Hi", -0.1, ("Hi", -0.1), ("Ho", -2.5))]}),
        chunk({"content": ""}, None, {"content": [token("", float("-inf")), token("", float("nan"))]}),
    ],
}

if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()
