import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench._conversations import write_conversations
from studio.datasets import reading
from studio.datasets.checks import Finding, Report, check, survey
from studio.datasets.entry import Entry, describe
from studio.errors import Cancelled, UploadError

Write = Callable[[str, Any], Path]
GOOD = {"instruction": "q", "output": "a"}


def rows(count: int) -> list[Any]:
    """Good rows, all different."""
    return [{"instruction": f"q{number}", "output": f"a{number}"} for number in range(count)]


def finding(report: Report, code: str) -> Finding:
    return {each.code: each for each in report.findings}[code]


def test_a_good_file(write: Write) -> None:
    report = check(write("a.jsonl", rows(3)))
    assert (report.rows, report.usable, report.shape, report.fatal) == (3, 3, "conversation", "")
    assert report.summary() == "3 rows, 3 usable"


def test_faulty_rows_are_counted_and_listed(write: Write) -> None:
    bad = {"instruction": "q", "output": ""}
    report = check(write("a.jsonl", rows(40) + [bad] * 30), describe("a", "a.jsonl"))
    assert (report.rows, report.usable, report.left_out, report.fatal) == (70, 40, 30, "")
    (finding,) = [finding for finding in report.findings if finding.code == "empty_field"]
    assert (finding.count, finding.rows, finding.repair) == (30, tuple(range(41, 61)), "drop_faulty")
    assert finding.examples[0] == "row 41: 'output' must not be empty"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"instruction": "q", "output": "a"}\n{"instr\n', "row 2 cannot be read: line 2, column 2"),
        ("a.json", '[{"instruction": "q", "output": "a"}, {"instr]', "row 2 cannot be read: line 1, column 40"),
        ("a.csv", "instruction,output\nq,a\nq\n", "row 2 cannot be read: (line 3) has 1 fields"),
        ("a.json", "[]", "the file has no rows"),
        ("a.csv", "instruction,output\n", "the file has no rows"),
        ("a.jsonl", '{"instruction": "q"}\n', "no row can be used"),
    ],
)
def test_what_is_fatal(name: str, content: str, said: str, write: Write) -> None:
    report = check(write(name, content), describe("a", name))
    assert said in report.fatal
    assert said in report.summary()


def chat(*turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in turns], **more}


def ranked(chosen: Any, rejected: Any, prompt: str = "q") -> dict[str, Any]:
    return {"instruction": prompt, "chosen": chosen, "rejected": rejected}


ALPACA = describe("a", "a.jsonl", columns={"history": "history", "tools": "tools"})
CHAT = describe("a", "a.jsonl", "openai", columns={"tools": "tools"})
RANKED = describe("a", "a.jsonl", ranking=True)
RANKED_CHAT = describe("a", "a.jsonl", "openai", ranking=True)
KTO = describe("a", "a.jsonl", columns={"kto_tag": "label"})
FINE = {
    id(ALPACA): rows(2),
    id(CHAT): [chat(("user", f"q{number}"), ("assistant", f"a{number}")) for number in range(2)],
    id(RANKED): [ranked(f"a{number}", f"b{number}") for number in range(2)],
    id(RANKED_CHAT): [
        chat(("user", f"q{number}"), chosen={"role": "assistant", "content": "a"}, rejected="b") for number in range(2)
    ],
}


@pytest.mark.parametrize(
    ("entry", "bad", "code", "example"),
    [
        (ALPACA, {"instruction": "q"}, "missing_field", "has no field 'output'; its fields are instruction"),
        (ALPACA, {"instruction": "q", "output": None}, "missing_field", "'output' must not be null"),
        (ALPACA, {"instruction": " ", "output": "a"}, "empty_field", "'instruction' must not be empty"),
        (ALPACA, {"instruction": "q", "output": 5}, "wrong_type", "'output' must be text, found the number 5"),
        (ALPACA, {**GOOD, "history": [["q", ""]]}, "empty_turn", "'history' pair 1 must not hold an empty text"),
        (ALPACA, {**GOOD, "history": "[[oh"}, "bad_json", "'history' looks like JSON but is damaged"),
        (ALPACA, {**GOOD, "tools": "{}"}, "bad_tools", "'tools' must be a JSON list of tools"),
        (CHAT, chat(("user", "q"), ("assistant", "")), "empty_turn", "turn 2: 'content' must not be empty"),
        (CHAT, chat(("user", "q"), ("robot", "a")), "wrong_role", "'role' must be one of"),
        (CHAT, chat(("user", "q"), ("user", "r"), ("assistant", "a")), "role_order", "turn 2 is user; after user"),
        (CHAT, chat(("user", "q"), ("assistant", "a"), ("user", "r")), "no_answer", "the last turn is user"),
        (CHAT, {"messages": []}, "empty_field", "'messages' must not be empty"),
        (RANKED, ranked("a", "a"), "same_answers", "the chosen and the rejected answer are the same"),
        (RANKED_CHAT, {"chosen": chat(("user", "q"), ("assistant", "a"))["messages"],
                       "rejected": chat(("user", "r"), ("assistant", "b"))["messages"]},
         "different_prompts", "must both begin with the same prompt"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used_is_counted_under_its_kind(
    entry: Entry, bad: dict[str, Any], code: str, example: str, write: Write
) -> None:
    good = FINE[id(entry)]
    report = check(write("a.jsonl", [*good, bad, bad]), entry)
    found = finding(report, code)
    assert (found.count, found.rows, found.severity) == (2, (3, 4), "warning")
    assert found.examples[0].startswith("row 3: ")
    assert example in found.examples[0]
    assert (report.rows, report.usable, report.fatal) == (4, 2, "")


@pytest.mark.parametrize(
    ("text", "code", "severity"),
    [
        ("lost \ufffd\ufffd", "damaged_text", "warning"),
        ("cafÃ© au lait", "mojibake", "warning"),
        ("bell \x07", "control_characters", "warning"),
        ("zero\u200bwidth", "invisible_characters", "info"),
        ("ends <|im_end|> here", "special_tokens", "warning"),
        ("I am {{name}}", "name_placeholder", "info"),
        ("Ask {{author}}", "author_placeholder", "info"),
        ("Welcome to {{ city }}", "placeholder", "info"),
        ("a<br>b", "html", "info"),
        (" a padded answer\n", "padded_answer", "info"),
        ("long " * 30_000, "long_row", "info"),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_a_text_that_is_odd(text: str, code: str, severity: str, suffix: str, write: Write) -> None:
    odd = [*rows(5), {"instruction": "q", "output": text}]
    path = write(f"a.{suffix}", [*odd, {"instruction": "r", "output": text}])
    found = finding(check(path, ALPACA), code)
    assert (found.count, found.rows, found.severity) == (2, (6, 7), severity)
    assert found.examples[0].startswith("row 6: ")


def test_odd_texts_are_found_in_every_shape(write: Write) -> None:
    token = "<|endoftext|>"
    turns = [("user", token), ("assistant", "a")]
    for entry, row in (
        (CHAT, chat(*turns)),
        (RANKED, ranked("a", token)),
        (KTO, {**GOOD, "output": token, "label": True}),
        (describe("a", "a.jsonl", columns={"prompt": "text", "response": None}), {"text": token}),
        (CHAT, chat(("system", token), ("user", "q"), ("assistant", "a"))),
    ):
        assert finding(check(write("a.jsonl", [row]), entry), "special_tokens").rows == (1,)


def test_space_around_questions_is_no_finding(write: Write) -> None:
    report = check(write("a.jsonl", [{"instruction": " q ", "output": "a"}]), ALPACA)
    assert report.findings == ()


def test_a_row_of_another_shape_is_left_out(write: Write) -> None:
    entry = describe("a", "a.jsonl", columns={"prompt": "text"})
    report = check(write("a.jsonl", [{"text": "long ago"}, {"text": "q", "output": "a"}]), entry)
    assert (report.shape, report.usable) == ("text", 1)
    assert "is a conversation, while the rows before" in finding(report, "mixed_shapes").examples[0]


def test_rows_that_repeat_a_row_are_counted_whatever_else_they_hold(write: Write) -> None:
    once = {"instruction": "q", "input": "", "output": "a"}
    report = check(write("a.jsonl", [once, *rows(3), {**once, "id": 7}, {"output": "a", "instruction": "q"}]), ALPACA)
    found = finding(report, "duplicate_rows")
    assert (found.count, found.rows, found.repair) == (2, (5, 6), "drop_duplicates")
    assert found.examples == ("row 5 repeats row 1", "row 6 repeats row 1")


def test_rows_at_fault_repeat_nothing(write: Write) -> None:
    report = check(write("a.jsonl", [{"instruction": ""}, {"instruction": ""}, *rows(1)]), ALPACA)
    assert [found.code for found in report.findings] == ["empty_field"]


def test_the_same_roles_and_texts_in_another_order_are_no_repetition(write: Write) -> None:
    report = check(write("a.jsonl", [ranked("a", "b"), ranked("b", "a")]), RANKED)
    assert report.findings == ()


@pytest.mark.parametrize(("labels", "said"), [([True, True], "good"), ([False, False], "bad"), ([True, False], "")])
def test_answers_that_are_all_judged_the_same(labels: list[bool], said: str, write: Write) -> None:
    judged = [{**row, "label": label} for row, label in zip(rows(2), labels, strict=True)]
    report = check(write("a.jsonl", judged), KTO)
    assert [found.examples for found in report.findings] == ([(f"every answer is judged {said}",)] if said else [])


def test_an_answer_that_many_rows_share(write: Write) -> None:
    long = "I am sorry, but as a language model I cannot do that."
    same = [{"instruction": f"r{number}", "output": long} for number in range(10)]
    assert finding(check(write("a.jsonl", rows(5) + same), ALPACA), "repeated_answer").rows == tuple(range(6, 16))
    tools = [{**row, "tools": json.dumps([{"name": "a_tool_that_every_row_has"}])} for row in rows(20)]
    assert check(write("c.jsonl", tools), ALPACA).findings == ()
    labels = [{"instruction": f"r{number}", "output": "positive"} for number in range(50)]
    assert check(write("b.jsonl", labels), ALPACA).findings == ()


def test_fields_named_twice(write: Write) -> None:
    lines = '{"instruction": "q", "output": "a"}\n{"instruction": "q", "output": "b", "output": "c"}\n'
    found = finding(check(write("a.jsonl", lines), ALPACA), "duplicate_keys")
    assert (found.rows, found.examples) == ((2,), ("row 2: 'output'",))


def test_numbers_that_json_does_not_have_are_fatal(write: Write) -> None:
    report = check(write("a.jsonl", '{"instruction": "q", "output": "a", "score": NaN}\n'), ALPACA)
    assert finding(report, "nan_literal").severity == "fatal"
    assert "NaN is not JSON" in report.fatal


def test_columns_that_are_not_used_are_named(write: Write) -> None:
    report = check(write("a.jsonl", [GOOD, {**GOOD, "system": "S", "id": 1}]), describe("a", "a.jsonl"))
    assert report.ignored == ("system", "id")
    assert "Columns that are not used: 2" in report.summary()


def test_columns_nobody_can_tell_are_asked_about(write: Write) -> None:
    with pytest.raises(UploadError, match=r"not sure what its columns mean.*Say which column is which"):
        check(write("a.jsonl", [{"foo": "x", "bar": "y", "baz": "z"}]))


def test_progress_is_told_in_bytes_and_cancelling_ends_it(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.datasets.pace.TOLD_S", 0)
    path = write("a.jsonl", rows(200))
    told: list[tuple[int, int]] = []
    survey(path, ALPACA, progress=lambda *done: told.append(done))
    assert told == sorted(told)
    assert {total for _, total in told} == {path.stat().st_size}
    assert 0 < told[0][0] < told[-1][0] <= path.stat().st_size
    with pytest.raises(Cancelled):
        survey(path, ALPACA, cancelled=lambda: True)


def test_only_the_head_is_checked_on_request(write: Write) -> None:
    report, index = survey(write("a.jsonl", rows(1000)), ALPACA, head_bytes=1000)
    assert report.rows == index.rows == report.usable
    assert 20 < report.rows < 40


def test_the_index_comes_with_it(write: Write) -> None:
    path = write("a.jsonl", rows(3000))
    index = survey(path, ALPACA)[1]
    start = index.before(2500)
    assert index.rows == 3000
    assert 1000 < start.row <= 2500
    assert next(reading.rows(path, start)) == (start, rows(3000)[start.row - 1])


def test_a_folder_is_checked_as_one_set(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(2):
        lines = [json.dumps(row) for row in (*rows(2), {"instruction": "", "output": f"{number}"})]
        (folder / f"{number}.jsonl").write_text("\n".join(lines))
    report = check(folder, ALPACA)
    assert (report.rows, report.usable) == (6, 4)
    assert finding(report, "empty_field").rows == (3, 6)
    assert finding(report, "duplicate_rows").rows == (4, 5)


PUBLIC_ROWS = {
    "alpaca_en_demo.json": (999, 999),
    "alpaca_zh_demo.json": (1000, 1000),
    "dpo_en_demo.json": (300, 300),
    "glaive_toolcall_en_demo.json": (300, 300),
    "identity.json": (91, 91),
    "kto_en_demo.json": (300, 300),
    "wiki_demo.txt": (30, 30),
}


def test_the_public_files_are_checked(public_data: Path) -> None:
    """What the demo files of LLaMA-Factory show: all rows can be used, and a few things are worth a look."""
    found = {name: check(public_data / name) for name in PUBLIC_ROWS}
    assert {name: (report.rows, report.usable) for name, report in found.items()} == PUBLIC_ROWS
    assert [name for name, report in found.items() if report.fatal] == []
    assert finding(found["identity.json"], "name_placeholder").count > 50
    assert finding(found["identity.json"], "author_placeholder").count > 50
    assert finding(found["dpo_en_demo.json"], "mojibake").rows == (16,)
    assert finding(found["kto_en_demo.json"], "special_tokens").rows == (140, 258)
    assert finding(found["glaive_toolcall_en_demo.json"], "duplicate_rows").rows[0] == 7


def test_memory_and_the_usual_rows_stay_small(tmp_path: Path) -> None:
    """100,000 rows of 1 kB, checked in a process of its own."""
    path = tmp_path / "big.jsonl"
    write_conversations(path, 100_000)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    rows_checked, above_idle_mb = done.stdout.split()
    assert int(rows_checked) == 100_000
    assert float(above_idle_mb) < 40


ROOT = Path(__file__).parents[3]
CHILD = """
import sys
from pathlib import Path
from studio.datasets.checks import survey
from studio.datasets.entry import describe

def peak_mb(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024

idle = peak_mb("VmRSS")
report, _ = survey(Path(sys.argv[1]), describe("a", "a.jsonl", "openai"))
print(report.usable, peak_mb("VmHWM") - idle)
"""
