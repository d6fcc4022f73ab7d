"""The tools that a conversation offers, as a person types them: a JSON list, read with the place of what is wrong."""

from __future__ import annotations

import json
import re
from typing import Any

from studio.errors import ConfigError, Problem

Tool = dict[str, Any]

EXAMPLE = '[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]'
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def parse(text: str) -> tuple[Tool, ...]:
    """The tools in `text`, as a request holds them; none for an empty text. Bare functions are taken, too.

    Raises:
        ConfigError: all that is wrong, with line and column or the number of the tool.
    """
    if not text.strip():
        return ()
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError([Problem("tools", _where(text, error))]) from None
    except RecursionError:
        raise ConfigError([Problem("tools", "the JSON is nested too deep")]) from None
    found = value if isinstance(value, list) else [value]
    tools = [_wrapped(tool) for tool in found]
    if problems := [Problem(f"tool {at}", what) for at, tool in enumerate(tools, 1) if (what := _wrong(tool))]:
        raise ConfigError(problems)
    return tuple(tools)


def _where(text: str, error: json.JSONDecodeError) -> str:
    line = text.split("\n")[error.lineno - 1]
    near = line[max(0, error.colno - 21) : error.colno + 20].strip()
    return f"no JSON: line {error.lineno}, column {error.colno}: {error.msg}, near {near!r}{_hint(text, error.pos)}"


def _hint(text: str, at: int) -> str:
    """What people write who are used to Python."""
    if text[at : at + 1] == "'":
        return ". JSON takes double quotes only"
    is_end = text[at : at + 1] in ("]", "}")
    return ". There is a comma too many before it" if is_end and text[:at].rstrip().endswith(",") else ""


def _wrapped(tool: Any) -> Any:
    is_bare = isinstance(tool, dict) and "function" not in tool and "name" in tool
    return {"type": "function", "function": tool} if is_bare else tool


def _wrong(tool: Any) -> str:
    if not isinstance(tool, dict) or not isinstance(tool.get("function"), dict):
        return f"it must be an object with a function, as in {EXAMPLE}"
    function = tool["function"]
    if tool.get("type", "function") != "function":
        return f'"type" must be "function", found {tool["type"]!r}'
    if not isinstance(name := function.get("name"), str) or not NAME.fullmatch(name):
        return f'"name" must be 1 to 64 letters, digits, dots, dashes or underscores, found {name!r}'
    if not isinstance(function.get("parameters", {}), dict):
        return f'"parameters" of {name} must be a JSON schema, an object; found {function["parameters"]!r}'
    return ""
