"""One declaration per option: a pydantic field that also says how it is shown, where, and when.

From a model's fields come the form's widgets, the YAML and command-line keys, the error texts and the reference
page; `options` is the one place that reads them.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo


class Config(BaseModel):
    """Base of every configuration: a frozen value, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        validate_default=True,
        allow_inf_nan=False,
        coerce_numbers_to_str=True,  # `run_name=2` is a name
    )


def option(
    default: Any,
    *,
    en: str,
    zh: str,
    group: str,
    when: Mapping[str, Any] | None = None,
    label: tuple[str, str] | None = None,
    **bounds: Any,
) -> Any:
    """Declare an option.

    Args:
        default: the value when it is not given.
        en: one sentence that says what it does, in English.
        zh: the same in Chinese.
        group: the section of the form it belongs to.
        when: other options and the value, or tuple of values, that each must have for this one to matter.
        label: what the form calls it (English, Chinese); the key itself where None.
        bounds: pydantic's ge, gt, le, lt, min_length.
    """
    extra: dict[str, Any] = {"zh": zh, "group": group, "when": dict(when or {}), "label": label}
    return Field(default=default, description=en, json_schema_extra=extra, **bounds)


@dataclass(frozen=True)
class Option:
    """What a field says of itself. `kind` is bool, int, float, str, choice or list."""

    key: str
    kind: str
    default: Any
    nullable: bool
    choices: tuple[Any, ...]
    low: float | None
    high: float | None
    open_low: bool
    en: str
    zh: str
    group: str
    when: Mapping[str, Any]
    label: tuple[str, str]


def options(config: type[Config]) -> list[Option]:
    """Every declared option of a configuration, in the order of its declaration. `kind` keys are left out."""
    return [_option(key, field) for key, field in config.model_fields.items() if _is_option(field)]


def applies(option: Option, values: Mapping[str, Any]) -> bool:
    """Whether an option matters beside `values`, as a configuration or a form holds them: 4 and "4" are one."""
    return all(_holds(values.get(key), wanted) for key, wanted in option.when.items())


def split_names(value: Any) -> Any:
    """A comma-separated string as a list, the way LLaMA-Factory writes `dataset: a,b`; 2026 is a name too."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return [name.strip() for name in str(value).split(",") if name.strip()]
    return value


def _holds(value: Any, wanted: Any) -> bool:
    """A list holds what one of its items is; a list as text is one with commas."""
    items = split_names(value) if isinstance(value, str) else value
    had = {str(item) for item in (items if isinstance(items, list | tuple) else [items])}
    return not had.isdisjoint(str(item) for item in (wanted if isinstance(wanted, tuple) else (wanted,)))


def _as_json(value: Any) -> Any:
    """A YAML file may write the mapping itself."""
    return json.dumps(value) if isinstance(value, Mapping) else value


JsonText = Annotated[str | None, BeforeValidator(_as_json)]
Names = Annotated[tuple[str, ...], BeforeValidator(split_names)]
Shares = Annotated[tuple[float, ...], BeforeValidator(split_names)]


def _is_option(field: FieldInfo) -> bool:
    return isinstance(field.json_schema_extra, dict) and "group" in field.json_schema_extra


def _option(key: str, field: FieldInfo) -> Option:
    extra: Any = field.json_schema_extra
    annotation, nullable = _without_none(field.annotation)
    low, high, open_low = _bounds(field)
    return Option(
        key=key,
        kind=_kind(annotation),
        default=field.default,
        nullable=nullable,
        choices=get_args(annotation) if get_origin(annotation) is Literal else (),
        low=low,
        high=high,
        open_low=open_low,
        en=field.description or "",
        zh=extra["zh"],
        group=extra["group"],
        when=extra["when"],
        label=tuple(extra["label"] or (key, key)),
    )


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    kept = [item for item in get_args(annotation) if item is not type(None)]
    return kept[0], len(kept) < len(get_args(annotation))


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "choice"
    if get_origin(annotation) is tuple:
        return "list"
    return {bool: "bool", int: "int", float: "float"}.get(annotation, "str")


def _bounds(field: FieldInfo) -> tuple[float | None, float | None, bool]:
    low, high, open_low = None, None, False
    for rule in field.metadata:
        if isinstance(rule, Ge | Gt):
            low, open_low = getattr(rule, "ge", getattr(rule, "gt", None)), isinstance(rule, Gt)
        elif isinstance(rule, Le | Lt):
            high = getattr(rule, "le", getattr(rule, "lt", None))
    return low, high, open_low
