"""What in a text no model should learn unnoticed: damage, control characters, text that looks like special tokens.

A rule is a regular expression. Most rows match none of them, and running them all over every row would cost more than
reading it: so a whole batch of rows is first looked over with numpy, for the beginnings of what rules look for, and a
rule is run only on the rows with a beginning of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

# complete tokens; the families <|…|> and <｜…｜> are matched as such
SPECIAL_TOKENS = (
    "<s>", "</s>", "<bos>", "<eos>", "<pad>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>",
    "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[gMASK]",
    "[BOS]", "[EOS]", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
)  # fmt: skip
_TAGS = (
    "p", "div", "span", "br", "hr", "a", "b", "i", "u", "strong", "em", "ul", "ol", "li", "table", "tr", "td", "th",
    "h1", "h2", "h3", "h4", "img", "font", "center", "script", "style", "html", "body",
)  # fmt: skip
_ENTITIES = ("&nbsp;", "&amp;", "&lt;", "&gt;", "&quot;", "&#")
# what the bytes 0x80 to 0xbf of UTF-8 become where they are read as Latin-1 or as Windows-1252
_TRAILS = "".join(map(chr, range(0x80, 0xC0))) + "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_LEADS = "".join(map(chr, range(0xC2, 0xF5)))
CONTROLS = "".join(map(chr, (*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0x7F, 0xA0))))
INVISIBLE = "\u00ad\u200b\u2060\ufeff" + "".join(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))


@dataclass(frozen=True)
class Rule:
    """`pattern` decides; every match begins with one of `beginnings` (of which the first three bytes count)."""

    code: str
    pattern: re.Pattern[str]
    beginnings: tuple[str, ...]


def _tokens() -> Rule:
    literals = "|".join(map(re.escape, SPECIAL_TOKENS))
    pattern = re.compile(rf"{literals}|<\|[\w ./-]{{1,40}}\|>|<｜[^｜<>\n]{{1,40}}｜>")
    return Rule("special_tokens", pattern, (*SPECIAL_TOKENS, "<|", "<｜"))


def _html() -> Rule:
    pattern = re.compile(rf"</?(?:{'|'.join(_TAGS)})(?:\s[^<>]*)?/?>|{'|'.join(_ENTITIES[:-1])}|&#\d+;", re.IGNORECASE)
    spelled = [spelling for tag in _TAGS for spelling in {tag, tag.upper(), tag.title(), tag[:1] + tag[1:].upper()}]
    tags = [f"{bracket}{spelling}" for spelling in spelled for bracket in ("<", "</")]
    return Rule("html", pattern, (*tags, *(entity[:2] for entity in _ENTITIES), "&N", "&A", "&L", "&G", "&Q"))


def _characters(code: str, characters: str) -> Rule:
    return Rule(code, re.compile(f"[{re.escape(characters)}]"), tuple(characters))


RULES = (
    _characters("damaged_text", "\ufffd"),
    Rule("mojibake", re.compile(f"[{_LEADS}][{_TRAILS}]"), tuple(lead + trail for lead in _LEADS for trail in _TRAILS)),
    _characters("control_characters", CONTROLS),
    _characters("invisible_characters", INVISIBLE),
    _tokens(),
    Rule("placeholder", re.compile(r"\{\{\s*[A-Za-z_]\w+\s*\}\}"), ("{{",)),
    _html(),
)


def matches(texts: Sequence[str]) -> Iterator[tuple[int, str, re.Match[str]]]:
    """For each rule and each of `texts` that it matches: the number of the text from 0, the code, the first match."""
    for number, rule in _candidates(texts):
        match = rule.pattern.search(texts[number])
        if match is not None and (rule.code != "mojibake" or is_mojibake(texts[number])):
            yield number, rule.code, match


def is_mojibake(text: str) -> bool:
    """Whether characters in `text` make more sense when read again with the right encoding."""
    from ftfy import fix_encoding

    return bool(fix_encoding(text) != text)


def _candidates(texts: Sequence[str]) -> Iterator[tuple[int, Rule]]:
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))
    seen = np.zeros(len(texts), np.uint8)
    for places, bits in _begun(b"".join([*encoded, _END])):
        np.bitwise_or.at(seen, np.searchsorted(ends, places, "right"), bits)
    for number in np.flatnonzero(seen):
        yield from ((int(number), rule) for bit, rule in enumerate(RULES) if seen[number] >> bit & 1)


_END = b"\n\n"  # so that the last byte of a text has two after it


def _begun(data: bytes) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]]:
    """The places where something begins that rules look for, and the bits of these rules."""
    values = np.frombuffer(data, np.uint8)
    first = values[: -len(_END)]
    for lowest, highest, table in _tables():
        if lowest != highest:
            places = np.flatnonzero((first >= lowest) & (first <= highest))
        elif lowest in data:
            places = np.flatnonzero(first == lowest)
        else:
            continue
        bits = table[values[places + 1].astype(np.uint16) << 8 | values[places + 2]]
        hits = np.flatnonzero(bits)
        yield places[hits], bits[hits]


# first bytes that are looked for together (the carriage return among them does no harm); every other one alone
_RANGES = ((0x00, 0x08), (0x0B, 0x1F))


@cache
def _tables() -> list[tuple[int, int, npt.NDArray[np.uint8]]]:
    """For first bytes from one to another: the bits of the rules by the two bytes that follow."""
    tables: dict[tuple[int, int], npt.NDArray[np.uint8]] = {}
    for bit, rule in enumerate(RULES):
        for lead, second, third in set(map(_start, rule.beginnings)):
            span = next((span for span in _RANGES if span[0] <= lead <= span[1]), (lead, lead))
            table = tables.setdefault(span, np.zeros((256, 256), np.uint8))
            table[_all(second), _all(third)] |= 1 << bit
    return [(low, high, table.reshape(-1)) for (low, high), table in tables.items()]


def _start(text: str) -> tuple[int, int | None, int | None]:
    first, *rest = text.encode()[:3]
    second, third, *_ = (*rest, None, None)
    return first, second, third


def _all(byte: int | None) -> slice:
    return slice(None) if byte is None else slice(byte, byte + 1)
