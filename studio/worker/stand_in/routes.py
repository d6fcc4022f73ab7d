"""The HTTP routes, as vLLM has them: paths, JSON, status codes."""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
import traceback
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from http import HTTPStatus
from types import FrameType
from typing import Any

import transformers
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from studio.errors import AdapterRefused, RequestFailed
from studio.worker.stand_in import wording
from studio.worker.stand_in.desk import Desk
from studio.worker.stand_in.generation import Generation, Piece, Task
from studio.worker.stand_in.replies import ChatReply, CompletionReply, Reply, usage
from studio.worker.stand_in.requests import Asked, Chat, Completion, Load, Tokenize, Unload
from studio.worker.stand_in.served import NotServed

CLOSING_S = 1
CLIENT_GONE = 499  # as nginx says; nobody reads it
Pieces = AsyncGenerator[tuple[int, Piece], None]


def build(desk: Desk, api_key: str) -> FastAPI:
    """The application."""
    app = FastAPI(openapi_url=None)
    app.state.desk = desk
    app.add_middleware(RequireKey, api_key=api_key)
    for kind, status in ((RequestFailed, 400), (RequestValidationError, 400), (NotServed, 404), (AdapterRefused, 500)):
        app.add_exception_handler(kind, lambda _, error, status=status: _refusal(error, status))
    app.add_exception_handler(Exception, lambda _, error: _refusal(error, 500))
    for path, handler in GETS.items():
        app.add_api_route(path, handler, methods=["GET"])
    for path, handler in POSTS.items():
        app.add_api_route(path, handler, methods=["POST"], response_model=None)
    return app


def run(app: FastAPI, generation: Generation, listener: socket.socket) -> None:
    """Serve until a signal ends it; answers under way end at their next token."""
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=CLOSING_S)
    Server(config, generation).run(sockets=[listener])


class Server(uvicorn.Server):
    """A server that does not wait for long answers when it is to end."""

    def __init__(self, config: uvicorn.Config, generation: Generation) -> None:
        super().__init__(config)
        self._generation = generation

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        self._generation.abort()
        super().handle_exit(sig, frame)


class RequireKey:
    """ASGI middleware: without the server's key only /health answers."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self._app = app
        self._wanted = f"Bearer {api_key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._wanted):
                return await JSONResponse({"error": "Unauthorized"}, 401)(scope, receive, send)
        return await self._app(scope, receive, send)


async def health() -> Response:
    """Answers at all."""
    return Response()


async def version() -> dict[str, str]:
    """Which Transformers answers."""
    return {"version": transformers.__version__, "server": "seedbed-stand-in"}


async def models(request: Request) -> dict[str, Any]:
    """What it answers as."""
    return _desk(request).served.to_json()


async def metrics(request: Request) -> Response:
    """For Prometheus."""
    return PlainTextResponse(_desk(request).metrics.text())


async def tokenize(asked: Tokenize, request: Request) -> dict[str, Any]:
    """A text or a conversation as tokens."""
    desk = _desk(request)
    desk.served.model(asked.model)
    if asked.messages:
        tokens = wording.of_conversation(desk.tokenizer, asked)
    else:
        tokens = wording.of_text(desk.tokenizer, asked.prompt or "", asked.add_special_tokens)
    return {"count": len(tokens), "max_model_len": desk.served.length_max, "tokens": tokens, "token_strs": None}


async def load(asked: Load, request: Request) -> Response:
    """Load an adapter."""
    served = _desk(request).served
    await asyncio.to_thread(served.load, asked.lora_name, asked.lora_path, asked.load_inplace)
    return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' added successfully.")


async def unload(asked: Unload, request: Request) -> Response:
    """Forget an adapter."""
    _desk(request).served.unload(asked.lora_name)
    return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' removed successfully.")


async def chat(asked: Chat, request: Request) -> Response:
    """Go on with a conversation."""
    desk = _desk(request)
    desk.served.model(asked.model)
    prompts = [wording.of_conversation(desk.tokenizer, asked)]
    return await _answer(request, asked, desk.tasks(asked, prompts), ChatReply)


async def completions(asked: Completion, request: Request) -> Response:
    """Go on with a text."""
    desk = _desk(request)
    prompts = [
        wording.of_text(desk.tokenizer, prompt, asked.add_special_tokens) if isinstance(prompt, str) else prompt
        for prompt in asked.prompts
    ]
    return await _answer(request, asked, desk.tasks(asked, prompts), CompletionReply)


GETS: dict[str, Callable[..., Any]] = {
    "/health": health,
    "/version": version,
    "/v1/models": models,
    "/metrics": metrics,
}
POSTS: dict[str, Callable[..., Any]] = {
    "/v1/chat/completions": chat,
    "/v1/completions": completions,
    "/tokenize": tokenize,
    "/v1/load_lora_adapter": load,
    "/v1/unload_lora_adapter": unload,
}


async def _answer(request: Request, asked: Chat | Completion, tasks: list[Task], kind: type[Reply]) -> Response:
    desk = _desk(request)
    name = asked.model or desk.served.names[0]
    reply = kind(name, desk.text_of, asked.return_tokens_as_token_ids, asked.alternatives)
    prompt_tokens = sum(len(task.prompt) for task in tasks[:: asked.n])
    pieces = desk.metrics.watched(desk.generation.answer(tasks), prompt_tokens)
    if asked.stream:
        return StreamingResponse(
            _events(pieces, asked, reply, len(tasks), prompt_tokens), media_type="text/event-stream"
        )
    work = asyncio.create_task(_collected(pieces, len(tasks)))
    if not await _outlasts(request, work):
        return Response(status_code=CLIENT_GONE)
    answers = work.result()
    return JSONResponse(reply.whole(answers, usage(prompt_tokens, sum(map(_count, answers)))))


async def _events(
    pieces: Pieces, asked: Asked, reply: Reply, count: int, prompt_tokens: int
) -> AsyncGenerator[str, None]:
    """A stream of server-sent events."""
    out, tokens = [0] * count, 0
    for opening in reply.openings(count):
        yield _event(reply.chunk([opening]))
    try:
        async with aclosing(pieces):
            async for number, piece in pieces:
                yield _event(reply.chunk([reply.part(number, piece, out[number])]))
                out[number] += len(piece.text)
                tokens += _count([piece])
    except Exception as error:  # noqa: BLE001  # the front door of an answer: its status has long been sent
        traceback.print_exc()
        yield _event(_error(error, 500))
    if asked.stream_options.include_usage:
        yield _event(reply.chunk([], usage(prompt_tokens, tokens)))
    yield "data: [DONE]\n\n"


async def _collected(pieces: Pieces, count: int) -> list[list[Piece]]:
    answers: list[list[Piece]] = [[] for _ in range(count)]
    async with aclosing(pieces):
        async for number, piece in pieces:
            answers[number].append(piece)
    return answers


async def _outlasts(request: Request, work: asyncio.Task[Any]) -> bool:
    """Whether the client waits for the end of `work`, which is else cancelled."""
    gone = asyncio.create_task(_gone(request))
    await asyncio.wait((gone, work), return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    work.cancel()  # no effect on what is done
    return work.done()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def _count(pieces: Sequence[Piece]) -> int:
    return sum(piece.drawn is not None for piece in pieces)


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _refusal(error: Exception, status: int) -> Response:
    return JSONResponse(_error(error, status), status)


def _error(error: Exception, status: int) -> dict[str, Any]:
    message = _of_validation(error) if isinstance(error, RequestValidationError) else str(error) or type(error).__name__
    kind = HTTPStatus(status).phrase.replace(" ", "").removesuffix("Error") + "Error"
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


def _of_validation(error: RequestValidationError) -> str:
    """Everything that is wrong with a request, in one line."""
    return "; ".join(_sentence(each["loc"][1:], each["msg"], each["input"]) for each in error.errors())


def _sentence(place: Sequence[str | int], message: str, given: Any) -> str:
    message = message.removeprefix("Value error, ")
    return f"{'.'.join(map(str, place))}: {message}, got {given!r:.80}" if place else message
