"""What the columns of an unknown file probably mean, with a confidence and the reason in one sentence.

Names are compared word by word, never as substrings (`context` holds no `text`, `prompt_id` is no prompt), and
values count as much as names. The proposal is tried on the rows it was made from; what does not fit lowers the
confidence. A person confirms or changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from pathlib import Path

from studio.datasets.columns import Table, are_roles, tabulate, turns_of, words
from studio.datasets.entry import OPENAI_TAGS, TAGS, Entry, describe
from studio.datasets.formats import convert
from studio.datasets.reading import Record, format_name, other_sheets, rows
from studio.errors import RowError

SAMPLE_ROWS = 200
SAMPLE_BYTES = 4 << 20
SURE = 0.5  # below this nobody should train on it without a look

# fmt: off
PROMPTS = (
    "instruction", "prompt", "question", "query", "problem", "user", "human", "request", "user_prompt", "patient",
    "ask", "q", "指令", "问题", "提问", "用户", "患者", "问", "input", "输入",
)
ANSWERS = (
    "output", "response", "completion", "answer", "assistant", "reply", "solution", "generated_solution", "target",
    "gpt", "doctor", "a", "输出", "回答", "答案", "回复", "助手", "医生", "答", "label",
)
CONTEXTS = ("input", "context", "passage", "background", "document", "输入", "上下文", "背景")
DOCUMENTS = (
    "dialogue", "dialog", "article", "document", "body", "passage", "content", "text",
    "对话", "文章", "正文", "内容", "文本",
)
SUMMARIES = ("summary", "highlights", "abstract", "headline", "tldr", "摘要", "总结")
TEXTS = ("text", "content", "document", "raw_content", "body", "article", "文本", "内容", "正文")
SOURCES, TARGETS = ("source", "src", "原文"), ("target", "tgt", "译文")
CHATS = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat", "contents", "对话")
BETTER = (
    ("chosen", "rejected"), ("accepted", "rejected"), ("preferred", "dispreferred"), ("better", "worse"),
    ("chosen_response", "rejected_response"), ("response_j", "response_k"), ("优选", "劣选"),
)
JUDGEMENTS = ("label", "kto_tag", "desirable", "good", "thumbs_up", "is_good")
EXTRAS = {
    "system": ("system", "system_prompt", "系统提示", "系统"),
    "tools": ("tools", "functions"),
    "history": ("history",),
}
LANGUAGES = frozenset((
    "english", "german", "french", "spanish", "italian", "portuguese", "dutch", "russian", "chinese", "japanese",
    "korean", "arabic", "hindi", "turkish", "polish",
    "en", "de", "fr", "es", "it", "pt", "nl", "ru", "zh", "ja", "ko", "ar", "hi", "tr", "pl",
    "中文", "英文", "日文", "韩文", "法文", "德文", "俄文",
))
# fmt: on
LONGER = 4
HEADER_WORDS = 6
UNFILLED = frozenset(("empty_field", "empty_turn", "missing_field"))
SENTENCE_ENDS = ("?", ".", "!", "？", "。", "！")


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
    return _of_one_sheet(path, propose(records))


def _of_one_sheet(path: Path, proposal: Proposal) -> Proposal:
    """`proposal`, which tells of the sheets that are not read."""
    others = other_sheets(path) if format_name(path.name) == ".xlsx" else ()
    if not others:
        return proposal
    return replace(proposal, reason=f"{proposal.reason}; only the first sheet is read, not {', '.join(others)}")


def propose(records: Sequence[Record]) -> Proposal:
    """The proposal for some rows of a file."""
    table = tabulate(records)
    for rule in RULES:
        proposal = rule(table)
        if proposal is not None:
            return _tried(proposal, records)
    return Proposal(reason=f"none of the known shapes fits these columns: {table.describe()}")


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
        return Proposal(reason=f"{why}, but no column holds the prompt; {table.describe()}")
    columns = {"prompt": prompt, "query": _context(table, prompt), **columns, **_extras(table)}
    return Proposal(columns=columns, ranking=True, confidence=0.95, reason=f"{why}; {prompt!r} is the prompt")


def _whole_preference(table: Table, columns: dict[str, str | None], chosen: str, why: str) -> Proposal:
    """Both answers come as lists of turns; a prompt beside them matters only where they do not begin with it."""
    alone = all(len(turns_of(record.get(chosen)) or ()) <= 1 for record in table.records)
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
    answer, prompt = _best_pair(table)
    if prompt is None or answer is None:
        return None
    context = _context(table, prompt)
    columns = {"prompt": prompt, "query": context, "response": answer, **_extras(table)}
    reason = f"{prompt!r} asks{f' about {context!r}' if context else ''} and {answer!r} answers"
    named_label = words(answer) == "label"
    return Proposal(columns=columns, confidence=0.4 if named_label else 0.9, reason=reason)


def _documents(table: Table) -> Proposal | None:
    summary = table.named(SUMMARIES, "text")
    document = table.named(DOCUMENTS, "text")
    if summary is None or document is None:
        return None
    columns: dict[str, str | None] = {"prompt": document, "query": None, "response": summary, **_extras(table)}
    return Proposal(columns=columns, confidence=0.8, reason=f"{summary!r} sums up {document!r}")


def _translation(table: Table) -> Proposal | None:
    languages = [name for name, kind in table.kinds.items() if kind == "text" and words(name) in LANGUAGES]
    source, target = table.named(SOURCES, "text"), table.named(TARGETS, "text")
    if source is None or target is None:
        if len(languages) != 2:
            return None
        source, target = languages
    columns: dict[str, str | None] = {"prompt": source, "query": None, "response": target}
    return Proposal(
        columns=columns, confidence=0.7, reason=f"{target!r} looks like a translation or rewriting of {source!r}"
    )


def _odd_answer(table: Table) -> Proposal | None:
    """An answer that is there but is no text: no guess may step over it to other columns."""
    name = table.named(ANSWERS, "objects", "turns", "turn", "number", "list", "mixed", "flag")
    if name is None:
        return None
    return Proposal(reason=f"{name!r} may be the answer, but it does not hold text; {table.describe()}")


def _odd_chat(table: Table) -> Proposal | None:
    name = table.named(CHATS, "objects", "list", "mixed", "pairs", "turn") or table.named(CHATS, "text")
    if name is None or name == _long_text(table):
        return None
    why = "is not a list of turns, each with a role and a text"
    return Proposal(reason=f"{name!r} may be a conversation, but it {why}; {table.describe()}")


def _single_turns(table: Table) -> Proposal | None:
    roles = (name for name in table.texts() if are_roles([record.get(name) for record in table.records]))
    name = next(roles, None)
    if name is None:
        return None
    return Proposal(reason=f"{name!r} holds roles, so the rows are single turns: a row must be a whole conversation")


def _no_header(table: Table) -> Proposal | None:
    names = [name for name in table.kinds if name.rstrip().endswith(SENTENCE_ENDS) or len(name.split()) >= HEADER_WORDS]
    if not names or len(names) < len(table.kinds) / 2:
        return None
    return Proposal(reason=f"the file seems to have no header: {names[0][:60]!r} looks like the first row")


def _text(table: Table) -> Proposal | None:
    name = _long_text(table)
    if name is None:
        return None
    only = len(table.texts()) == 1
    reason = f"{name!r} is {'the only' if only else 'by far the longest'} column of text: plain text to go on with"
    columns: dict[str, str | None] = {"prompt": name, "response": None}
    known = 0.9 if only else 0.7
    return Proposal(columns=columns, confidence=known if words(name) in TEXTS else 0.4, reason=reason)


def _two_texts(table: Table) -> Proposal | None:
    texts = table.texts()
    if len(texts) != 2:
        return None
    columns: dict[str, str | None] = {"prompt": texts[0], "query": None, "response": texts[1]}
    reason = f"a guess: {texts[0]!r} and {texts[1]!r} are the only two columns of text"
    return Proposal(columns=columns, confidence=0.3, reason=reason)


RULES: tuple[Callable[[Table], Proposal | None], ...] = (
    _preference, _chat, _judged, _pair, _documents, _translation, _odd_answer, _single_turns, _no_header,
    _odd_chat, _text, _two_texts,
)  # fmt: skip


# --- parts of rules ---------------------------------------------------------------------------------------------


def _best_pair(table: Table) -> tuple[str | None, str | None]:
    """The answer and what asks for it: where nothing is called a prompt, the context is one."""
    prompt = table.named(PROMPTS, "text")
    answer = table.named(ANSWERS, "text", besides=prompt)
    return answer, prompt or table.named(CONTEXTS, "text")


def _long_text(table: Table) -> str | None:
    """The only column of text, or one of a fitting name beside which all others are short."""
    texts = table.texts()
    if len(texts) == 1:
        return texts[0]
    name = table.named(TEXTS, "text")
    others = [table.mean_chars(each) for each in texts if each != name]
    return name if name and table.mean_chars(name) >= LONGER * max(others) else None


def _context(table: Table, prompt: str) -> str | None:
    # a column that is empty so far may be filled further down
    return table.named(CONTEXTS, "text", "empty", besides=prompt)


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
    """`proposal`, less sure where rows do not fit; a text that is missing says nothing about what its column means."""
    if not proposal.columns:
        return proposal
    entry = proposal.entry("sample", "sample")
    errors = [error for number, record in enumerate(records, 1) if (error := _misfit(entry, number, record))]
    if not errors:
        return proposal
    against = len(errors) if len(errors) == len(records) else sum(error.code not in UNFILLED for error in errors)
    reason = f"{proposal.reason}; {len(errors)} of the first {len(records)} rows do not fit ({errors[0]})"
    return replace(proposal, confidence=round(proposal.confidence * (1 - against / len(records)), 2), reason=reason)


def _misfit(entry: Entry, number: int, record: Record) -> RowError | None:
    try:
        convert(entry, number, record)
    except RowError as error:
        return error
    return None
