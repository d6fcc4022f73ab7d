"""What the columns of an unknown file probably mean, with a confidence and the reason in one sentence.

Names are compared word by word, never as substrings (`context` holds no `text`, `prompt_id` is no prompt), and
values count as much as names. The proposal is tried on the rows it was made from; what does not fit lowers the
confidence. A person confirms or changes it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from studio.datasets.entry import OPENAI_TAGS, TAGS, Entry, describe
from studio.datasets.formats import convert
from studio.datasets.reading import Record, rows
from studio.errors import RowError

SAMPLE_ROWS = 200
SAMPLE_BYTES = 4 << 20
SURE = 0.5  # below this nobody should train on it without a look

PROMPTS = ("instruction", "prompt", "question", "query", "problem", "user", "human", "request", "user_prompt", "input")
ANSWERS = ("output", "response", "completion", "answer", "assistant", "reply", "solution", "target", "gpt", "label")
CONTEXTS = ("input", "context", "passage", "background", "document")
DOCUMENTS = ("dialogue", "dialog", "article", "document", "body", "passage", "content", "text")
SUMMARIES = ("summary", "highlights", "abstract", "headline")
TEXTS = ("text", "content", "document", "raw_content", "body", "article")
CHATS = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat")
BETTER = (("chosen", "rejected"), ("accepted", "rejected"), ("preferred", "dispreferred"), ("better", "worse"))
JUDGEMENTS = ("label", "kto_tag", "desirable", "good", "thumbs_up", "is_good")
EXTRAS = {
    "system": ("system", "system_prompt", "system_message"),
    "tools": ("tools", "functions"),
    "history": ("history",),
}
# fmt: off
LANGUAGES = frozenset((
    "english", "german", "french", "spanish", "italian", "portuguese", "dutch", "russian", "chinese", "japanese",
    "korean", "arabic", "hindi", "turkish", "polish",
    "en", "de", "fr", "es", "it", "pt", "nl", "ru", "zh", "ja", "ko", "ar", "hi", "tr", "pl",
))
ABOUT = frozenset((
    "id", "ids", "idx", "index", "uuid", "guid", "hash", "sha", "md5", "url", "uri", "link", "date", "time",
    "timestamp", "lang", "language", "split", "category", "score", "rating", "tokens", "length", "count", "type",
    "name", "title", "author", "license", "meta", "metadata",
))
# fmt: on
ROLES = {
    "user_tag": ("human", "user", "prompter", "customer", "question"),
    "assistant_tag": ("gpt", "assistant", "bot", "chatgpt", "model", "ai", "agent"),
    "system_tag": ("system", "developer"),
    "observation_tag": ("observation", "tool", "tool_response", "function_response", "ipython"),
    "function_tag": ("function_call", "tool_call"),
}
SPOKEN = ("value", "content", "text", "message")


@dataclass(frozen=True)
class Proposal:
    """How a file may be read. `confidence` is 0 (no idea: `columns` is empty) to 1."""

    formatting: str = "alpaca"
    columns: Mapping[str, str | None] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    ranking: bool = False
    confidence: float = 0.0
    reason: str = ""

    def entry(self, name: str, file_name: str) -> Entry:
        """The entry that says so."""
        return describe(name, file_name, self.formatting, self.columns, self.tags, self.ranking)


@dataclass(frozen=True)
class Table:
    """What a sample shows of each column: its kind of value, under its name and its name in words."""

    kinds: Mapping[str, str]
    tags: Mapping[str, Mapping[str, str]]
    records: Sequence[Record]

    def named(self, words: Iterable[str], *kinds: str) -> str | None:
        """The first column of one of these kinds that is called one of these words, in the order of the words."""
        by_word = {_words(name): name for name, kind in self.kinds.items() if kind in kinds}
        return next((by_word[word] for word in words if word in by_word), None)

    def texts(self) -> list[str]:
        """Columns of text that are not about the row (ids, dates, links)."""
        return [name for name, kind in self.kinds.items() if kind == "text" and not _is_about(name)]


def propose_for(path: Path) -> Proposal:
    """The proposal for a file, from its first rows.

    Raises:
        UploadError, RowError: it cannot be read that far.
    """
    first = islice(rows(path), SAMPLE_ROWS)
    # rows may have megabytes each: the sample stays small
    read = [record for _, record in takewhile(lambda item: item[0].offset < SAMPLE_BYTES, first)]
    records = [record for record in read if not isinstance(record, RowError)]
    broken = [record for record in read if isinstance(record, RowError)]
    if broken and not records:
        raise broken[0]
    return propose(records)


def propose(records: Sequence[Record]) -> Proposal:
    """The proposal for some rows of a file."""
    table = _table(records)
    for rule in (_preference, _chat, _judged, _pair, _documents, _translation, _no_text, _text, _two_texts):
        proposal = rule(table)
        if proposal is not None:
            return _tried(proposal, records)
    return Proposal(reason=f"none of the known shapes fits these columns: {_described(table)}")


# --- rules, the more telling first ------------------------------------------------------------------------------


def _preference(table: Table) -> Proposal | None:
    kinds = ("text", "turn", "turns")
    pairs = ((table.named([better], *kinds), table.named([worse], *kinds)) for better, worse in BETTER)
    chosen, rejected = next((pair for pair in pairs if all(pair)), (None, None))
    if chosen is None or rejected is None:
        return None
    columns: dict[str, str | None] = {"chosen": chosen, "rejected": rejected}
    why = f"{chosen!r} and {rejected!r} hold a better and a worse answer"
    if table.kinds[chosen] == "turns":
        return _whole_preference(table, columns, chosen, why)
    chat = table.named(CHATS, "turns") or table.named(PROMPTS, "turns")
    if chat:
        columns = {"messages": chat, **columns, **_extras(table, "history")}
        return _shaped(table, chat, Proposal(columns=columns, ranking=True, confidence=0.95, reason=why))
    prompt = table.named(PROMPTS, "text")
    if prompt is None:
        return Proposal(reason=f"{why}, but no column holds the prompt; {_described(table)}")
    columns = {"prompt": prompt, "query": _context(table, prompt), **columns, **_extras(table)}
    return Proposal(columns=columns, ranking=True, confidence=0.95, reason=f"{why}; {prompt!r} is the prompt")


def _whole_preference(table: Table, columns: dict[str, str | None], chosen: str, why: str) -> Proposal:
    """Both answers come as lists of turns; a prompt beside them matters only where they do not begin with it."""
    alone = all(len(_turns_of(record.get(chosen)) or ()) <= 1 for record in table.records)
    prompt = (table.named(PROMPTS, "turns") or table.named(CHATS, "turns")) if alone else None
    columns = {"messages": prompt, **columns, **_extras(table, "history")}
    return _shaped(table, chosen, Proposal(columns=columns, ranking=True, confidence=0.95, reason=why))


def _chat(table: Table) -> Proposal | None:
    chats = [name for name, kind in table.kinds.items() if kind == "turns"]
    name = table.named(CHATS, "turns") or (chats[0] if len(chats) == 1 else None)
    if name is None:
        return None
    columns: dict[str, str | None] = {"messages": name, **_extras(table, "history")}
    judged = table.named(JUDGEMENTS, "flag")
    if judged:
        columns["kto_tag"] = judged
    tags = table.tags[name]
    why = f"{name!r} holds turns with {tags['role_tag']!r} and {tags['content_tag']!r}"
    return _shaped(table, name, Proposal(columns=columns, confidence=0.97, reason=why))


def _judged(table: Table) -> Proposal | None:
    judgement = table.named(JUDGEMENTS, "flag")
    pair = _pair(table)
    if judgement is None or pair is None:
        return None
    reason = f"{pair.reason}; {judgement!r} says whether the answer is good"
    return replace(pair, columns={**pair.columns, "kto_tag": judgement}, reason=reason)


def _pair(table: Table) -> Proposal | None:
    prompt, answer = _best_pair(table)
    if prompt is None or answer is None:
        return None
    context = _context(table, prompt)
    columns = {"prompt": prompt, "query": context, "response": answer, **_extras(table)}
    reason = f"{prompt!r} asks{f' about {context!r}' if context else ''} and {answer!r} answers"
    named_label = _words(answer) == "label"
    return Proposal(columns=columns, confidence=0.4 if named_label else 0.9, reason=reason)


def _documents(table: Table) -> Proposal | None:
    summary = table.named(SUMMARIES, "text")
    document = table.named(DOCUMENTS, "text")
    if summary is None or document is None:
        return None
    columns: dict[str, str | None] = {"prompt": document, "query": None, "response": summary, **_extras(table)}
    return Proposal(columns=columns, confidence=0.8, reason=f"{summary!r} sums up {document!r}")


def _translation(table: Table) -> Proposal | None:
    languages = [name for name, kind in table.kinds.items() if kind == "text" and _words(name) in LANGUAGES]
    source, target = table.named(("source", "src"), "text"), table.named(("target", "tgt"), "text")
    if source is None or target is None:
        if len(languages) != 2:
            return None
        source, target = languages
    columns: dict[str, str | None] = {"prompt": source, "query": None, "response": target}
    return Proposal(
        columns=columns, confidence=0.7, reason=f"{target!r} looks like a translation or rewriting of {source!r}"
    )


def _no_text(table: Table) -> Proposal | None:
    """An answer that is there but is no text: no guess may step over it to other columns."""
    name = table.named((*ANSWERS, "answers", "labels"), "objects", "turns", "turn", "number", "list", "mixed", "flag")
    if name is None:
        return None
    return Proposal(reason=f"{name!r} may be the answer, but it does not hold text; {_described(table)}")


def _text(table: Table) -> Proposal | None:
    texts = table.texts()
    if len(texts) != 1:
        return None
    known = _words(texts[0]) in TEXTS
    reason = f"{texts[0]!r} is the only column of text: plain text to go on with"
    columns: dict[str, str | None] = {"prompt": texts[0], "response": None}
    return Proposal(columns=columns, confidence=0.9 if known else 0.4, reason=reason)


def _two_texts(table: Table) -> Proposal | None:
    texts = table.texts()
    if len(texts) != 2:
        return None
    columns: dict[str, str | None] = {"prompt": texts[0], "query": None, "response": texts[1]}
    reason = f"a guess: {texts[0]!r} and {texts[1]!r} are the only two columns of text"
    return Proposal(columns=columns, confidence=0.3, reason=reason)


# --- parts of rules ---------------------------------------------------------------------------------------------


def _best_pair(table: Table) -> tuple[str | None, str | None]:
    prompt = table.named(PROMPTS, "text")
    answer = table.named([word for word in ANSWERS if prompt is None or word != _words(prompt)], "text")
    return prompt, answer


def _context(table: Table, prompt: str) -> str | None:
    # a column that is empty so far may be filled further down
    return table.named([word for word in CONTEXTS if word != _words(prompt)], "text", "empty")


def _extras(table: Table, *without: str) -> dict[str, str]:
    kinds = ("text", "objects", "pairs", "turns", "empty", "mixed")
    found = {role: table.named(names, *kinds) for role, names in EXTRAS.items() if role not in without}
    return {role: name for role, name in found.items() if name is not None}


def _shaped(table: Table, chat: str, proposal: Proposal) -> Proposal:
    """`proposal` with the formatting and tags that the turns in `chat` ask for."""
    tags = table.tags[chat]
    formatting = "openai" if tags["role_tag"] == "role" else "sharegpt"
    usual = OPENAI_TAGS if formatting == "openai" else TAGS
    unusual = {key: tag for key, tag in tags.items() if usual[key] != tag}
    return replace(proposal, formatting=formatting, tags={**usual, **unusual} if unusual else {})


def _tried(proposal: Proposal, records: Sequence[Record]) -> Proposal:
    if not proposal.columns:
        return proposal
    entry = proposal.entry("sample", "sample")
    errors = [error for number, record in enumerate(records, 1) if (error := _misfit(entry, number, record))]
    if not errors:
        return proposal
    fitting = 1 - len(errors) / len(records)
    reason = f"{proposal.reason}; {len(errors)} of the first {len(records)} rows do not fit ({errors[0]})"
    return replace(proposal, confidence=round(proposal.confidence * fitting, 2), reason=reason)


def _misfit(entry: Entry, number: int, record: Record) -> RowError | None:
    try:
        convert(entry, number, record)
    except RowError as error:
        return error
    return None


def _described(table: Table) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in table.kinds.items()) or "there are none"


# --- what a column holds ----------------------------------------------------------------------------------------


def _table(records: Sequence[Record]) -> Table:
    values: dict[str, list[Any]] = {}
    for record in records:
        for name, value in record.items():
            values.setdefault(name, []).append(value)
    kinds = {name: _column_kind(column) for name, column in values.items()}
    chats = {name: _chat_tags(column) for name, column in values.items() if kinds[name] in ("turns", "turn")}
    for name, tags in chats.items():
        if tags is None:
            kinds[name] = "objects"
    return Table(kinds, {name: tags for name, tags in chats.items() if tags is not None}, records)


def _column_kind(values: Sequence[Any]) -> str:
    counts = Counter(_kind(value) for value in values)
    for nothing in ("null", "blank"):
        if len(counts) > 1:
            counts.pop(nothing, None)
    kind, count = counts.most_common(1)[0]
    if kind in ("null", "blank"):
        return "empty"
    return kind if count >= 0.8 * counts.total() else "mixed"


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return _text_kind(value)
    if value is None or value == []:
        return "null"
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, list):
        return _list_kind(value)
    return "turn" if isinstance(value, dict) else "number"


def _text_kind(value: str) -> str:
    if value.strip().lower() in ("true", "false"):
        return "flag"
    if not value.strip():
        return "blank"
    turns = _turns_of(value)
    return _list_kind(turns) if turns else "text"


def _list_kind(value: Sequence[Any]) -> str:
    if all(isinstance(item, dict) for item in value):
        return "turns"
    if all(isinstance(item, list) and len(item) == 2 for item in value):
        return "pairs"
    return "list"


def _turns_of(value: Any) -> list[Any] | None:
    """The list that `value` is, or that it spells as JSON."""
    if isinstance(value, str) and value.lstrip().startswith(("[{", "[[")):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def _chat_tags(values: Sequence[Any]) -> dict[str, str] | None:
    """The tags of a column of turns; None where no key of its objects holds roles."""
    turns = [turn for value in values for turn in ([value] if isinstance(value, dict) else _turns_of(value) or ())]
    turns = [turn for turn in turns if isinstance(turn, dict)]
    keys = Counter(key for turn in turns for key, value in turn.items() if isinstance(value, str))
    role_key = next((key for key in keys if _holds_roles(turns, key)), None)
    content_key = next((key for key in SPOKEN if key in keys and key != role_key), None)
    if role_key is None or content_key is None:
        return None
    return {"role_tag": role_key, "content_tag": content_key, **_role_tags(turns, role_key)}


def _holds_roles(turns: Sequence[dict[str, Any]], key: str) -> bool:
    names = Counter(str(turn.get(key)) for turn in turns)
    known = sum(names[role] for roles in ROLES.values() for role in roles)
    return known >= 0.8 * len(turns)


def _role_tags(turns: Sequence[dict[str, Any]], key: str) -> dict[str, str]:
    names = Counter(str(turn.get(key)) for turn in turns)
    usual = {tag: max(roles, key=lambda role: names[role]) for tag, roles in ROLES.items()}
    return {tag: role for tag, role in usual.items() if names[role]}


def _words(name: str) -> str:
    """A column's name in words: `userPrompt`, `User Prompt` and `user-prompt` are all `user_prompt`."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return "_".join(re.findall(r"[^\W_]+", split.lower()))


def _is_about(name: str) -> bool:
    return _words(name).split("_")[-1] in ABOUT
