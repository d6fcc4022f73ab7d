"""Configurations in and out: YAML files, presets, key=value overrides; every problem reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from studio.config import beside, llamafactory
from studio.config.adapter import AdapterConfig
from studio.config.arena import ArenaConfig
from studio.config.bench import BenchConfig
from studio.config.consolidate import ConsolidateConfig
from studio.config.data import DataConfig
from studio.config.gguf import GgufConfig
from studio.config.llamafactory import exporting
from studio.config.merge import MergeConfig
from studio.config.ollama import OllamaConfig
from studio.config.option import Config, options
from studio.config.push import PushConfig
from studio.config.quantize import QuantizeConfig
from studio.config.serve import ServeConfig
from studio.config.train import TrainConfig
from studio.errors import ConfigError, Problem
from studio.files import write_text
from studio.parallel.foreign import Reading
from studio.settings import PRESETS

RunConfig = (
    TrainConfig | ServeConfig | MergeConfig | DataConfig | ArenaConfig | BenchConfig
    | GgufConfig | OllamaConfig | QuantizeConfig | AdapterConfig | PushConfig | ConsolidateConfig
)  # fmt: skip
C = TypeVar("C", bound=Config)

KINDS: dict[str, type[RunConfig]] = {
    "train": TrainConfig,
    "serve": ServeConfig,
    "merge": MergeConfig,
    "data": DataConfig,
    "arena": ArenaConfig,
    "bench": BenchConfig,
    "gguf": GgufConfig,
    "ollama": OllamaConfig,
    "quantize": QuantizeConfig,
    "adapter": AdapterConfig,
    "push": PushConfig,
    "consolidate": ConsolidateConfig,
}
EXPORTS = (MergeConfig, QuantizeConfig)  # what a file of LLaMA-Factory's export command asks for
SCHEMA_VERSION = 1

# no option is a date, and 2026-13-01 is a good name for a run
RESOLVERS = {
    first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# the C loader is six times faster, but deep nesting ends the whole process where Python's raises RecursionError;
# PyYAML builds without libyaml lack it
FastLoader: Any = type("FastLoader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
SafeLoader: Any = type("SafeLoader", (yaml.SafeLoader,), {})
FastLoader.yaml_implicit_resolvers = SafeLoader.yaml_implicit_resolvers = RESOLVERS
YAML_MARKS = "\"'|>!&*"  # with these begins text that means to be read as YAML
FAST_NESTING_MAX = 2000


def parse(kind: type[C], values: Mapping[str, Any]) -> C:
    """`values` as a configuration.

    Raises:
        ConfigError: with every problem, those of single keys and those between keys.
    """
    known, problems = _foreign(kind, values)
    try:
        config = kind.model_validate(known)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += [_problem(kind, detail) for detail in details]
        broken = {str(detail["loc"][0]) for detail in details}
        config = _best_effort(kind, known, broken)
        problems += [problem for problem in _cross(config) if problem.where not in broken]
    else:
        problems += _cross(config)
    if problems:
        raise ConfigError(problems)
    return config


def without_effect(values: Mapping[str, Any], kind: type[Config] = TrainConfig) -> list[Problem]:
    """Keys of other programs' files that `parse` leaves out or does in another way, each with the reason, to be told
    to the user."""
    if kind is TrainConfig:
        found = _read_in(values)
        return [*llamafactory.without_effect(found.options), *found.notes]
    inert = exporting.without_effect(values, kind.model_fields) if kind in EXPORTS else {}
    return [Problem(key, why) for key, why in inert.items() if values.get(key) not in (None, False)]


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping. Files that it names are taken from its own folder before all others.

    Raises:
        ConfigError: no such file, or the line and column where it breaks.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError([Problem(str(path), "there is no such file")]) from error
    except (OSError, ValueError) as error:
        raise ConfigError([Problem(str(path), f"is not a text file that can be read ({error})")]) from error
    return beside.anchored(parse_yaml(text, str(path)), path.parent)


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """A YAML text's mapping; `name` is what an error calls it."""
    try:
        value = _yaml(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError([Problem(name, f"{place}{error.problem}")]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError([Problem(name, f"is not YAML: {error}")]) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError([Problem(name, "should hold `key: value` lines")])
    return {str(key): item for key, item in value.items()}


def overrides(words: Iterable[str]) -> dict[str, Any]:
    """`key=value` words as a mapping; values are read as YAML, so 3, true and null mean what they look like."""
    values: dict[str, Any] = {}
    problems = []
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            problems.append(Problem(word, "write it as key=value"))
            continue
        values[key.removeprefix("--")] = _scalar(text)
    if problems:
        raise ConfigError(problems)
    return values


def dump(config: RunConfig) -> str:
    """The whole configuration as YAML, in the order of its declaration."""
    values = {"schema_version": SCHEMA_VERSION, "kind": config.kind, **config.model_dump(mode="json")}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)


def changed(config: RunConfig) -> dict[str, Any]:
    """Only what differs from the defaults: what a short YAML or a command line has to say."""
    return config.model_dump(mode="json", exclude_defaults=True)


def save(config: RunConfig, path: Path) -> None:
    """Write `config` for `load_run_config`."""
    write_text(path, dump(config))


def load_run_config(path: Path) -> RunConfig:
    """A run's config.yaml. It is never rewritten, so it is read once."""
    return _load(path)


def preset_names() -> list[str]:
    """Shipped configurations, by name."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


@cache
def preset(name: str) -> Mapping[str, Any]:
    """The keys that a shipped configuration sets."""
    return read_yaml(PRESETS / f"{name}.yaml")


@lru_cache(maxsize=4096)
def _load(path: Path) -> RunConfig:
    values = read_yaml(path)
    version = values.pop("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise ConfigError([Problem(str(path), f"was written by another version (schema {version})")])
    kind = KINDS.get(str(values.get("kind", "train")))
    if kind is None:
        raise ConfigError([Problem("kind", f"{values.get('kind')!r} is none of {', '.join(KINDS)}")])
    return parse(kind, values)


def _foreign(kind: type[Config], values: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """`values` in our words, with what is refused of LLaMA-Factory's."""
    if kind is TrainConfig:
        found = _read_in(values)
        known, problems = llamafactory.read(found.options, kind.model_fields)
        return known, found.problems + problems
    if kind in EXPORTS:
        return exporting.read(values, kind.model_fields)
    return dict(values), []


def _read_in(values: Mapping[str, Any]) -> Reading:
    return beside.read_in(values, read_yaml)


def _cross(config: Config) -> list[Problem]:
    return list(config.problems())  # type: ignore[attr-defined]


def _best_effort(kind: type[C], known: Mapping[str, Any], broken: set[str]) -> C:
    """The configuration with its broken keys at their defaults, so that the rules between keys can speak too."""
    kept = {key: value for key, value in known.items() if key not in broken and key in kind.model_fields}
    return kind.model_validate(kept)


def _problem(kind: type[Config], detail: ErrorDetails) -> Problem:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return Problem(key, f"there is no such option{_similar(kind, key)}")
    if "error" in (context := detail.get("ctx") or {}):  # a sentence of ours
        return Problem(key, str(context["error"]))
    return Problem(key, f"{_lower(detail['msg'])} (got {str(detail['input'])[:60]!r})")


def _similar(kind: type[Config], key: str) -> str:
    close = difflib.get_close_matches(key, [option.key for option in options(kind)], n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _scalar(text: str) -> Any:
    """No option is a mapping or a comment: "Answer: yes" and "# 1" are texts. YAML would fold lines into one."""
    try:
        value = _yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    is_lines = isinstance(value, str) and "\n" in text and text[0] not in YAML_MARKS
    return text if is_lines or isinstance(value, dict) or (value is None and "#" in text) else value


def _yaml(text: str) -> Any:
    nesting = sum(map(text.count, "[{-?"))
    return yaml.load(text, Loader=SafeLoader if nesting > FAST_NESTING_MAX else FastLoader)
