"""Any OpenAI-compatible server (vLLM, SGLang, LMDeploy, TGI, Ollama) over HTTP, answers streamed.

Every way in which such a server fails becomes SidecarNotReady or RequestFailed here and in `faults`, and nowhere else.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Any, TypeVar

import httpx

from studio.errors import PromptTooLong, RequestFailed, ServingError, SidecarNotReady
from studio.serving import faults, sse

# a model may think long before its first token; a server that is there accepts a connection at once
TIMEOUT = httpx.Timeout(600.0, connect=5.0)
FIRST_BYTE_S = 120.0  # some servers load the model before they say anything at all
LIST_S = 10.0
RATE_S = 0.005  # tokens that came closer together were read at once: that tells nothing of the server's speed
LOGPROB_MIN = -9999.0  # in place of minus infinity and of no number at all, which JSON lacks; vLLM writes the same

Message = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Server:
    """Where a server listens: `url` without /v1, e.g. http://127.0.0.1:8000."""

    url: str
    api_key: str = field(default="", repr=False)


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. What does nothing is left out of the request: not every server knows every option.

    `logprobs`: how many of the likeliest alternatives come with each token; 0 asks for the tokens' own
    log-probabilities, None for none.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int | None = None
    max_tokens: int | None = 512
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    enable_thinking: bool | None = None
    min_p: float = 0.0
    logprobs: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The options of a request."""
        values: dict[str, Any] = {"temperature": self.temperature, "top_p": self.top_p}
        optional = {"top_k": self.top_k, "max_tokens": self.max_tokens, "seed": self.seed}
        values |= {key: value for key, value in optional.items() if value is not None}
        if self.repetition_penalty != 1.0:
            values["repetition_penalty"] = self.repetition_penalty
        if self.min_p:
            values["min_p"] = self.min_p
        if self.logprobs is not None:
            values |= {"logprobs": True, "top_logprobs": self.logprobs}
        if self.stop:
            values["stop"] = list(self.stop)
        if self.enable_thinking is not None:
            values["chat_template_kwargs"] = {"enable_thinking": self.enable_thinking}
        return values


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool. `arguments` is JSON as the model wrote it, which may be none."""

    name: str
    arguments: str
    id: str = ""

    def to_json(self) -> dict[str, Any]:
        """The call as a message holds it."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True)
class Token:
    """A token of an answer, its log-probability, and the likeliest at its place with theirs (it may be among them)."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Delta:
    """A piece of an answer: of its text, or of the thoughts before it (`reasoning`), where the server parts the two.

    `tokens` so far, counted by pieces: a server may put several into one. `tool_calls` are all so far, as far as they
    have come; `logprobs` those of this piece.
    """

    text: str
    tokens: int
    ttft_s: float
    tokens_per_s: float | None
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Done:
    """The end of an answer. Token counts are the server's own where it gives them, else counted by pieces.

    ttft_s: seconds from request to first token; tokens_per_s: after the first token, None for fewer than two;
    where all of them were read at once, since the request.
    """

    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int
    ttft_s: float | None
    tokens_per_s: float | None
    seconds: float
    tool_calls: tuple[ToolCall, ...] = ()


class Client:
    """A connection to one server. Use as `async with Client(server) as client`.

    `first_byte_s`: how long it may take until an answer begins; `gather_s`: tokens that come within this are read
    together, which costs less.

    Raises:
        RequestFailed: the key is none.
    """

    def __init__(
        self,
        server: Server,
        transport: httpx.AsyncBaseTransport | None = None,
        first_byte_s: float = FIRST_BYTE_S,
        gather_s: float = 0.0,
    ) -> None:
        self.server = server
        self._first_byte_s = first_byte_s
        self._gather_s = gather_s
        if not (server.api_key.isascii() and server.api_key.isprintable()):
            raise RequestFailed(f"The API key for {server.url} holds a line break, or a character that no key has")
        headers = {"Authorization": f"Bearer {server.api_key}"} if server.api_key else {}
        # whom to trust only matters with https, and takes 40 ms to read
        verify = False if server.url.lower().startswith("http:") else _authorities()
        # never through a proxy of the environment: the key would go with it
        self._http = httpx.AsyncClient(
            base_url=server.url, headers=headers, timeout=TIMEOUT, transport=transport, trust_env=False,
            verify=verify,
        )  # fmt: skip

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; the server drops what it was answering."""
        await self._http.aclose()

    async def health(self) -> bool:
        """Whether the server says that it can answer."""
        try:
            return (await self._http.get("/health", timeout=5.0)).status_code == 200
        except httpx.TransportError:
            return False

    async def models(self) -> list[str]:
        """The names that requests may use.

        Raises:
            SidecarNotReady, RequestFailed
        """
        answer = await self._ask("GET", "/v1/models", timeout=LIST_S)
        try:
            return [str(model["id"]) for model in answer.json()["data"]]
        except (ValueError, KeyError, TypeError):
            raise faults.babble(self.server.url, f"its list of models is {answer.text!r}") from None

    async def text(self, path: str) -> str:
        """GET what is no JSON, such as /metrics.

        Raises:
            SidecarNotReady, RequestFailed
        """
        return (await self._ask("GET", path, timeout=LIST_S)).text

    async def post(self, path: str, payload: Mapping[str, Any]) -> Any:
        """POST JSON; the answer's JSON, or its text where it is none.

        Raises:
            SidecarNotReady, RequestFailed
        """
        answer = await self._ask("POST", path, json=payload)
        try:
            return answer.json()
        except ValueError:
            return answer.text

    async def stream_chat(
        self,
        model: str,
        messages: Sequence[Message],
        sampling: Sampling = Sampling(),
        options: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Delta | Done]:
        """Stream an answer: any number of Delta, then one Done. Closing the iterator stops the server's work.

        `options` are further ones of the request.

        Raises:
            SidecarNotReady: nothing listens, or the server shut down while answering.
            RequestFailed: refused (unknown model, too long, wrong key) or broken off.
        """
        payload = {
            "model": model,
            "messages": list(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            **sampling.to_json(),
            **(options or {}),
        }
        answer = _Answer()
        try:
            with faults.readable(self.server.url):
                async with self._begun(payload) as response:
                    async for chunk in sse.values(response, self._gather_s):
                        if delta := self._understood(answer, chunk):
                            yield delta
        except PromptTooLong as error:
            raise (await self._counted(payload)) or error from None
        yield answer.done()

    async def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        with faults.readable(self.server.url):
            response = await self._http.request(method, path, **options)
        faults.check(self.server.url, response, response.content)
        return response

    @asynccontextmanager
    async def _begun(self, payload: Mapping[str, Any]) -> AsyncIterator[httpx.Response]:
        """The answer from its first byte on."""
        try:
            async with asyncio.timeout(self._first_byte_s):
                response = await self._send(payload)
                if "tools" in payload and not _streams(response) and faults.NO_TOOL_PARSER in await response.aread():
                    # the model may still write its calls as text
                    response = await self._send({**payload, "tool_choice": "none"})
                if not _streams(response):
                    faults.check(self.server.url, response, body := await response.aread())
                    raise faults.babble(self.server.url, f"no stream of events, but {body.decode(errors='replace')!r}")
        except TimeoutError:
            raise faults.silence(self.server.url, self._first_byte_s) from None
        try:
            yield response
        finally:
            await response.aclose()

    async def _send(self, payload: Mapping[str, Any]) -> httpx.Response:
        request = self._http.build_request("POST", "/v1/chat/completions", json=payload)
        return await self._http.send(request, stream=True)

    def _understood(self, answer: _Answer, chunk: Any) -> Delta | None:
        try:
            return answer.add(chunk)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            raise faults.babble(self.server.url, f"it sent {chunk!r}") from None

    async def _counted(self, payload: Mapping[str, Any]) -> PromptTooLong | None:
        """By how much a prompt is too long, where the server counts for us: vLLM itself stops at the first too many."""
        known = ("model", "messages", "tools", "chat_template", "chat_template_kwargs")
        try:
            found = await self.post("/tokenize", {key: payload[key] for key in known if key in payload})
            count, limit = int(found["count"]), int(found["max_model_len"])
        except (ServingError, KeyError, TypeError, ValueError):
            return None
        return faults.too_long(count, limit) if count >= limit else None


@cache
def _authorities() -> ssl.SSLContext:
    """Whom to trust with https."""
    return httpx.create_ssl_context(trust_env=False)


class _Answer:
    """An answer while it comes in."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()
        self.first: float | None = None
        self.last = self.begun
        self.pieces = 0
        self.finish_reason: str | None = None
        self.prompt_tokens: int | None = None
        self.completion_tokens = 0
        self.calls: dict[int, ToolCall] = {}

    def add(self, chunk: Mapping[str, Any]) -> Delta | None:
        """Take a chunk in; what of it is to be shown."""
        if error := chunk.get("error"):
            raise faults.in_stream(error)
        usage = chunk.get("usage") or {}
        self.completion_tokens = _of(int, usage, "completion_tokens") or self.completion_tokens
        self.prompt_tokens = _of(int, usage, "prompt_tokens") or self.prompt_tokens
        return self._choice(chunk["choices"][0]) if chunk.get("choices") else None

    def _choice(self, choice: Mapping[str, Any]) -> Delta | None:
        self.finish_reason = _of(str, choice, "finish_reason") or self.finish_reason
        delta = choice.get("delta") or {}
        text = _of(str, delta, "content") or ""
        reasoning = _of(str, delta, "reasoning") or _of(str, delta, "reasoning_content") or ""
        logprobs = _logprobs(choice.get("logprobs") or {})
        if calls := delta.get("tool_calls"):
            self._call(calls)
        if not (text or reasoning or calls or logprobs):
            return None  # the opening chunk only names the role, the last one only the reason
        self._count()
        ttft_s, rate = self._ttft_s() or 0.0, self._rate(self.pieces)
        return Delta(text, self.pieces, ttft_s, rate, reasoning, tuple(self.calls.values()), logprobs)

    def done(self) -> Done:
        """The figures of the whole answer.

        Raises:
            SidecarNotReady: the server was shut down meanwhile.
            RequestFailed: the stream ended before the answer did.
        """
        if self.finish_reason == "abort":
            raise SidecarNotReady("The model server was stopped while it was answering")
        if self.finish_reason is None:
            what = "The answer broke off" if self.pieces else "No answer came"
            raise RequestFailed(f"{what}: the model server closed the connection")
        tokens = self.completion_tokens or self.pieces
        figures = (self.prompt_tokens, tokens, self._ttft_s(), self._rate(tokens), time.perf_counter() - self.begun)
        return Done(self.finish_reason, *figures, tuple(self.calls.values()))

    def _call(self, pieces: Sequence[Mapping[str, Any]]) -> None:
        """Calls come in pieces, too: the name first, then the arguments bit by bit."""
        for place, piece in enumerate(pieces):
            index, function = piece.get("index", place), piece.get("function") or {}
            known = self.calls.get(index, ToolCall("", ""))
            self.calls[index] = ToolCall(
                known.name + (_of(str, function, "name") or ""),
                known.arguments + (_of(str, function, "arguments") or ""),
                known.id or _of(str, piece, "id") or "",
            )

    def _count(self) -> None:
        self.pieces += 1
        self.last = time.perf_counter()
        self.first = self.first or self.last

    def _ttft_s(self) -> float | None:
        return None if self.first is None else self.first - self.begun

    def _rate(self, tokens: int) -> float | None:
        if self.first is None or tokens < 2:
            return None
        if self.last - self.first < RATE_S:
            return tokens / (self.last - self.begun)
        return (tokens - 1) / (self.last - self.first)


def _of(kind: type[T], value: Mapping[str, Any], key: str) -> T | None:
    """What stands under `key`: nothing, or one of that kind; servers say strange things, and files must hold them."""
    found = value.get(key)
    if found is not None and not isinstance(found, kind):
        raise TypeError(key)
    return found


def _streams(response: httpx.Response) -> bool:
    """Whether this can be a stream of events, whatever it calls itself."""
    kind = response.headers.get("content-type", "").partition(";")[0]
    return response.status_code == 200 and kind not in ("text/html", "application/json")


def _logprobs(value: Mapping[str, Any]) -> tuple[Token, ...]:
    return tuple(
        Token(*_likely(token), tuple(_likely(other) for other in token.get("top_logprobs") or ()))
        for token in value.get("content") or ()
    )


def _likely(token: Mapping[str, Any]) -> tuple[str, float]:
    return _of(str, token, "token") or "", max(LOGPROB_MIN, float(token["logprob"]))
