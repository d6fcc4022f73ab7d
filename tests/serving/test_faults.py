"""What servers do wrong, over real connections, and the sentence that is said of it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import httpx
import pytest

from studio.errors import PromptTooLong, RequestFailed, ServingError, SidecarNotReady
from studio.serving import faults
from studio.serving.client import Client, Delta, Done, Sampling, Server

TURN = [{"role": "user", "content": "hi"}]


def ask(server: Server, model: str = "fast", first_byte_s: float = 5.0) -> str:
    """The text of an answer."""

    async def collect() -> list[Delta | Done]:
        async with Client(server, first_byte_s=first_byte_s) as client:
            return [event async for event in client.stream_chat(model, TURN, Sampling())]

    return "".join(event.text for event in asyncio.run(collect()) if isinstance(event, Delta))


@contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[Server]:
    """A bare port; `talk` has each connection."""

    def serve() -> None:
        while True:
            try:
                connection, _ = port.accept()
            except OSError:
                return
            with connection:
                talk(connection)

    with closing(socket.create_server(("127.0.0.1", 0))) as port:
        threading.Thread(target=serve, daemon=True).start()
        yield Server(f"http://127.0.0.1:{port.getsockname()[1]}", "very-secret")
        port.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("model", "kind", "sentence"),
    [
        ("broken", RequestFailed, "^The answer broke off: the model server closed the connection$"),
        ("cut", RequestFailed, "The answer broke off"),
        ("dying", SidecarNotReady, "engine has stopped.*Start the server again"),
        ("babble", RequestFailed, "does not speak the OpenAI protocol: Expecting value"),
        ("odd", RequestFailed, "does not speak the OpenAI protocol: it sent {'choices': 5}"),
        ("page", RequestFailed, r"answered with a web page \(Welcome to nginx!\): it is not the address of a model"),
        ("moved", RequestFailed, "points to another address: give https://elsewhere.example/v1/chat/comp.* instead"),
        ("whole", RequestFailed, 'no stream of events, but \'{"choices"'),
        ("busy", RequestFailed, "takes no more requests now: Too many requests. Try again in 7 s"),
        ("long", PromptTooLong, "too long for this model by 38 tokens: it has 549, and the model takes 512.*Clear it"),
        ("uncounted", PromptTooLong, "too long for this model by at least 2 tokens: it has at least 513"),
        ("parserless", RequestFailed, "requires --enable-auto-tool-choice"),
    ],
)
def test_each_fault_has_its_sentence(fake: Server, model: str, kind: type[ServingError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        ask(fake, model)


def test_a_server_that_takes_a_request_and_says_nothing(fake: Server) -> None:
    with pytest.raises(RequestFailed, match=r"took the request and has sent nothing for 0\.3 s"):
        ask(fake, "deaf", first_byte_s=0.3)


def test_a_port_that_is_no_web_server() -> None:
    with listening(lambda connection: connection.sendall(b"220 mail.example ESMTP\r\n")) as server:
        with pytest.raises(RequestFailed, match="closed the connection") as caught:
            ask(server)
        assert "very-secret" not in str(caught.value)


def test_a_port_that_hangs_up() -> None:
    with listening(lambda connection: connection.recv(10)) as server, pytest.raises(RequestFailed, match="closed"):
        ask(server)


def test_a_web_page_has_no_models(fake: Server) -> None:
    async def names() -> list[str]:
        async with Client(fake) as client:
            return await client.models()

    with pytest.raises(RequestFailed, match=r"web page \(Welcome to nginx!\)"):
        asyncio.run(names())


def test_signs_that_end_a_line_in_unicode_do_not_end_one_here(fake: Server) -> None:
    assert ask(fake, "lines") == "a\u2028b\u0085c\x0bd"


@pytest.mark.parametrize(
    ("status", "message", "kind", "sentence"),
    [
        (400, "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)", PromptTooLong, "too long"),
        (
            400,
            "The input (600 tokens) is longer than the model's context length (512 tokens).",
            PromptTooLong,
            "by 89 tokens: it has 600, and the model takes 512",
        ),
        (
            400,
            "This model's maximum context length is 4097 tokens. However, your messages resulted in 4097 tokens.",
            PromptTooLong,
            "by 1 token: it has 4097",
        ),
        (
            400,
            "This model's maximum context length is 2048 tokens. However, you requested 2412 tokens (1900 in the "
            "messages, 512 in the completion).",
            RequestFailed,
            "has 1900 tokens and the model takes 2048 with its answer: lower max_tokens from 512 to 148",
        ),
        (400, "This model's maximum context length is unknown", PromptTooLong, "context length is unknown. Clear it"),
        (401, "Unauthorized", RequestFailed, "refused the API key"),
        (404, "The model `x` does not exist.", RequestFailed, "does not have it: The model `x` does not exist$"),
        (429, "slow down", RequestFailed, "slow down. Try again later"),
        (503, "", SidecarNotReady, "engine has stopped"),
        (500, "boom", RequestFailed, "refused the request: boom"),
    ],
)
def test_what_servers_say_becomes_a_sentence(
    status: int, message: str, kind: type[ServingError], sentence: str
) -> None:
    error = faults.refusal(status, message)
    assert type(error) is kind
    with pytest.raises(kind, match=sentence):
        raise error


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "vLLM says"}}', "vLLM says"),
        (b'{"error": "Ollama says"}', "Ollama says"),
        (b'{"object": "error", "message": "SGLang says", "code": 400}', "SGLang says"),
        (b'{"detail": "FastAPI says"}', "FastAPI says"),
        (b"[1]", r"\[1\]"),
        (b"plain", "plain"),
        (b"\xff", "\ufffd"),
        (b"", "Bad Request"),
    ],
)
def test_errors_come_in_many_shapes(body: bytes, said: str) -> None:
    with pytest.raises(RequestFailed, match=f"refused the request: {said}$"):
        faults.check("http://there", httpx.Response(400, content=body), body)


@pytest.mark.parametrize("scheme", ["https", "HTTPS", "Https"])
def test_a_key_never_goes_over_unverified_tls(scheme: str) -> None:
    pool = Client(Server(f"{scheme}://example.org", "key"))._http._transport._pool  # type: ignore[attr-defined]
    assert pool._ssl_context.verify_mode is ssl.CERT_REQUIRED
