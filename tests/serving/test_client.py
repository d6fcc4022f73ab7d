"""Every way in which a server says no, as bytes that vLLM 0.32 really sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from studio.errors import RequestFailed, ServingError, SidecarNotReady
from studio.serving.client import Client, Delta, Done, Sampling, Server

SERVER = Server("http://127.0.0.1:8000", "very-secret")
TURN = [{"role": "user", "content": "hi"}]

UNKNOWN_MODEL = (
    b'{"error":{"message":"The model `nope` does not exist. Valid aliases: seedling.","type":"NotFoundError",'
    b'"param":"model","code":404}}'
)
TOO_LONG = (
    b'{"error":{"message":"This model\'s maximum context length is 512 tokens. However, your prompt contains at '
    b"least 513 input tokens, which exceeds this limit even without any output tokens. Please reduce the length of "
    b'the input prompt. (parameter=input_tokens, value=513)","type":"BadRequestError","param":"input_tokens",'
    b'"code":400}}'
)
TOO_MANY = (
    b'{"error":{"message":"max_tokens=100000 cannot be greater than max_model_len=512. Please request fewer output '
    b'tokens. (parameter=max_tokens, value=100000)","type":"BadRequestError","param":"max_tokens","code":400}}'
)
UNAUTHORIZED = b'{"error":"Unauthorized"}'
ENGINE_DEAD = (
    b'{"error": {"message": "EngineCore encountered an issue. See stack trace (above) for the root cause.", '
    b'"type": "InternalServerError", "param": null, "code": 500}}'
)
OPENING = (
    b'data: {"id":"chatcmpl-8677d49fce1dba3a","object":"chat.completion.chunk","created":1795312368,"model":"seedling",'
    b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
)


def piece(text: str, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":9,"total_tokens":14,"completion_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"


def answer_with(status: int, body: bytes) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(status, content=body)


def ask(handler: Callable[[httpx.Request], httpx.Response]) -> list[Delta | Done]:
    async def collect() -> list[Delta | Done]:
        async with Client(SERVER, httpx.MockTransport(handler)) as client:
            return [event async for event in client.stream_chat("seedling", TURN)]

    return asyncio.run(collect())


def test_an_answer_is_deltas_and_one_done() -> None:
    events = ask(answer_with(200, OPENING + piece("I am") + piece(" here.") + piece("", "stop") + USAGE + DONE))
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "I am here."
    assert [event.tokens for event in events if isinstance(event, Delta)][:2] == [1, 2]
    done = events[-1]
    assert isinstance(done, Done)
    assert (done.finish_reason, done.prompt_tokens, done.completion_tokens) == ("stop", 9, 5)


def test_a_server_without_usage_is_counted_by_pieces() -> None:
    done = ask(answer_with(200, OPENING + piece("a") + piece("b", "length") + DONE))[-1]
    assert isinstance(done, Done)
    assert (done.finish_reason, done.prompt_tokens, done.completion_tokens) == ("length", None, 2)


def test_the_speed_of_what_was_read_at_once_counts_from_the_request() -> None:
    done = ask(answer_with(200, OPENING + piece("a") + piece("b") + piece("c", "stop") + USAGE + DONE))[-1]
    assert isinstance(done, Done)
    assert done.tokens_per_s
    assert done.ttft_s
    assert done.tokens_per_s <= 5 / done.ttft_s


@pytest.mark.parametrize(
    ("status", "body", "kind", "sentence"),
    [
        (404, UNKNOWN_MODEL, RequestFailed, "does not have it: The model `nope` does not exist"),
        (400, TOO_LONG, RequestFailed, "conversation is too long for this model.*Clear it or shorten"),
        (400, TOO_MANY, RequestFailed, "refused the request: max_tokens=100000"),
        (401, UNAUTHORIZED, RequestFailed, "refused the API key"),
        (500, ENGINE_DEAD, SidecarNotReady, "engine has stopped.*Start the server again"),
        (503, b"", SidecarNotReady, "engine has stopped"),
        (502, b"<html>Bad Gateway</html>", RequestFailed, "Bad Gateway"),
        (200, OPENING + b"data: " + ENGINE_DEAD + b"\n\n" + DONE, SidecarNotReady, "engine has stopped"),
        (200, OPENING + piece("I am"), RequestFailed, "broke off"),
        (200, OPENING + piece("I am", "abort") + DONE, SidecarNotReady, "was stopped while it was answering"),
        (200, b"data: <html>\n\n", RequestFailed, "does not speak the OpenAI protocol"),
    ],
)  # fmt: skip
def test_errors_are_sentences(status: int, body: bytes, kind: type[ServingError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence) as caught:
        ask(answer_with(status, body))
    assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (httpx.ConnectError("refused"), SidecarNotReady, "No model server answers at http://127.0.0.1:8000"),
        (httpx.ReadTimeout("slow"), RequestFailed, "did not answer in time"),
        (httpx.RemoteProtocolError("cut"), RequestFailed, "broke off"),
    ],
)
def test_broken_connections_are_sentences_without_the_request(
    error: httpx.TransportError, kind: type[ServingError], sentence: str
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        error.request = request
        raise error

    with pytest.raises(kind, match=sentence) as caught:
        ask(fail)
    # a traceback printer would follow these to the request, and its headers hold the key
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_url_that_is_none() -> None:
    async def ask_there() -> None:
        async with Client(Server("localhost:8000")) as client:
            await client.models()

    with pytest.raises(RequestFailed, match="write it as http://"):
        asyncio.run(ask_there())


@pytest.mark.parametrize("key", ["secret\n", "schlüssel", "a\0b"])
def test_a_key_that_is_none_is_told_and_not_repeated(key: str) -> None:
    with pytest.raises(RequestFailed, match="API key for http://there holds") as caught:
        Client(Server("http://there", key))
    assert key not in str(caught.value)


def test_the_key_goes_into_the_header_and_nowhere_else() -> None:
    def check(request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == "Bearer very-secret"
        assert b"very-secret" not in request.content
        return httpx.Response(200, content=OPENING + piece("a", "stop") + DONE)

    ask(check)
    assert "very-secret" not in repr(SERVER)


def test_only_options_that_were_set_are_sent() -> None:
    assert Sampling().to_json() == {"temperature": 0.7, "top_p": 1.0, "max_tokens": 512}
    full = Sampling(0.1, 0.5, 40, None, 1.2, 7, ("\n",)).to_json()
    assert full == {
        "temperature": 0.1, "top_p": 0.5, "top_k": 40, "repetition_penalty": 1.2, "seed": 7, "stop": ["\n"],
    }  # fmt: skip


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=1), inner, max_size=2),
)
CALLS = JSON | st.lists(JSON | st.fixed_dictionaries({"index": JSON, "function": JSON}), max_size=2)
TOKENS = JSON | st.fixed_dictionaries({"token": JSON, "logprob": JSON, "top_logprobs": JSON})
CHUNKS = JSON | st.fixed_dictionaries({}, optional={
    "usage": JSON | st.fixed_dictionaries({"completion_tokens": JSON, "prompt_tokens": JSON}),
    "error": JSON | st.fixed_dictionaries({"message": JSON, "code": JSON}),
    "choices": JSON | st.lists(JSON | st.fixed_dictionaries({}, optional={
        "finish_reason": JSON,
        "logprobs": JSON | st.fixed_dictionaries({"content": JSON | st.lists(TOKENS, max_size=2)}),
        "delta": JSON | st.fixed_dictionaries({}, optional={
            "content": JSON, "reasoning": JSON, "reasoning_content": JSON, "tool_calls": CALLS,
        }),
    }), max_size=2),
})  # fmt: skip


@given(st.lists(st.binary(max_size=20) | st.sampled_from([b"data:", b"\n", b'{"choices":', b"[", b'"', b"\xff"])))
@example([b"data: ", b"[" * 100_000, b"\n"])
@example([b"data: \xff\n"])
def test_bytes_of_any_kind_are_told(body: list[bytes]) -> None:
    with pytest.raises(ServingError):
        ask(answer_with(200, b"".join(body)))


def test_an_answer_packed_wrongly_is_told() -> None:
    with pytest.raises(RequestFailed, match="closed the connection"):
        ask(lambda request: httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"no")))


@given(st.lists(CHUNKS, max_size=3))
def test_whatever_a_server_sends_there_is_an_answer_or_a_sentence(chunks: list[object]) -> None:
    body = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    with suppress(ServingError):
        *deltas, done = ask(answer_with(200, OPENING + body + piece("Hi", "stop") + DONE))
        TypeAdapter(Done).validate_json(TypeAdapter(Done).dump_json(done, warnings="error"), strict=True)
        for delta in deltas:
            TypeAdapter(Delta).validate_json(TypeAdapter(Delta).dump_json(delta, warnings="error"), strict=True)
