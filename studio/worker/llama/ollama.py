"""An export to Ollama from its request to a folder: the weights, a Modelfile, and the proof that prompts stay the same.

Ollama's template is worth nothing if the model reads other tokens than it was trained on, so conversations are
rendered and tokenised both ways before the folder gets its name.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import gguf

from studio.config.load import load_run_config
from studio.config.ollama import OllamaConfig
from studio.errors import ModelError
from studio.exports import gguf as gguf_plans
from studio.exports import modelfile, report
from studio.exports import ollama as plans
from studio.exports.go_template import Turns
from studio.exports.modelfile import Modelfile
from studio.exports.ollama import Source
from studio.exports.report import Report, Section, Table
from studio.files import folder_bytes, write_text
from studio.runs.process import die_with_parent
from studio.runs.store import Store
from studio.worker import outputs
from studio.worker.door import Desk
from studio.worker.llama import export as weights
from studio.worker.llama import proof, texts
from studio.worker.llama.conversion import convert_all
from studio.worker.llama.export import Teller
from studio.worker.llama.library import Model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ADDED = ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token")
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # a terminal's


@dataclass(frozen=True)
class Parity:
    """One conversation: how it begins, how many tokens it has, the same by Transformers and by Ollama's way."""

    text: str
    tokens: int


@dataclass(frozen=True)
class Creation:
    """What came of `ollama create`: whether it succeeded, and the last that it said."""

    succeeded: bool
    said: str


def export(desk: Desk) -> None:
    """Do as the run's config.yaml says and leave ollama/ and a report.

    Raises:
        SeedbedError: the model cannot be converted, or would read other tokens in Ollama.
    """
    config = load_run_config(desk.run_dir / "config.yaml")
    assert isinstance(config, OllamaConfig)
    shutil.rmtree(desk.run_dir / "tmp", ignore_errors=True)
    desk.reporter.phase("planning", config.model_name_or_path)
    store, asked = Store(desk.run_dir.parent), plans.as_gguf(config)
    found, called = plans.source(store, config), gguf_plans.name_of(store, asked)
    name = modelfile.model_name(config, called)
    with outputs.draft(desk.run_dir, "ollama", last_call=desk.requests.protect) as draft:
        file = draft / f"{called}-{config.outtype}.gguf"
        desk.reporter.phase("converting", config.outtype)
        facts, work = gguf_plans.facts(store, asked), desk.run_dir / "tmp"
        made = convert_all(found.folder, {config.outtype: file}, facts, Teller(desk), work)
        desk.reporter.phase("verifying")
        proven = proof.prove(found.folder, made, work, desk.reporter.progress)
        desk.reporter.phase("comparing", "tokens of three conversations under Transformers and Ollama")
        turns, parities = _settled(file, found, config.template)
        written = _modelfile(config, found, file, turns)
        told = _report(weights.report(found.folder, made, proven), written, parities, name)
        if not told.passed:
            report.write(told, desk.run_dir)
            weights.quarantine(desk, draft, told)
        write_text(draft / modelfile.NAME, str(written))
        write_text(draft / "README.md", _readme(name))
        created = _create(desk, name, draft) if config.create and plans.is_installed() else None
        desk.reporter.phase("saving")
        report.write(_with(told, name, created), desk.run_dir)
        total = folder_bytes(draft)
    desk.reporter.result(output="ollama", bytes=total, stopped=False, created=bool(created and created.succeeded))


def _settled(file: Path, found: Source, template: str | None) -> tuple[Turns, list[Parity]]:
    """How turns are written for this file, with the proof.

    llama.cpp may put a token before every prompt by itself. Where the template writes it, it is left out there; where
    the template does not, the model was trained without, and the file is told not to.
    """
    bos = found.chat.special.get("bos_token", "")
    with Model(file) as model:
        added = model.tokens("", as_prompt=True)
        writes_it = bool(bos) and added == model.tokens(bos) and found.turns.begins_with(bos)
    if added and not writes_it:
        _add_nothing(file)
    turns = found.turns.without_first(bos) if writes_it else found.turns
    from transformers import AutoTokenizer  # late: five seconds, and a conversion does without

    tokenizer = AutoTokenizer.from_pretrained(found.folder)
    with Model(file) as model:
        return turns, [_parity(model, tokenizer, found, turns, each, template) for each in _conversations(turns)]


def _add_nothing(file: Path) -> None:
    """Have llama.cpp take prompts as they are."""
    reader = gguf.GGUFReader(file, "r+")
    for key in ADDED:
        if field := reader.get_field(key):
            field.parts[field.data[0]][0] = False
    reader.data.flush()


def _conversations(turns: Turns) -> list[texts.Turns]:
    """Without white space at the edges of contents, which some templates strip and Go's cannot."""
    kept = [[turn for turn in each if turns.takes_system or turn["role"] != "system"] for each in texts.CONVERSATIONS]
    return [[{**turn, "content": turn["content"].strip()} for turn in each] for each in kept]


def _parity(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    found: Source,
    turns: Turns,
    messages: texts.Turns,
    template: str | None,
) -> Parity:
    """Compare one conversation.

    Raises:
        ModelError: the tokens differ.
    """
    source = found.chat.source if template else None
    wanted = tokenizer.apply_chat_template(
        messages, chat_template=source, add_generation_prompt=True, return_dict=False
    )
    got = model.tokens(turns.render(messages), as_prompt=True)
    if list(wanted) != got:
        where = next((n for n, pair in enumerate(zip(wanted, got, strict=False)) if pair[0] != pair[1]), len(got))
        raise ModelError(
            f"in Ollama the model would read other tokens than it was trained on ({messages[-1]['content'][:40]!r}): "
            f"{tokenizer.decode(wanted[where:][:8])!r} became {tokenizer.decode(got[where:][:8])!r}. {plans.WAY_OUT}"
        )
    return Parity(messages[-1]["content"], len(got))


def _modelfile(config: OllamaConfig, found: Source, file: Path, turns: Turns) -> Modelfile:
    return Modelfile(
        weights=file.name,
        template=turns.text(),
        system=config.default_system if turns.takes_system else None,
        stops=modelfile.stops(found.folder, found.chat, found.turns),
        parameters=modelfile.parameters(found.folder, config),
    )


def _create(desk: Desk, name: str, folder: Path) -> Creation:
    """Have Ollama take the model in; that this fails is no reason to throw away the files."""
    command = [plans.PROGRAM, "create", name, "-f", modelfile.NAME]
    desk.reporter.phase("creating", " ".join(command))
    said = ""
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", preexec_fn=die_with_parent,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            said = CODES.sub("", line).strip() or said
            desk.reporter.progress(said)
    created = Creation(process.returncode == 0, said)
    if not created.succeeded:
        desk.reporter.note("warning", f"ollama create failed: {said or 'it does not say why'}. The files are whole.")
    return created


def _readme(name: str) -> str:
    lines = "\n".join(modelfile.commands(name))
    return f"# {name} for Ollama\n\nIn this folder:\n\n```sh\n{lines}\n```\n"


def _report(weighed: Report, made: Modelfile, parities: list[Parity], name: str) -> Report:
    """What is known of the weights, and of the Modelfile around them."""
    rows = tuple((parity.text, str(parity.tokens), "equal") for parity in parities)
    sections = (
        Section("Tokens under Transformers and Ollama", table=Table(("conversation", "tokens", "ids"), rows)),
        *weighed.sections,
        Section("Modelfile", f"```\n{made}```"),
    )
    verdict = f"{len(parities)} conversations become the same tokens in Ollama. {weighed.verdict}"
    facts = {**weighed.facts, "stops": made.stops, "template": made.template}
    return Report(f"Ollama: {name}", verdict, weighed.passed, sections, facts)


def _with(told: Report, name: str, created: Creation | None) -> Report:
    """The report with what is to be done next in front."""
    facts = {**told.facts, "created": bool(created and created.succeeded)}
    first = Section("Take it into Ollama", _told(name, created))
    return replace(told, sections=(first, *told.sections), facts=facts)


def _told(name: str, created: Creation | None) -> str:
    if created and created.succeeded:
        return f"Done. Talk to it: `{modelfile.commands(name)[1]}`"
    commands = " and then ".join(f"`{command}`" for command in modelfile.commands(name))
    failed = f"`ollama create` failed here ({created.said}). " if created else ""
    return f"{failed}In the folder: {commands}."
