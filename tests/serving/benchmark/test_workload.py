"""What is asked is the same for every variant, of the right lengths, and never the same twice."""

import json
from pathlib import Path

import pytest

from studio import models
from studio.config.bench import BenchConfig
from studio.errors import ModelError
from studio.serving.benchmark.workload import Case, asks, cases, vocabulary
from studio.settings import ASSETS

CASE = Case(4, 20, 10)
WORDS = range(100, 200)


def test_every_length_meets_every_number_of_clients() -> None:
    config = BenchConfig(concurrency=(1, 8), prompt_tokens=(10, 20), output_tokens=(5,))
    assert cases(config) == [Case(1, 10, 5), Case(8, 10, 5), Case(1, 20, 5), Case(8, 20, 5)]


def test_prompts_and_answers_have_the_lengths_asked_for() -> None:
    drawn = asks(BenchConfig(requests_per_client=50, length_spread=0.5), CASE, 0, WORDS)
    assert len(drawn) == 200
    assert {len(ask.prompt) for ask in drawn} == {20}
    assert {ask.tokens for ask in drawn} == set(range(5, 16))


def test_without_a_spread_all_answers_are_equally_long() -> None:
    assert {ask.tokens for ask in asks(BenchConfig(length_spread=0), CASE, 0, WORDS)} == {10}


def test_the_same_is_asked_again_of_the_next_variant() -> None:
    config = BenchConfig()
    assert asks(config, CASE, 0, WORDS) == asks(config, CASE, 0, WORDS)
    assert asks(config, CASE, 0, WORDS) != asks(config, CASE, 1, WORDS)
    assert asks(config, CASE, 0, WORDS) != asks(BenchConfig(seed=1), CASE, 0, WORDS)


def test_no_two_prompts_begin_alike() -> None:
    drawn = [ask for repeat in range(3) for ask in asks(BenchConfig(), Case(32, 20, 10), repeat, WORDS)]
    assert len({ask.prompt[:8] for ask in drawn}) == len(drawn)


def test_prompts_hold_no_special_token() -> None:
    special = set(models.added_tokens(ASSETS / "seedling").values())
    found = vocabulary("seedling")
    assert special
    assert special.isdisjoint(found)
    assert max(found) < 4096


def test_the_vocabulary_of_a_model_with_several_parts_is_that_of_its_text(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"vocab_size": 400}}))
    assert vocabulary(str(tmp_path)) == list(range(300))


def test_a_model_that_is_not_here_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not on this machine"):
        vocabulary("nobody/nothing")
    with pytest.raises(ModelError, match="vocab_size"):
        vocabulary(str(tmp_path))
