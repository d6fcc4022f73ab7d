"""What of a server's configuration cannot be had on this machine, said before anything is started."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from studio import machine, models
from studio.config.serve import ServeConfig
from studio.errors import ConfigError, Problem
from studio.serving import backend, installed
from studio.serving.installed import Platform

CPU_QUANTIZATION = "fp8_per_channel"


class _Generation(Extension):
    """Transformers' own tag, which marks the answers; here it only has to be read."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own attribute)

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def check(config: ServeConfig) -> None:
    """Raises:
    ConfigError: with every problem at once.
    ServingError: vLLM is asked for and not installed.
    """
    problems = [*_model_problems(config), *_template_problems(config)]
    if backend.choose(config).name == "vllm":
        problems += refusals(config, installed.platform()[0])
    if problems:
        raise ConfigError(problems)


def refusals(config: ServeConfig, on: Platform) -> Iterator[Problem]:
    """What vLLM cannot do, on this kind of machine or at all."""
    yield from _cpu_refusals(config) if on == "cpu" else ()
    if why := backend.no_kernel(config, on):
        yield Problem("infer_backend", f"{why}: choose huggingface, or leave it at auto")
    if config.adapters and not backend.takes_adapters(config, on):
        yield Problem("adapters", "vLLM takes none beside a W8A8 model on a CPU: serve the model it was made from")
    for key, known in (
        ("tool_call_parser", installed.tool_call_parsers()),
        ("reasoning_parser", installed.reasoning_parsers()),
    ):
        name = getattr(config, key)
        if name and known and name not in known:
            yield Problem(key, f"vLLM knows no {name!r}{_close(name, known)}; it knows {', '.join(sorted(known))}")


def _cpu_refusals(config: ServeConfig) -> Iterator[Problem]:
    cores = len(os.sched_getaffinity(0))
    if config.pipeline_parallel_size > 1:
        yield Problem("pipeline_parallel_size", "vLLM's engine dies with it on a CPU: leave it at 1")
    if config.tensor_parallel_size * (config.threads or 1) > cores:
        yield Problem("tensor_parallel_size", f"takes more than this machine's {cores} cores: lower it, or threads")
    if config.devices:
        yield Problem("devices", "there is no GPU for this vLLM, which computes on the CPU: leave it empty")
    if config.enable_sleep_mode:
        yield Problem("enable_sleep_mode", "only GPUs give their memory back in sleep: stop the server instead")
    if config.quantization not in (None, CPU_QUANTIZATION):
        yield Problem("quantization", f"{config.quantization} has no kernel on a CPU: take {CPU_QUANTIZATION}")
    if config.kv_cache_dtype == "fp8" and machine.lacks_avx512():
        yield Problem("kv_cache_dtype", "vLLM rounds no cache on a processor without AVX512: leave it at auto")
    if config.enforce_eager is False:
        yield Problem("enforce_eager", "vLLM compiles nothing on a CPU while it takes adapters: leave it empty")


def _model_problems(config: ServeConfig) -> Iterator[Problem]:
    """vLLM takes half a minute to find out, and says it in the hub's own words."""
    name = config.model_name_or_path
    is_offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    if is_offline and not models.is_local(models.resolve(name)) and models.folder_of(name) is None:
        yield Problem(
            "model_name_or_path",
            f"{name!r} is not on this machine, and HF_HUB_OFFLINE is set: give a folder, or unset it to download",
        )


def _template_problems(config: ServeConfig) -> Iterator[Problem]:
    if not config.chat_template or not config.chat_template.endswith(".jinja"):
        return
    path = Path(config.chat_template).expanduser()
    try:
        Environment(extensions=[_Generation, "jinja2.ext.loopcontrols"]).parse(path.read_text(encoding="utf-8"))
    except TemplateSyntaxError as error:
        yield Problem("chat_template", f"{path}, line {error.lineno}: {error.message}")
    except (OSError, UnicodeError) as error:
        yield Problem("chat_template", f"{path} cannot be read ({error})")


def _close(name: str, known: Collection[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {found[0]}?" if found else ""
