"""What a training needs from this machine, looked at before any process starts: data, model and devices."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import equipment, models, packages, templates, trackers
from studio.config.data import DataConfig
from studio.config.load import parse
from studio.config.option import split_names
from studio.config.train import TrainConfig
from studio.config.train.method import ONLINE
from studio.datasets import checks, rewards, statistics
from studio.datasets.formats import Conversation
from studio.datasets.placeholders import CODES_OF, unfilled
from studio.datasets.purposes import MADE_FOR, PURPOSES, misfit
from studio.datasets.registry import Registry
from studio.errors import Cancelled, ConfigError, DatasetError, ModelError, Problem, RewardError
from studio.files import folder_bytes

# a file that was not checked before is checked at once if that delays nobody
CHECKED_AT_ONCE_BYTES = 4 << 20
PATIENCE_S = 1.0
KINDS = {kind.__name__.lower(): kind for kind in MADE_FOR}  # as a report calls them
WHERE = "The Datasets tab shows the rows under Checks."


@dataclass(frozen=True)
class Outlook:
    """What the checks say of the data of a training that may start: warnings to be asked about, notes to be told."""

    warnings: tuple[Problem, ...]
    notes: tuple[str, ...]


def train_config(values: Mapping[str, Any], registry: Registry) -> TrainConfig:
    """`values` as a configuration that can start here.

    Raises:
        ConfigError: with every problem, those of the configuration and those of what it names.
    """
    missing = [
        *_datasets("dataset", values, registry),
        *_datasets("eval_dataset", values, registry),
        *_model(values),
        *_beside(values),
        *_trackers(values.get("report_to")),
        *_optimizer(values.get("optim")),
        *_rewards(values, registry),
    ]
    try:
        config = parse(TrainConfig, values)
    except ConfigError as error:
        raise ConfigError([*error.problems, *missing]) from error
    if missing := [*missing, *equipment.lacking(config)]:
        raise ConfigError(missing)
    return config


def outlook(config: TrainConfig, registry: Registry) -> Outlook:
    """What a person should know of datasets and chat template before the training starts."""
    warnings = [*_unknown_tokens(config), *equipment.busy(config)]
    notes = list(_about_template(config))
    for name in dict.fromkeys((*config.dataset, *config.eval_dataset)):
        report = _report(registry, name)
        if report is None:
            notes.append(f"{name} was not checked yet: check it in the Datasets tab, or what is wrong ends the run")
        else:
            warnings += [Problem(name, _sentence(finding)) for finding in report.warnings]
        warnings += [Problem(name, _sentence(finding)) for finding in _token_warnings(config, name, registry)]
    return Outlook(tuple(warnings), tuple(notes))


def _datasets(key: str, values: Mapping[str, Any], registry: Registry) -> Iterator[Problem]:
    for name in _names(values.get(key)):
        try:
            report = _report(registry, name)
        except DatasetError as error:
            yield Problem(key, str(error))
            continue
        if report and report.fatal:
            yield Problem(key, f"{name} cannot be trained on: {report.fatal}. {WHERE}")
        elif report and (what := _demand(report, values)):
            yield Problem(key, f"{name} {what}")


def _demand(report: checks.Report, values: Mapping[str, Any]) -> str:
    """What a training as configured would refuse in the rows, in the worker's words; empty where it takes them."""
    kind, stage = KINDS.get(report.shape), values.get("stage") or "sft"
    if kind is None or stage not in PURPOSES:
        return ""
    found = {finding.code for finding in report.findings}
    marks = [mark for mark, code in CODES_OF.items() if code in found] if kind is Conversation else []
    return misfit(stage, kind) or unfilled(marks, values)


def _trackers(given: Any) -> Iterator[Problem]:
    yield from trackers.problems(_names(given), os.environ)


def _optimizer(given: Any) -> Iterator[Problem]:
    if problem := packages.missing(str(given)):
        yield problem


def _rewards(values: Mapping[str, Any], registry: Registry) -> Iterator[Problem]:
    """A person's own rewards, read but not run."""
    for name in _names(values.get("reward_funcs")) if values.get("stage") in ONLINE else ():
        if ":" in name:
            try:
                rewards.find(name, registry.data_dir)
            except RewardError as error:
                yield Problem("reward_funcs", str(error))


def _names(given: Any) -> tuple[str, ...]:
    """What a list of names has; none where a value is no such list, which the configuration says itself."""
    names = split_names(given)
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def _report(registry: Registry, name: str) -> checks.Report | None:
    """What a check of a set found; one that takes but a moment is made now. None for a large set that nobody checked.

    Raises:
        DatasetError: no such set, or it cannot be used or read.
    """
    path, entry = registry.file(name), registry.entry(name)
    known = checks.stored(path, entry, registry.cache_dir)
    if known or _bytes(path) > CHECKED_AT_ONCE_BYTES:
        return known
    deadline = time.monotonic() + PATIENCE_S
    try:
        report, _ = checks.survey(path, entry, cancelled=lambda: time.monotonic() > deadline)
    except Cancelled:
        return None
    checks.keep(path, entry, report, registry.cache_dir)
    return report


def _token_warnings(config: TrainConfig, name: str, registry: Registry) -> list[checks.Finding]:
    """What is known of the tokens, if they were measured with the settings of this training."""
    measured = statistics.stored(registry, DataConfig.measuring(name, config.model_name_or_path, config))
    found = statistics.findings(measured) if measured else ()
    return [finding for finding in found if finding.severity == "warning"]


def _bytes(path: Path) -> int:
    return folder_bytes(path) if path.is_dir() else path.stat().st_size


def _sentence(finding: checks.Finding) -> str:
    return f"{finding.title} ({finding.count:,}). {finding.advice}"


def _model(values: Mapping[str, Any]) -> Iterator[Problem]:
    """A hub id is left to the worker: only it may ask the network."""
    given = values.get("model_name_or_path")
    if not given or not models.is_local(name := models.resolve(str(given))):
        return
    try:
        info = models.check(Path(name))
    except ModelError as error:
        yield Problem("model_name_or_path", str(error))
        return
    if not info.has_chat_template and not values.get("template") and values.get("stage") != "pt":
        what = f"{name} has no chat template: name one ({', '.join(templates.names())}), as template: chatml does"
        yield Problem("template", what)


def _beside(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Folders that a training needs beside its model; runs and hub ids are left to the worker."""
    wanted = [("adapter_name_or_path", name) for name in _names(values.get("adapter_name_or_path"))]
    wanted += [(key, str(values[key])) for key in ("ref_model", "reward_model") if values.get(key)]
    for key, name in wanted:
        if models.is_local(folder := models.resolve(name)):
            try:
                (models.check_adapter if key == "adapter_name_or_path" else models.check)(Path(folder))
            except ModelError as error:
                yield Problem(key, str(error))


def _unknown_tokens(config: TrainConfig) -> Iterator[Problem]:
    folder = models.folder_of(config.model_name_or_path)
    if not config.template or folder is None:
        return
    known = {**models.added_tokens(folder), **dict.fromkeys((*config.add_tokens, *config.add_special_tokens))}
    if lacking := templates.lacking(config.template, known):
        yield Problem("template", templates.spelled(config.template, lacking))


def _about_template(config: TrainConfig) -> Iterator[str]:
    folder = models.folder_of(config.model_name_or_path)
    own = models.chat_template(folder) if folder else None
    text = templates.text(config.template) if config.template else own
    if config.template and own and own != text:
        yield f"template {config.template} takes the place of the model's own, here and in chats with the result"
    if config.enable_thinking is not None and text and "enable_thinking" not in text:
        effect = "is without effect" if config.enable_thinking else "only leaves thoughts out of answers"
        yield f"enable_thinking {effect}: the chat template has no mode of thinking"
