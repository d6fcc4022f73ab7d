"""A model card for strangers: what it was trained on and how, how it went, what was proven, under which licence.

Written from the runs that made it. Nothing of this computer is told: no path, no prompt, no row of the data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from studio import models
from studio.config import load
from studio.config.option import options
from studio.config.train import TrainConfig
from studio.datasets import preview
from studio.datasets.entry import Entry
from studio.datasets.registry import Registry
from studio.errors import ConfigError, DatasetError, SeedbedError
from studio.exports import chart, lineage, report
from studio.exports.lineage import public
from studio.exports.push import Item, Parcel
from studio.exports.report import Report, Section, Table
from studio.files import read_record
from studio.runs import curves
from studio.runs.run import Run
from studio.runs.store import Store

README, CURVES = NAMES = ("README.md", "loss.svg")
CURVE_POINTS = 400
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
# those of the hub's identifiers that models have; it refuses a card with any other
LICENSES = frozenset(
    {"apache-2.0", "mit", "openrail", "openrail++", "bigscience-openrail-m", "bigscience-bloom-rail-1.0", "isc", "zlib"}
    | {"creativeml-openrail-m", "bigcode-openrail-m", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear"}
    | {"cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-3.0", "cc-by-nc-4.0"}
    | {"cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "gemma", "llama2", "llama3"}
    | {"llama3.1", "llama3.2", "llama3.3", "llama4", "gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "agpl-3.0"}
    | {"mpl-2.0", "artistic-2.0", "afl-3.0", "eupl-1.2", "unlicense", "wtfpl", "apple-amlr", "intel-research"}
)
# told although it was left as it is by default
ALWAYS = frozenset(
    {"stage", "finetuning_type", "learning_rate", "num_train_epochs", "per_device_train_batch_size", "cutoff_len"}
    | {"gradient_accumulation_steps", "lr_scheduler_type", "warmup_ratio", "optim", "seed", "template", "packing"}
)
ONLY_LORA = frozenset({"lora_rank", "lora_alpha", "lora_dropout", "lora_target"})
# where things lay, how it was watched, and what may be private
UNTOLD = frozenset(
    {"model_name_or_path", "adapter_name_or_path", "run_name", "dataset", "eval_dataset", "dataset_dir", "report_to"}
    | {"preprocessing_num_workers", "overwrite_cache", "sample_prompts", "sample_steps", "logging_steps", "save_steps"}
    | {"save_total_limit", "resume_from_checkpoint", "resumed_from", "default_system", "ref_model", "reward_model"}
    | {"reward_funcs", "reward_pattern", "trust_remote_code", "trust_reward_code", "buffer_size"}
)


def with_card(store: Store, parcel: Parcel, repository: str) -> Parcel:
    """`parcel` with README.md and the curves it shows, in place of what had those names.

    A folder that no run made keeps the card that it has.
    """
    if parcel.run is None and any(item.name == README for item in parcel.items):
        return parcel
    made = {name: text.encode() for name, text in card(store, parcel, repository).items()}
    new = [Item(name, parcel.folder / name, len(content), content) for name, content in made.items()]
    return replace(parcel, items=(*new, *(item for item in parcel.items if item.name not in made)))


def card(store: Store, parcel: Parcel, repository: str) -> dict[str, str]:
    """The texts of README.md and, where something was trained, of its curves."""
    chain = lineage.ancestry(store, parcel.run) if parcel.run else ()
    trainings = [run for run in chain if isinstance(_config(run), TrainConfig)]
    base, library = _base(parcel, trainings), _library(parcel.folder)
    picture = _curves(trainings[0]) if trainings else ""
    sections = [
        _use(repository, library, base, parcel),
        *(_data(run) for run in trainings),
        *(_settings(run) for run in trainings),
        *([_course(trainings[0], picture)] if trainings else []),
        *_proofs(chain),
        _licence(base),
        *_readme(parcel),
    ]
    body = report.markdown(Report(repository.partition("/")[2], _sentence(chain, base, library), True, tuple(sections)))
    texts = {README: _head(base, library, trainings) + body}
    return texts | ({CURVES: picture} if picture else {})


def _head(base: str, library: str, trainings: Sequence[Run]) -> str:
    """What the hub reads: licence, base and data where they are known to it."""
    configs = [config for run in trainings if isinstance(config := _config(run), TrainConfig)]
    how = {tag for config in configs for tag in (config.stage, config.finetuning_type)}
    sets = {name for config in configs for entry in _entries(config, config.dataset) if (name := _hub_id(entry))}
    name = license_of(base)
    values = {
        "license": name if name in LICENSES or not name else "other",
        "license_name": name if name not in LICENSES else None,
        "base_model": lineage.public_name(base) if HUB_ID.fullmatch(lineage.public_name(base)) else None,
        "datasets": sorted(sets) or None,
        "library_name": library if library != "gguf" else None,
        "tags": ["seedbed", *sorted(how), *(["gguf"] if library == "gguf" else [])],
        "pipeline_tag": "text-generation" if "rm" not in how else None,
    }
    known = {key: value for key, value in values.items() if value}
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True)}---\n"


def _sentence(chain: Sequence[Run], base: str, library: str) -> str:
    what = {"peft": "An adapter", "gguf": "GGUF files"}.get(library, "A model")
    of = f" of `{lineage.public_name(base)}`" if base else ""
    steps = " → ".join(f"{run.kind} ({run.created:%Y-%m-%d})" for run in reversed(chain))
    return f"{what}{of}, made with Seedbed{f': {steps}' if steps else ''}."


def _use(repository: str, library: str, base: str, parcel: Parcel) -> Section:
    if library == "gguf":
        name = next((item.name for item in parcel.items if item.name.endswith(".gguf")), "")
        return Section("Use", _code("sh", f"llama-cli --hf-repo {repository} --hf-file {name}"))
    if library == "peft":
        name = lineage.public_name(base)
        place = name if HUB_ID.fullmatch(name) else f"path/to/{name}"
        load_it = (
            f'base = AutoModelForCausalLM.from_pretrained("{place}", dtype="auto")\n'
            f'model = PeftModel.from_pretrained(base, "{repository}")'
        )
        imports = "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer"
    else:
        load_it = f'model = AutoModelForCausalLM.from_pretrained("{repository}", dtype="auto")'
        imports = "from transformers import AutoModelForCausalLM, AutoTokenizer"
    tokenizer = f'tokenizer = AutoTokenizer.from_pretrained("{repository}")'
    return Section("Use", _code("python", f"{imports}\n\n{load_it}\n{tokenizer}"))


def _data(run: Run) -> Section:
    config = _train(run)
    sets = [(name, "training") for name in config.dataset] + [(name, "validation") for name in config.eval_dataset]
    rows = tuple(_set(config, name, use) for name, use in sets)
    held = f"{config.val_size:g} of the rows were held out for validation." if config.val_size else ""
    return Section("Data", held, table=Table(("dataset", "rows", "used for", "from"), rows))


def _set(config: TrainConfig, name: str, use: str) -> tuple[str, ...]:
    entry = next(iter(_entries(config, (name,))), Entry(name))
    try:
        count = preview.count(Registry(Path(config.dataset_dir)), name)
    except (DatasetError, OSError):  # it was deleted since
        return name, "not known any more", use, _hub_id(entry) or "a file"
    most = [limit for limit in (entry.num_samples, config.max_samples) if limit and limit < count]
    told = f"the first {min(most):,} of {count:,}" if most else f"{count:,}"
    return name, told, use, _hub_id(entry) or "a file"


def _settings(run: Run) -> Section:
    config = _train(run)
    changed = load.changed(config)
    wanted = (ALWAYS | changed.keys() | (ONLY_LORA if config.finetuning_type == "lora" else frozenset())) - UNTOLD
    values = config.model_dump(mode="json")
    figures = [(each.key, _value(values[each.key])) for each in options(TrainConfig) if each.key in wanted]
    return Section("Hyperparameters", figures=tuple(pair for pair in figures if pair[1]))


def _course(run: Run, picture: str) -> Section:
    result = run.result
    validated = curves.overview(run.metrics, CURVE_POINTS)["series"].get(curves.EVAL_SERIES, [[], []])[1]
    told = (
        ("steps", _number(result.get("steps"))),
        ("tokens", _number(result.get("tokens"))),
        ("mean training loss", _number(result.get("train_loss"))),
        ("last validation loss", _number(validated[-1] if validated else None)),
        ("time", f"{result['train_seconds']:,.0f} s" if result.get("train_seconds") else ""),
        ("device", str(result.get("device") or "")),
    )
    image = f"![loss over steps]({CURVES})" if picture else ""
    return Section("Training", image, tuple((label, value) for label, value in told if value))


def _curves(run: Run) -> str:
    series = curves.overview(run.metrics, CURVE_POINTS)["series"]
    names = {"loss": "training loss", curves.SMOOTHED: "smoothed"}
    lines = {shown: series[name] for name, shown in names.items() if name in series}
    lines |= {
        name.replace("eval_loss", "validation loss"): line for name, line in series.items() if "eval_loss" in name
    }
    return chart.svg({name: (line[0], line[1]) for name, line in lines.items()}, "step")


def _proofs(chain: Sequence[Run]) -> Iterator[Section]:
    """What the steps after training found out, without the prompts and answers, which may be rows of private data."""
    for run in reversed(chain):
        if (found := report.read(run.path)) is None:
            continue
        figures = tuple((label, public(value)) for each in found.sections for label, value in each.figures)
        yield Section(found.title, public(found.verdict), figures)


def _licence(base: str) -> Section:
    name = lineage.public_name(base) if base else "the base model"
    known = license_of(base)
    text = f"The base model `{name}` is under **{known}**, which applies to this too." if known else (
        f"The licence of `{name}` applies; its files here do not name it."
    )  # fmt: skip
    return Section("Licence", text)


def _readme(parcel: Parcel) -> Iterator[Section]:
    """What the export wrote for its users, such as the commands for Ollama."""
    path = parcel.folder / README
    if parcel.run and parcel.run.kind == "ollama" and path.is_file():
        text = re.sub(r"^# .*\n+", "", path.read_text(encoding="utf-8"))
        yield Section("Ollama", public(re.sub(r"^#", "##", text, flags=re.MULTILINE)).strip())


def _base(parcel: Parcel, trainings: Sequence[Run]) -> str:
    """The model that it stands on, by the nearest name that others know; empty where nothing tells."""
    config = read_record(parcel.folder / "adapter_config.json")
    named = [config.get("base_model_name_or_path"), *(_train(run).model_name_or_path for run in trainings)]
    named.append(getattr(_config(parcel.run), "model_name_or_path", None))
    names = [models.resolve(str(name)) for name in named if name]
    return next((name for name in names if _is_known(name)), names[0] if names else "")


def _is_known(name: str) -> bool:
    return models.display_name(name) == models.BUNDLED or bool(HUB_ID.fullmatch(lineage.public_name(name)))


def license_of(base: str) -> str:
    """What the card of the base says, where the base is on this machine."""
    folder = models.folder_of(base) if base else None
    try:
        text = (folder / README).read_text(encoding="utf-8") if folder else ""
        head = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}
    except (OSError, ValueError, IndexError, yaml.YAMLError):
        return ""
    return str(head.get("license_name") or head.get("license") or "") if isinstance(head, dict) else ""


def _library(folder: Path) -> str:
    if (folder / "adapter_config.json").exists():
        return "peft"
    return "transformers" if (folder / "config.json").exists() else "gguf"


def _entries(config: TrainConfig, names: Sequence[str]) -> Iterator[Entry]:
    registry = Registry(Path(config.dataset_dir))
    for name in names:
        try:
            yield registry.entry(name)
        except SeedbedError:  # it was deleted since
            continue


def _hub_id(entry: Entry) -> str:
    if entry.hub == "hf":
        return entry.hub_id
    return str(entry.origin.get("id", "")) if entry.origin.get("hub") == "hf" else ""


def _config(run: Run | None) -> Any:
    try:
        return run.config if run else None
    except ConfigError:
        return None


def _train(run: Run) -> TrainConfig:
    config = run.config
    assert isinstance(config, TrainConfig)
    return config


def _value(value: Any) -> str:
    if value in (None, [], ""):
        return ""
    return public(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def _number(value: Any) -> str:
    if not isinstance(value, int | float):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _code(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"
