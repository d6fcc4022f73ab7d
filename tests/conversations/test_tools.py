"""Tools as typed: taken where they are right, and told what is wrong and where."""

from __future__ import annotations

import json

import pytest

from studio.conversations import tools
from studio.errors import ConfigError

WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


def test_tools_are_taken_in_the_usual_shapes() -> None:
    wrapped = {"type": "function", "function": WEATHER}
    for value in ([wrapped], wrapped, [WEATHER], WEATHER):
        assert tools.parse(json.dumps(value)) == (wrapped,)
    assert tools.parse(" \n") == ()
    assert tools.parse("[]") == ()
    assert tools.parse(tools.EXAMPLE)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            '[\n  {"name": "a",}\n]',
            r"tools: no JSON: line 2, column 16: .*, near '{\"name\": \"a\",}'. There is a comma too many",
        ),
        ("[{'name': 'a'}]", "line 1, column 3: Expecting property name .*JSON takes double quotes only"),
        ('[{"name": "a"', "line 1, column 14: Expecting ',' delimiter"),
        ("[" * 100_000, "nested too deep"),
        ("5", "tool 1: it must be an object with a function"),
        ('[{"name": "a"}, {"function": "b"}]', "tool 2: it must be an object with a function"),
        ('{"type": "code", "function": {"name": "a"}}', 'tool 1: "type" must be "function", found \'code\''),
        ('{"function": {"name": "two words"}}', "tool 1: \"name\" must be 1 to 64 letters.*found 'two words'"),
        ('{"function": {}}', '"name" must be .*found None'),
        ('{"name": "a", "parameters": []}', '"parameters" of a must be a JSON schema, an object; found \\[\\]'),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        tools.parse(text)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        tools.parse('[1, {"name": "fine"}, {"name": ""}]')
    assert [problem.where for problem in caught.value.problems] == ["tool 1", "tool 3"]
