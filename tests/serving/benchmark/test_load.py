"""Streams as servers send them, read to the token; and the load itself, put to a real server."""

import asyncio
import json
import time

import pytest

from studio.config.bench import BenchConfig
from studio.errors import RequestFailed
from studio.serving.benchmark import load, workload
from studio.serving.benchmark.load import read
from studio.serving.benchmark.workload import Ask, Case
from studio.serving.servers import Endpoint


def event(text: str | None = None, so_far: int | None = None) -> bytes:
    value: dict[str, object] = {"choices": [] if text is None else [{"text": text}]}
    if so_far is not None:
        value["usage"] = {"completion_tokens": so_far}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def test_tokens_are_stamped_when_they_come() -> None:
    found = read(1.0, [(1.5, event("a", 1)), (1.6, event("b", 2)), (1.8, event("c", 3)), (1.8, event(None, 3) + DONE)])
    assert (found.asked_s, found.first_s, found.ended_s, found.tokens) == (1.0, 1.5, 1.8, 3)
    assert found.gaps_s == pytest.approx((0.1, 0.2))


def test_an_event_in_two_pieces_comes_with_its_second() -> None:
    whole = event("a", 1)
    found = read(0.0, [(0.1, whole[:20]), (0.2, whole[20:]), (0.3, event("b", 2) + DONE)])
    assert (found.first_s, found.tokens) == (0.2, 2)


def test_tokens_that_come_together_share_the_time() -> None:
    by_event = read(0.0, [(0.1, event("a", 1)), (0.5, event("bc", 3) + DONE)])
    by_piece = read(0.0, [(0.1, event("a", 1)), (0.5, event("b", 2) + event("c", 3) + DONE)])
    assert by_event.gaps_s == by_piece.gaps_s == pytest.approx((0.2, 0.2))


def test_between_tokens_that_come_first_together_no_time_is_known() -> None:
    found = read(0.0, [(0.1, event("ab", 2)), (0.5, event("c", 3) + DONE)])
    assert (found.first_s, found.tokens, found.gaps_s) == (0.1, 3, (0.4,))


def test_a_server_that_does_not_count_is_counted_by_pieces() -> None:
    found = read(0.0, [(0.1, event("a")), (0.2, event("")), (0.3, event("c") + event(None, 3) + DONE)])
    assert found.tokens == 3
    assert len(found.gaps_s) == 2


@pytest.mark.parametrize(
    ("arrivals", "status", "told"),
    [
        ([(0.1, b'{"error": {"message": "too long"}}')], 400, "refused .*too long"),
        ([(0.1, event("a", 1))], 200, "broke off: the server closed"),
        ([(0.1, event("a", 1)), (0.2, b'data: {"error": {"message": "EngineCore"}}\n\n' + DONE)], 200, "EngineCore"),
        ([(0.1, event(None, 0) + DONE)], 200, "no token at all"),
    ],
    ids=["refused", "broken off", "engine died", "empty"],
)
def test_a_request_that_failed_ends_the_measurement(
    arrivals: list[tuple[float, bytes]], status: int, told: str
) -> None:
    with pytest.raises(RequestFailed, match=told):
        read(0.0, arrivals, status)


@pytest.mark.vllm
def test_a_server_is_asked_for_exactly_what_was_drawn(endpoint: Endpoint) -> None:
    config = BenchConfig(requests_per_client=3)
    drawn = workload.asks(config, Case(4, 16, 8), 0, workload.vocabulary("seedling"))
    found = asyncio.run(load.volley(endpoint.server, endpoint.served[0].name, drawn, 4, limit_s=60))
    assert sorted(answer.tokens for answer in found) == sorted(ask.tokens for ask in drawn)
    assert all(answer.asked_s < answer.first_s <= answer.ended_s for answer in found)
    # one gap between two tokens, but for a server so busy that its first words come together
    assert all(len(answer.gaps_s) < answer.tokens for answer in found)
    assert all(sum(answer.gaps_s) == pytest.approx(answer.ended_s - answer.first_s) for answer in found)
    assert sum(len(answer.gaps_s) for answer in found) > sum(answer.tokens for answer in found) / 2
    # four at once: four begin before any has ended, and no client begins before its last answer is there
    assert sorted(answer.asked_s for answer in found)[3] < min(answer.ended_s for answer in found)


@pytest.mark.vllm
def test_after_the_limit_no_request_begins(endpoint: Endpoint) -> None:
    drawn = [Ask((5, 6, 7, number % 100 + 8), 4) for number in range(1000)]
    begun = time.monotonic()
    found = asyncio.run(load.volley(endpoint.server, endpoint.served[0].name, drawn, 2, limit_s=0.3))
    assert time.monotonic() - begun < 10
    assert 2 <= len(found) < 1000


@pytest.mark.vllm
def test_a_refusal_of_the_server_is_told(endpoint: Endpoint) -> None:
    with pytest.raises(RequestFailed, match="context length"):
        asyncio.run(load.volley(endpoint.server, endpoint.served[0].name, [Ask((5,) * 600, 4)], 1, limit_s=5))
