"""Files that are damaged, misnamed or odd, each with what must be said about it. `CORPUS` is all of them.

Small ones are written out; damage that has a pattern (a file cut off, a bomb, a nest) comes from generators below.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

DEEP = 100_000
LONG_BYTES = 50_000_000
BOMB_BYTES = 300_000_000
GOOD = {"instruction": "q", "output": "a"}
LINE = json.dumps(GOOD).encode()
CSV = b"instruction,output\nq,a\n"


@dataclass(frozen=True)
class Trap:
    """One file, read with the columns `instruction`, `input`, `output`, `history` and `tools`, or as openai `messages`.

    `usable` rows can be trained on and `left_out` are counted; `usable` is None where the file is refused as a whole.
    `said` stands in the refusal, or in the report where rows are left out.
    """

    name: str
    content: bytes | Callable[[], bytes]
    said: str = ""
    usable: int | None = None
    left_out: int = 0
    formatting: str = "alpaca"

    def data(self) -> bytes:
        """What the file holds."""
        return self.content if isinstance(self.content, bytes) else self.content()


def refused(name: str, content: bytes | Callable[[], bytes], said: str) -> Trap:
    """A file that is not used at all, and why."""
    return Trap(name, content, said)


def faulty(name: str, content: bytes | Callable[[], bytes], usable: int, left_out: int, said: str) -> Trap:
    """A file of which some rows are left out."""
    return Trap(name, content, said, usable, left_out)


def read(name: str, content: bytes | Callable[[], bytes], usable: int) -> Trap:
    """A file that only looks dangerous."""
    return Trap(name, content, "", usable)


def chats(name: str, usable: int, left_out: int, said: str, *values: Any) -> Trap:
    """A file of conversations, one a line."""
    return Trap(name, lines(*({"messages": value} for value in values)), said, usable, left_out, "openai")


# --- generators -------------------------------------------------------------------------------------------------


def lines(*values: Any) -> bytes:
    """One JSON value a line."""
    return b"".join(json.dumps(value, ensure_ascii=False).encode() + b"\n" for value in values)


def with_field(field: str, json_text: str) -> bytes:
    """A good row with one more field, written as given."""
    return b'{"instruction": "q", "output": "a", "%s": %s}\n' % (field.encode(), json_text.encode())


def nest(opening: str, closing: str, depth: int = DEEP) -> str:
    return opening * depth + "1" + closing * depth


def quoted(cell: str) -> bytes:
    """A CSV cell."""
    return b'"' + cell.replace('"', '""').encode() + b'"'


def long_line(head: bytes, tail: bytes) -> Callable[[], bytes]:
    return lambda: head + b"x" * LONG_BYTES + tail


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    return parquet_of(pa.table(columns), **options)


def parquet_of(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def arrow(table: pa.Table, stream: bool = False) -> bytes:
    sink = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def sheet(*rows: tuple[Any, ...], change: Callable[[Any], None] = lambda sheet: None) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    change(book.active)
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


def rezipped(data: bytes, member: str, change: Callable[[bytes], bytes | None]) -> bytes:
    """An Office file with one member changed, or taken out where `change` gives None."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = change(old.read(name)) if name == member else old.read(name)
            if content is not None:
                new.writestr(name, content)
    return sink.getvalue()


def gzip_bomb() -> bytes:
    """Some 300 kB that unpack to 300 MB of good rows."""
    return repeated(lambda block: gzip.compress(block, 6))


def zstd_bomb() -> bytes:
    return repeated(zstandard.ZstdCompressor().compress)


def repeated(pack: Callable[[bytes], bytes]) -> bytes:
    block = (LINE + b"\n") * 100_000
    return pack(block) * (BOMB_BYTES // len(block))


def gzip_line_bomb() -> bytes:
    """One line of 300 MB."""
    return gzip.compress(b'{"instruction": "') + gzip.compress(b"x" * 10_000_000) * (BOMB_BYTES // 10_000_000)


def sheet_bomb() -> bytes:
    """An Office file of which one member unpacks to 300 MB."""
    row = b'<row><c t="inlineStr"><is><t>q</t></is></c><c t="inlineStr"><is><t>a</t></is></c></row>'
    count = BOMB_BYTES // len(row)
    return rezipped(
        SHEET, "xl/worksheets/sheet1.xml", lambda xml: xml.replace(b"</sheetData>", row * count + b"</sheetData>")
    )


def parquet_bomb() -> bytes:
    """One text of 300 MB in a few kB: dictionary and compression make it small."""
    return parquet({"instruction": ["q"], "output": ["x" * BOMB_BYTES]}, compression="zstd")


def dictionary_bomb() -> bytes:
    """Twenty thousand rows that all point at one text of 1 MB: 20 GB once they are read."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["x" * 1_000_000]))
    return parquet({"instruction": ["q"] * 20_000, "output": text})


def nested_dictionary_bomb() -> bytes:
    """The same where lists of turns point at it."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["x" * 1_000_000]))
    turns = pa.StructArray.from_arrays([pa.array(["user"] * 20_000), text], ["role", "content"])
    return arrow(pa.table({"messages": pa.ListArray.from_arrays(pa.array(range(20_001), pa.int32()), turns)}))


def repeated_text() -> bytes:
    """The same without a word of it in the schema: only the file's pages hold a dictionary."""
    table = pa.table({"instruction": ["q"] * 400, "output": ["x" * 1_000_000] * 400})
    return parquet_of(table, dictionary_pagesize_limit=10_000_000)


def laughs(xml: bytes) -> bytes:
    """Entities that multiply when they are expanded: the ninth is a billion laughs."""
    entities = b"".join(b'<!ENTITY l%d "%s">' % (level, b"&l%d;" % (level - 1) * 10) for level in range(1, 10))
    declared = b'<!DOCTYPE worksheet [<!ENTITY l0 "ha">' + entities + b"]>"
    at = xml.index(b"<worksheet")
    return xml[:at] + declared + xml[at:].replace(b"<t>q</t>", b"<t>&l9;</t>")


TABLE = pa.table({"instruction": ["q"] * 500, "output": ["a"] * 500})
SHEET = sheet(("instruction", "output"), ("q", "a"))
GOOD_FILES: dict[str, bytes] = {
    "json": json.dumps([GOOD] * 500).encode(),
    "jsonl": b"".join(lines({**GOOD, "n": number * 37}) for number in range(500)),
    "csv": b"instruction,output\n" + b'"q, q","a"\n' * 500,
    "parquet": parquet_of(TABLE),
    "arrow": arrow(TABLE),
    "xlsx": sheet(("instruction", "output"), *[(f"q {number}", f"a {number}") for number in range(500)]),
    "jsonl.gz": gzip.compress(b"".join(lines({**GOOD, "n": number}) for number in range(500))),
    "jsonl.zst": zstandard.ZstdCompressor().compress(b"".join(lines({**GOOD, "n": number}) for number in range(500))),
}
CUTS = (1, 0.25, 0.5, 0.9, -1)  # bytes kept: the first, a share, all but the last


def cut_files() -> Iterator[tuple[str, bytes]]:
    """Every kind of file, cut off in five places: (name, what is left)."""
    for suffix, data in GOOD_FILES.items():
        for cut in CUTS:
            kept = cut if isinstance(cut, int) else int(cut * len(data))
            yield f"cut at {cut}.{suffix}", data[:kept]


# --- the corpus -------------------------------------------------------------------------------------------------

ENCODINGS = [
    read("mark.csv", b"\xef\xbb\xbf" + CSV, 1),
    read("mark.jsonl", b"\xef\xbb\xbf" + LINE, 1),
    read("utf-16-le.csv", b"\xff\xfe" + CSV.decode().encode("utf-16-le"), 1),
    read("utf-16-be.jsonl", b"\xfe\xff" + LINE.decode().encode("utf-16-be"), 1),
    refused("utf-16 without its mark.csv", CSV.decode().encode("utf-16-le"), "UTF-16"),
    refused("utf-16 cut in a character.csv", b"\xff\xfe" + CSV.decode().encode("utf-16-le")[:-1], "UTF-8"),
    refused(
        "utf-16 with half a pair.csv", b"\xff\xfe" + (CSV + b"q,").decode().encode("utf-16-le") + b"\x3d\xd8", "UTF-8"
    ),
    refused("utf-32.json", b"\xff\xfe\0\0" + LINE.decode().encode("utf-32-le"), "UTF-32"),
    refused("utf-32 without its mark.csv", CSV.decode().encode("utf-32-le"), "as UTF-8"),
    refused("gbk.csv", "instruction,output\n问题,回答\n".encode("gbk"), "as UTF-8"),
    refused("gbk.json", '[{"instruction": "问题", "output": "回答"}]'.encode("gbk"), "as UTF-8"),
    refused("gbk.txt", "春天来了\n".encode("gbk"), "as UTF-8"),
    refused("latin-1.jsonl", '{"instruction": "é", "output": "a"}'.encode("latin-1"), "row 1"),
    refused("latin-1 far down.jsonl", (LINE + b"\n") * 30_000 + b'{"instruction": "\xe9"}', "row 30001"),
    refused("half of an emoji as bytes.jsonl", b'{"instruction": "\xed\xa0\xbd", "output": "a"}', "row 1"),
    refused("all ones.jsonl", b"\xff" * 5000, "UTF-8"),
    refused("nothing but zeros.csv", bytes(5000), "not text"),
    refused("a zero byte.csv", b"instruction,output\nq,a\0b\n", "zero"),
    refused("a zero byte.jsonl", LINE + b"\n\0\n", "zero"),
    refused("a zero byte far down.jsonl", (LINE + b"\n") * 5000 + b'{"instruction": "\0"}', "row 5001"),
    read("a zero byte far down.csv", CSV + b"q,a\n" * 50_000 + b"q,\0\n", 50_002),
]

SIZES = [
    refused("a row of 50 MB.jsonl", long_line(b'{"instruction": "', b'", "output": "a"}'), "longer than 16 MB"),
    refused("a row of 50 MB.json", long_line(b'[{"instruction": "', b'", "output": "a"}]'), "longer than 16 MB"),
    refused("a row of 50 MB.csv", long_line(b'instruction,output\n"', b'",a\n'), "longer than 16 MB"),
    refused(
        "a quote that never closes for 50 MB.csv", long_line(b'instruction,output\nq,"a\n', b"\n"), "longer than 16 MB"
    ),
    refused("a header of 50 MB.csv", long_line(b"", b",output\nq,a\n"), "longer than 16 MB"),
    refused("a line of 50 MB.txt", long_line(b"", b"\n"), "longer than 16 MB"),
    read(
        "one line of many rows, 50 MB.json",
        lambda: json.dumps([{**GOOD, "output": "a" * 2000}] * 25_000).encode(),
        25_000,
    ),
    read("spaces for 50 MB.jsonl", lambda: LINE + b"\n" + b" " * 10_000_000 + (b"\n" * 10_000_000) + LINE, 2),
    read("10,000 columns.csv", lambda: wide_csv(10_000), 1),
    read("10,000 fields.jsonl", lambda: lines({**GOOD, **{f"field {n}": n for n in range(10_000)}}), 1),
]


def wide_csv(columns: int) -> bytes:
    names = ["instruction", "output", *(f"column {number}" for number in range(columns - 2))]
    return (",".join(names) + "\n" + ",".join(["q", "a"] + ["x"] * (columns - 2)) + "\n").encode()


NESTS = [
    refused("lists in lists.json", nest("[", "]").encode(), "nested too deeply"),
    refused("lists in lists.jsonl", nest("[", "]").encode(), "nested too deeply"),
    refused("objects in objects.json", ("[" + nest('{"a": ', "}") + "]").encode(), "nested too deeply"),
    refused("objects in objects.jsonl", with_field("more", nest('{"a": ', "}")), "nested too deeply"),
    refused("lists that never close.json", b"[" * DEEP, "row 1"),
    refused("lists that never close.jsonl", with_field("more", "[" * DEEP), "row 1"),
    read("lists in a cell nobody reads.csv", b"instruction,output,more\nq,a," + quoted(nest("[", "]")) + b"\n", 1),
    faulty("lists in the history.csv",
           b"instruction,output,history\nq,a," + quoted("[" + nest("[", "]") + "]") + b"\nq,a,\n",
           1, 1, "row 1"),
    faulty("lists in the tools.csv", b"instruction,output,tools\nq,a," + quoted(nest("[", "]")) + b"\nq,a,\n",
           1, 1, "row 1"),
    refused("a nest of 5,000.jsonl", with_field("more", nest("[", "]", 5_000)), "nested too deeply"),
    read("a nest that is fine.jsonl", with_field("more", nest("[", "]", 50)), 1),
]  # fmt: skip

USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CHAT = [USER, ASSISTANT]


def calling(arguments: str) -> bytes:
    """A good conversation, and one whose assistant calls a tool with these arguments, written as given."""
    call = b'{"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": %s}}]}'
    row = b'{"messages": [%s, ' + call + b"]}\n"
    return lines({"messages": CHAT}) + row % (json.dumps(USER).encode(), arguments.encode())


CHATS = [
    Trap("deep arguments as text.jsonl", calling(json.dumps(nest("[", "]"))), "row 2", 1, 1, "openai"),
    Trap("deep arguments as objects in text.jsonl", calling(json.dumps(nest('{"a": ', "}"))), "row 2", 1, 1, "openai"),
    Trap("deep arguments.jsonl", calling(nest('{"a": ', "}")), "nested too deeply", 1, 1, "openai"),
    Trap("arguments nested 900 deep.jsonl", calling(json.dumps(nest('{"a": ', "}", 900))), "row 2", 1, 1, "openai"),
    Trap("arguments nested 50 deep.jsonl", calling(json.dumps(nest('{"a": ', "}", 50))), "", 2, 0, "openai"),
    Trap("arguments cut off.jsonl", calling('"{\\"a\\": "'), "must be JSON", 1, 1, "openai"),
    Trap("arguments that are a list.jsonl", calling('"[1]"'), "must be an object", 1, 1, "openai"),
    Trap("arguments with NaN.jsonl", calling('"{\\"a\\": NaN}"'), "must be JSON", 1, 1, "openai"),
    Trap("arguments with half a character.jsonl", calling('"{\\"a\\": \\"\\\\ud83d\\"}"'), "row 2", 1, 1, "openai"),
    chats("wrong order.jsonl", 1, 4, "row 2", CHAT, CHAT[::-1], [*CHAT, *CHAT[1:]], CHAT[:1], [USER, *CHAT]),
    chats("wrong roles.jsonl", 1, 4, "'role' must be one of", CHAT, [{**USER, "role": "boss"}, ASSISTANT],
          [{**USER, "role": 5}, ASSISTANT], [{"content": "q"}, ASSISTANT], [{**USER, "role": ["user"]}, ASSISTANT]),
    chats("no list of turns.jsonl", 1, 6, "row 2", CHAT, "q", None, [], {}, 5, ["q", "a"]),
    chats("wrong contents.jsonl", 1, 5, "row 2", CHAT, *([USER, {**ASSISTANT, "content": content}]
          for content in (5, None, "", [{"type": "image"}], {"text": "a"}))),
    chats("wrong calls.jsonl", 1, 4, "row 2", CHAT, *([USER, {**ASSISTANT, "tool_calls": calls}]
          for calls in (5, [5], [{"name": 5}], [{"function": None}]))),
    chats("turns as text.jsonl", 2, 1, "row 3", CHAT, json.dumps(CHAT), json.dumps(CHAT)[:-1]),
]  # fmt: skip

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
JSON = [
    refused("nothing.jsonl", b"", "no rows"),
    refused("nothing.csv", b"", "name each column once"),
    refused("white space.json", b" \n\t\r\n", "row"),
    refused("white space.jsonl", b" \n\t\r\n", "no rows"),
    refused("only a mark.jsonl", b"\xef\xbb\xbf", "no rows"),
    refused("an empty list.json", b"[]", "no rows"),
    refused("an empty object.json", b"{}", "no row can be used"),
    refused("null.json", b"null", "list of rows"),
    refused("a text.json", b'"text"', "list of rows"),
    refused("a number.json", b"42", "list of rows"),
    refused("a list of lists.json", b'[["q", "a"], ["q", "a"]]', "row 1"),
    refused("a list of texts.json", b'["q", "a"]', "row 1"),
    refused("lists.jsonl", b'["q", "a"]\n["q", "a"]\n', "row 1"),
    refused("columns.json", b'{\n"instruction": ["q", "q"],\n"output": ["a", "a"]\n}', "row"),
    refused("rows inside an object.json", json.dumps({"data": [GOOD] * 3}, indent=1).encode(), "list of rows"),
    refused("rows inside an object, one line.json", json.dumps({"data": [GOOD] * 3}).encode(), "no row can be used"),
    refused("an object over many lines.jsonl", json.dumps(GOOD, indent=1).encode(), "row 1"),
    refused("two lists.json", b"[" + LINE + b"][" + LINE + b"]", "after the list"),
    refused("text after the list.json", b"[" + LINE + b"] done", "after the list"),
    refused("a comma too many.json", b"[" + LINE + b",]", "row 2"),
    refused("no comma.json", b"[" + LINE + b" " + LINE + b"]", "expected ','"),
    refused("two rows on a line.jsonl", LINE + b" " + LINE, "end of the row"),
    refused("Python.jsonl", b"{'instruction': 'q', 'output': None}", "double quotes"),
    refused("JavaScript.json", b"// rows\n[{instruction: 'q'}]", "row 1"),
    refused("a control character.jsonl", b'{"instruction": "q\x01", "output": "a"}', "control character"),
    refused("a bare line break.json", b'[{"instruction": "q\nq", "output": "a"}]', "line break"),
    refused("a bad escape.jsonl", b'{"instruction": "\\x41", "output": "a"}', "backslash"),
    refused("half an escape.jsonl", b'{"instruction": "\\u12", "output": "a"}', "hexadecimal"),
    refused("half of a character.jsonl", b'{"instruction": "\\ud83d", "output": "a"}', "half of a character"),
    refused("half of a character.json", b'[{"instruction": "\\ude00", "output": "a"}]', "half of a character"),
    refused("half of a character in a name.jsonl", with_field("\\ud83d", "1"), "half of a character"),
    refused("NaN.jsonl", with_field("score", "NaN"), "NaN is not JSON"),
    refused("Infinity.json", b"[" + with_field("score", "-Infinity") + b"]", "Infinity is not JSON"),
    refused("10,000 digits.jsonl", with_field("n", "9" * 10_000), "too many digits"),
    refused("10,000 digits.json", b"[" + with_field("n", "9" * 10_000) + b"]", "too many digits"),
    read("10,000 digits after the point.jsonl", with_field("n", "0." + "9" * 10_000), 1),
    read("an exponent beyond all numbers.jsonl", with_field("n", "1e999"), 1),
    read("a number beyond 64 bits.jsonl", with_field("n", str(2**70)), 1),
    read("a name twice.jsonl", b'{"instruction": "old", "instruction": "q", "output": "a"}', 1),
    read("a name twice.json", b'[{"instruction": "old", "instruction": "q", "output": "a"}]', 1),
    read("an empty name.jsonl", with_field("", "1"), 1),
    read("a name of 1 MB.jsonl", with_field("n" * 1_000_000, "1"), 1),
    read("Windows.jsonl", (LINE + b"\r\n") * 3, 3),
    read("line separators inside.jsonl", lines({"instruction": "q\u2028q\u0085", "output": "a"}), 1),
    read("old Macintosh.jsonl", LINE + b"\r" + LINE, 2),
    faulty("wrong types.jsonl",
           lines(GOOD, {**GOOD, "output": 5}, {**GOOD, "output": ["a"]}, {**GOOD, "output": None},
                 {**GOOD, "instruction": True}, {**GOOD, "instruction": {"text": "q"}}),
           1, 5, "row 2: 'output' must be text, found the number 5"),
    faulty("empty texts.jsonl",
           lines(GOOD, {**GOOD, "output": ""}, {**GOOD, "output": " \n"}, {**GOOD, "instruction": ""}), 1, 3, "row 2"),
    faulty("other fields further down.jsonl", lines(GOOD, {"question": "q", "answer": "a"}), 1, 1, "no field"),
    faulty("a name with a space.jsonl", lines(GOOD, {"instruction ": "q", "output": "a"}), 1, 1, "no field"),
    faulty("rows and other values.jsonl", lines(GOOD, "text", 5, None, [GOOD]), 1, 4, "found a text"),
    refused("a page.json", b"<!DOCTYPE html><html><body>404</body></html>", "found '<'"),
    refused("a pointer.json", POINTER, "row 1"),
    refused("a pointer.parquet", POINTER, "parquet"),
    refused("a pickle.jsonl", pickle.dumps([GOOD]), "pickle"),
    refused("a PDF.txt", b"%PDF-1.7\n" + bytes(200), "a PDF"),
    refused("a database.csv", b"SQLite format 3\0" + bytes(200), "SQLite"),
    refused("a picture.jsonl", b"\x89PNG\r\n\x1a\n" + bytes(200), "a picture"),
    refused("bzip2.jsonl", bz2.compress(LINE), "bzip2"),
]  # fmt: skip

TABLES = [
    refused("only a header.csv", b"instruction,output\n", "no rows"),
    refused("a row too short.csv", CSV + b"q\n", "row 2"),
    refused("a row too long.csv", CSV + b"q,a,b\n", "row 2"),
    refused("a name twice.csv", b"instruction,output,output\nq,a,b\n", "name each column once"),
    refused("no name.csv", b"instruction,output,\nq,a,b\n", "name each column once"),
    refused("only commas.csv", b",,,\n,,,\n", "name each column once"),
    refused("blank lines.csv", b"\n\n\n", "name each column once"),
    refused("a quote that never closes.csv", CSV + b'q,"a\n' + b"q,a\n" * 50, "row 2"),
    refused("text after a quote.csv", CSV + b'q,"a"b\n', "row 2"),
    read("a quote inside.csv", CSV + b'q,a "b" c\n', 2),
    read("Windows.csv", CSV.replace(b"\n", b"\r\n"), 1),
    read("old Macintosh.csv", CSV.replace(b"\n", b"\r") + b"q,a\r", 2),
    read("semicolons.csv", b"instruction;output\nq;a\n", 1),
    read("tabs.csv", b"instruction\toutput\nq\ta\n", 1),
    read("line breaks inside.csv", b'instruction,output\n"q\nq","a\r\na"\n', 1),
    read("formulas.csv", b'instruction,output\n=1+1,"=HYPERLINK(""x"")"\n', 1),
    faulty("empty cells.csv", b"instruction,output\nq,a\nq,\n,a\n", 1, 2, "row 2"),
    refused("no header.csv", b"Who are you?,I am a model\nWhat?,That\n", "no row can be used"),
    refused("JSON.csv", LINE, "row"),
    refused("a table.jsonl", CSV, "row 1"),
    refused("no tabs.tsv", CSV, "no row can be used"),
]

STAMPS = pa.array([0, 1], pa.timestamp("us", "Asia/Tokyo"))
COLUMNAR = [
    faulty("nulls.parquet", parquet({"instruction": ["q", None], "output": ["a", None]}), 1, 1, "must not be null"),
    refused("nested lists.parquet", parquet({"instruction": [[["q"]]], "output": [[["a"]]]}), "must be text"),
    refused("no rows.parquet", parquet({"instruction": pa.array([], pa.string())}), "no rows"),
    refused("no columns.parquet", parquet({}), "no rows"),
    read("bytes.parquet", parquet({"instruction": [b"q"], "output": [b"a"]}), 1),
    refused("a picture.parquet", parquet({"instruction": [b"\xff\0"], "output": [b"a"]}), "no row can be used"),
    read("dates.parquet", parquet({"instruction": STAMPS, "output": STAMPS}), 2),
    read("dates beside.parquet", parquet({"instruction": ["q", "q"], "output": ["a", "a"], "at": STAMPS}), 2),
    read("a category.parquet", parquet({"instruction": pa.array(["q"]).dictionary_encode(), "output": ["a"]}), 1),
    read("not a number.parquet", parquet({"instruction": ["q"], "output": ["a"], "score": [float("nan")]}), 1),
    refused("bytes that are no text.parquet",
            parquet_of(pa.table({"instruction": pa.array([b"\xff\xfe"]).view(pa.string()), "output": ["a"]})), "UTF8"),
    refused("a name twice.parquet", arrow(pa.Table.from_arrays([pa.array(["q"])] * 2, ["output"] * 2)), "parquet"),
    refused("another kind.parquet", LINE * 100, "parquet"),
    refused("another kind.arrow", LINE * 100, "arrow"),
    refused("only its magic.parquet", b"PAR1PAR1", "parquet"),
    refused("a footer that lies.parquet", GOOD_FILES["parquet"][:-8] + b"\xff\xff\xff\x7fPAR1", "parquet"),
    refused("a hole.parquet", GOOD_FILES["parquet"][:4] + bytes(40) + GOOD_FILES["parquet"][44:], "parquet"),
    refused("a table.jsonl.parquet", GOOD_FILES["jsonl"], "parquet"),
    refused("parquet.jsonl", GOOD_FILES["parquet"], "parquet"),
    refused("parquet.arrow", GOOD_FILES["parquet"], "arrow"),
    refused("arrow.csv", GOOD_FILES["arrow"], "arrow"),
    read("a stream.arrow", arrow(TABLE, stream=True), 500),
    refused("a stream cut off.arrow", arrow(TABLE, stream=True)[:-400], "arrow"),
    refused("no batches.arrow", arrow(TABLE.slice(0, 0)), "no rows"),
    faulty("nulls.arrow", arrow(pa.table({"instruction": ["q", None], "output": ["a", "a"]})), 1, 1, "row 2"),
]  # fmt: skip

SHEETS = [
    refused("no cells.xlsx", sheet(), "name each column once"),
    refused("only a header.xlsx", sheet(("instruction", "output")), "no rows"),
    refused("no header.xlsx", sheet((1, 2), (3, 4)), "row"),
    refused("a name twice.xlsx", sheet(("output", "output"), ("q", "a")), "name each column once"),
    faulty("merged cells.xlsx",
           sheet(("instruction", "output"), ("q", "a"), ("q", "a"), change=lambda page: page.merge_cells("A2:A3")),
           1, 1, "row 2"),
    faulty("formulas.xlsx", sheet(("instruction", "output"), ("q", "a"), ("q", "=1+1")), 1, 1, "row 2"),
    read("numbers.xlsx", sheet(("instruction", "output"), ("q", "a"), ("q", 5)), 2),
    refused("no workbook.xlsx", rezipped(SHEET, "xl/workbook.xml", lambda xml: None), "xlsx"),
    refused("no sheet.xlsx", rezipped(SHEET, "xl/worksheets/sheet1.xml", lambda xml: None), "name each column once"),
    refused("a damaged sheet.xlsx", rezipped(SHEET, "xl/worksheets/sheet1.xml", lambda xml: xml[:-60]), "xlsx"),
    refused("entities that multiply.xlsx", rezipped(SHEET, "xl/worksheets/sheet1.xml", laughs), "xlsx"),
    refused("another zip.xlsx", rezipped(SHEET, "[Content_Types].xml", lambda xml: b"<Types/>"), "xlsx"),
    refused("an old Office file.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "old Office"),
    refused("text.xlsx", CSV, "xlsx"),
    refused("a sheet.csv", SHEET, "xlsx"),
]  # fmt: skip

PACKED = [
    read("two members.jsonl.gz", gzip.compress(LINE + b"\n") + gzip.compress(LINE), 2),
    read("two frames.jsonl.zst", zstandard.compress(LINE + b"\n") + zstandard.compress(LINE), 2),
    read("packed under a plain name.jsonl", gzip.compress(LINE), 1),
    read("plain under a packed name.jsonl.gz", LINE, 1),
    refused("nothing inside.jsonl.gz", gzip.compress(b""), "no rows"),
    refused("nothing inside.jsonl.zst", zstandard.compress(b""), "no rows"),
    refused("rubbish behind.jsonl.gz", gzip.compress(LINE + b"\n") + b"rubbish" * 9, "cannot be unpacked"),
    refused("a wrong checksum.jsonl.gz", gzip.compress(LINE)[:-8] + bytes(8), "cannot be unpacked"),
    refused("packed twice.jsonl.gz", gzip.compress(gzip.compress(LINE)), "gzip"),
    refused("only its magic.jsonl.gz", b"\x1f\x8b", "cannot be unpacked"),
    refused("only its magic.jsonl.zst", b"\x28\xb5\x2f\xfd", "zst"),
    refused("bytes behind its magic.jsonl.zst", b"\x28\xb5\x2f\xfd" + b"\xff" * 100, "zst"),
    refused("a table.gz", gzip.compress(CSV), "cannot read"),
    refused("an archive.tar.gz", gzip.compress(LINE), "cannot read"),
]

BOMBS = [
    refused("a bomb.jsonl.gz", gzip_bomb, "unpacks to more than"),
    refused("a bomb.jsonl.zst", zstd_bomb, "unpacks to more than"),
    refused("one line.jsonl.gz", gzip_line_bomb, "unpacks to more than"),
    refused("a bomb.xlsx", sheet_bomb, "unpacks to more than"),
    refused("a bomb.parquet", parquet_bomb, "unpacks to more than"),
    refused("a dictionary bomb.parquet", dictionary_bomb, "unpacks to more than"),
    refused("a dictionary in lists.arrow", nested_dictionary_bomb, "unpacks to more than"),
    refused("a dictionary in the pages.parquet", repeated_text, "unpacks to more than"),
]

CORPUS = [*ENCODINGS, *SIZES, *NESTS, *CHATS, *JSON, *TABLES, *COLUMNAR, *SHEETS, *PACKED]
