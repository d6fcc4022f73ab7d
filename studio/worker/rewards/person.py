"""A person's own reward: a function of a Python file below data/rewards, run only where it is trusted.

What it names among its parameters it is given, each with one entry an answer: `questions`, `answers` and `references`
are texts; `prompts` and `completions` lists of messages, as in TRL; `completion_ids` lists of tokens.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio.datasets.rewards import find
from studio.errors import RewardError
from studio.worker.rewards.answers import Answers, Reward

FAILURES = (Exception, SystemExit)  # the code is anybody's
SHOWN = 300  # characters of a prompt or an answer


def load(name: str, data_dir: Path) -> Reward:
    """The reward named FILE.py:FUNCTION below `data_dir`/rewards; the file is run.

    Raises:
        RewardError: there is no such file or function, it does not load, or it wants what nobody gives.
    """
    path, function_name = find(name, data_dir)
    found = _function(path, function_name)
    wanted = _wanted(found, name)

    def reward(answers: Answers) -> list[float]:
        try:
            values = found(**_given(answers, wanted))
        except FAILURES as error:
            first = next((i for i in range(len(answers)) if _fails(found, _given(answers.only(i), wanted))), 0)
            raise RewardError(f"{name} failed: {_line(error, path)}; {_about(answers, first)}") from error
        return _checked(values, name, answers)

    return reward


def _function(path: Path, name: str) -> Callable[..., Any]:
    module_name = f"seedbed_rewards.{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except FAILURES as error:
        raise RewardError(f"{path.name} does not load: {_line(error, path)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise RewardError(f"{name} in {path.name} is no function but {function!r:.{SHOWN}}")
    return function  # type: ignore[no-any-return]


def _wanted(function: Callable[..., Any], name: str) -> frozenset[str]:
    """The names that the function takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError as error:  # some that are written in C
        raise RewardError(f"{name} does not say what it takes: wrap it in a function of your own") from error
    named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    foreign = [each.name for each in named if each.name not in OFFERED and each.default is each.empty]
    if foreign:
        raise RewardError(f"{name} wants {', '.join(foreign)}, but a reward is given {', '.join(OFFERED)}")
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters)
    return frozenset(OFFERED) if takes_all else frozenset(each.name for each in named) & OFFERED.keys()


def _given(answers: Answers, wanted: frozenset[str]) -> dict[str, Any]:
    return {name: value(answers) for name, value in OFFERED.items() if name in wanted}


OFFERED: dict[str, Callable[[Answers], list[Any]]] = {
    "questions": lambda answers: [answers.question(index) for index in range(len(answers))],
    "answers": lambda answers: list(answers.texts),
    "references": lambda answers: list(answers.references),
    "prompts": lambda answers: [list(messages) for messages in answers.prompts],
    "completions": lambda answers: [[{"role": "assistant", "content": text}] for text in answers.texts],
    "completion_ids": lambda answers: list(answers.ids),
}


def _checked(values: Any, name: str, answers: Answers) -> list[float]:
    """The figures, made sure of: an answer that nobody judged would be learned from like any other."""
    try:
        rewards = [value.item() if hasattr(value, "item") else value for value in values]
    except TypeError as error:
        raise RewardError(f"{name} returned {values!r:.{SHOWN}}: return a list with one figure an answer") from error
    if len(rewards) != len(answers):
        raise RewardError(f"{name} returned {len(rewards)} figures for {len(answers)} answers: return one for each")
    for index, value in enumerate(rewards):
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise RewardError(f"{name} returned {value!r}, which is no finite figure, {_about(answers, index)}")
    return [float(value) for value in rewards]


def _fails(function: Callable[..., Any], given: dict[str, Any]) -> bool:
    try:
        function(**given)
    except FAILURES:
        return True
    return False


def _line(error: BaseException, path: Path) -> str:
    """What went wrong, and the last line of the person's own file on the way there."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    place = f"{path.name}, line {lines[-1]}" if lines else path.name
    return f"{place}: {type(error).__name__}: {error}"


def _about(answers: Answers, index: int) -> str:
    return f"at the prompt {answers.question(index)!r:.{SHOWN}} with the answer {answers.texts[index]!r:.{SHOWN}}"
