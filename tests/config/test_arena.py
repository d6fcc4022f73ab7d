"""Rules between the options of an arena: each problem names its option and what to change."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from studio.config.arena import ArenaConfig
from studio.config.command import command
from studio.config.load import overrides, parse
from studio.errors import ConfigError

SOUND: dict[str, Any] = {"contestants": ["a", "b"], "prompts": "hi"}


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        ({"contestants": []}, "contestants", "choose 2 to 4 to compare (got 0)"),
        ({"contestants": "a,b,c,d,e"}, "contestants", "choose 2 to 4 to compare (got 5)"),
        ({"contestants": ["a", "b", "a"]}, "contestants", "'a' stands there twice"),
        ({"prompts": None}, "prompts", "either type prompts, or choose a dataset"),
        ({"prompts": " \n"}, "prompts", "either type prompts, or choose a dataset"),
        ({"dataset": "identity"}, "prompts", "either type prompts, or choose a dataset"),
        ({"category_column": "topic"}, "category_column", "is a dataset's"),
        ({"judge_prompt": "{prompt} {answer_a}"}, "judge_prompt", "must hold {answer_b} for the judge"),
    ],
)
def test_a_problem_is_told_at_its_option(change, where, what):
    with pytest.raises(ConfigError) as caught:
        parse(ArenaConfig, SOUND | change)
    (problem,) = caught.value.problems
    assert problem.where == where
    assert what in problem.what


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"contestants": "a,b,c,d"},
        {"prompts": None, "dataset": "identity", "category_column": "topic"},
        {"judge": "a", "judge_prompt": "{answer_b}{answer_a}{prompt}"},
    ],
)
def test_what_is_sound_is_taken(change):
    config = parse(ArenaConfig, SOUND | change)
    assert config.title == "arena"


def test_the_command_says_the_same():
    config = parse(ArenaConfig, {**SOUND, "prompts": "[maths] 2 + 2?\nWho: you?", "judge": "url:x", "seed": 7})
    words = command(config)
    assert words.startswith("python -m studio arena contestants=a,b ")
    assert parse(ArenaConfig, overrides(shlex.split(words)[4:])) == config
