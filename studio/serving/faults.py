"""What goes wrong between the studio and a model server, said in sentences. Nothing here repeats a key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import unescape
from typing import Any

import httpx

from studio.errors import PromptTooLong, RequestFailed, ServingError, SidecarNotReady

MESSAGE_MAX_CHARS = 500

# how vLLM, SGLang and OpenAI say that a prompt is too long: the context, then what came (vLLM stops counting one later)
TOO_LONG = (
    re.compile(
        r"context length is (?P<limit>\d+) tokens.*?(?P<least>at least )?(?P<count>\d+) (?:input )?tokens", re.S
    ),
    re.compile(r"\((?P<count>\d+) tokens\).*?context length \((?P<limit>\d+) tokens\)", re.S),
)
WITH_ANSWER = re.compile(
    r"context length is (?P<limit>\d+) tokens.*?\((?P<prompt>\d+) in the messages, (?P<answer>\d+) in the completion\)",
    re.S,
)
NO_ROOM = "max_tokens must be at least 1, got 0"  # vLLM's, where the prompt alone fills the context
NO_TOOL_PARSER = b"--tool-call-parser"
TITLE = re.compile(r"<(title|h1)[^>]*>(.*?)</\1>", re.S | re.I)


@contextmanager
def readable(url: str) -> Iterator[None]:
    """Turn httpx's errors into ours. They must not carry the request, whose headers hold the key."""
    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):
        raise RequestFailed(f"{url!r} is not a web address: write it as http://host:port") from None
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise SidecarNotReady(f"No model server answers at {url}. Is it running?") from None
    except httpx.TimeoutException:
        raise RequestFailed(f"The model server at {url} did not answer in time") from None
    except httpx.RequestError:
        raise RequestFailed("The answer broke off: the model server closed the connection") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise babble(url, str(error)) from None


def babble(url: str, what: str) -> RequestFailed:
    """The error of a server that answers with something else."""
    return RequestFailed(f"{url} does not speak the OpenAI protocol: {what[:MESSAGE_MAX_CHARS]}")


def silence(url: str, seconds: float) -> RequestFailed:
    """The error of a server that takes a request and says nothing."""
    return RequestFailed(
        f"{url} took the request and has sent nothing for {seconds:g} s. Is it a model server, and is its model loaded?"
    )


def too_long(count: int, limit: int, qualifier: str = "") -> PromptTooLong:
    """The error of a prompt of `count` tokens, where the context of `limit` also has to hold the answer's first."""
    over = count - limit + 1
    return PromptTooLong(
        f"The conversation is too long for this model by {qualifier}{over} token{'s' if over > 1 else ''}: it has "
        f"{qualifier}{count}, and the model takes {limit} with its answer. Clear it or shorten the text"
    )


def check(url: str, response: httpx.Response, body: bytes) -> None:
    """Refuse all that is not what was asked for: an error, another address, a web page.

    Raises:
        SidecarNotReady, RequestFailed
    """
    if response.has_redirect_location:
        # not followed: the key would go along
        raise RequestFailed(f"{url} points to another address: give {response.headers['location']} instead")
    if "text/html" in response.headers.get("content-type", "") or body[:200].lstrip().lower().startswith(b"<!doctype"):
        raise RequestFailed(f"{url} answered with a web page{_title(body)}: it is not the address of a model server")
    if response.status_code >= 400:
        raise refusal(response.status_code, _message(body) or response.reason_phrase, response.headers)


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> ServingError:
    """The error of a server that says no."""
    message = message.strip().rstrip(".")[:MESSAGE_MAX_CHARS]
    if status in (401, 403):
        return RequestFailed("The model server refused the API key")
    if status == 404:
        return RequestFailed(f"The model server does not have it: {message}")
    if status == 429:
        after = (headers or {}).get("retry-after", "")
        return RequestFailed(f"The model server takes no more requests now: {message}. Try again{_in_s(after)}")
    if status == 503 or "EngineCore" in message:
        return SidecarNotReady(f"The model server's engine has stopped: {message}. Start the server again")
    if status in (400, 413, 422) and any(words in message for words in ("context length", NO_ROOM)):
        return _overflow(message)
    return RequestFailed(f"The model server refused the request: {message}")


def in_stream(error: Any) -> ServingError:
    """The error that a server has put into the stream of its answer."""
    code = error.get("code") if isinstance(error, Mapping) else None
    return refusal(code if isinstance(code, int) else 500, _said(error))


def _overflow(message: str) -> RequestFailed:
    if (match := WITH_ANSWER.search(message)) and int(match["prompt"]) < int(match["limit"]):
        left = int(match["limit"]) - int(match["prompt"])
        return RequestFailed(
            f"The conversation has {match['prompt']} tokens and the model takes {match['limit']} with its answer: "
            f"lower max_tokens from {match['answer']} to {left}"
        )
    for pattern in TOO_LONG:
        if (match := pattern.search(message)) and int(match["count"]) >= int(match["limit"]):
            return too_long(int(match["count"]), int(match["limit"]), match.groupdict().get("least") or "")
    return PromptTooLong(f"The conversation is too long for this model: {message}. Clear it or shorten the text")


def _message(body: bytes) -> str:
    """What an error's body says, in the shapes of vLLM, SGLang, FastAPI and Ollama."""
    try:
        value = json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
    if not isinstance(value, Mapping):
        return str(value)
    return _said(next((value[key] for key in ("error", "message", "detail") if value.get(key)), value))


def _said(error: Any) -> str:
    return str(error.get("message") or error) if isinstance(error, Mapping) else str(error)


def _title(body: bytes) -> str:
    match = TITLE.search(body.decode(errors="replace"))
    words = " ".join(unescape(match[2]).split())[:80] if match else ""
    return f" ({words})" if words else ""


def _in_s(after: str) -> str:
    return f" in {after} s" if after.isdigit() else " later"
