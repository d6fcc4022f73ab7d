"""The resident process that shows rows as tokens, asked as the studio asks it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from studio.datasets.formats import Conversation, Feedback, Message, Preference, Row, Text, ToolCall
from studio.datasets.inspector import Inspector, row_from_json, row_to_json
from studio.datasets.masking import Masking, MaskView
from studio.errors import DatasetError, ModelError, RowError
from studio.settings import ROOT

HELLO = Conversation((Message("user", "Hi"), Message("assistant", "Hello 你好 🌱")))
CALL = Message("assistant", "", (ToolCall("add", '{"a": 1}'),))
VALUES: list[Row] = [
    HELLO,
    Conversation((Message("user", "1+1"), CALL, Message("tool", "2"), Message("assistant", "2")), tools="[]"),
    Text("Once."),
    Preference((Message("user", "Hi"),), Message("assistant", "Hello"), Message("assistant", "No")),
    Feedback((Message("user", "Hi"), Message("assistant", "Hello")), good=False),
]


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    inspector = Inspector()
    yield inspector
    inspector.close()


def processes() -> list[psutil.Process]:
    """The resident processes below this one."""
    return [child for child in psutil.Process().children() if "studio.worker.inspector" in child.cmdline()]


def texts(view: MaskView) -> list[str]:
    return ["".join(piece.text for piece in segment.pieces) for segment in view.segments]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_rows_go_over_and_come_back(value: Row) -> None:
    assert row_from_json(row_to_json(value)) == value


def test_a_row_whose_call_the_template_leaves_out_says_so_instead_of_an_empty_answer(inspector: Inspector) -> None:
    with pytest.raises(RowError, match=r"^row 3: the model's chat template leaves out its call of add: choose a model"):
        inspector.mask("seedling", VALUES[1], Masking(512), number=3)


def test_a_named_template_and_its_mode_of_thinking_are_what_is_shown(inspector: Inspector) -> None:
    asked = Masking(512, template="qwen3", enable_thinking=False)
    text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nHello 你好 🌱<|im_end|>\n"
    [segment] = inspector.mask("seedling", HELLO, asked).segments
    assert "".join(piece.text for piece in segment.pieces) == text
    trained = "".join(piece.text for piece in segment.pieces if piece.trained)
    assert trained == "Hello 你好 🌱<|im_end|>"
    assert texts(inspector.mask("seedling", HELLO, Masking(512)))[0] == text.replace("<think>\n\n</think>\n\n", "")


def test_a_row_is_shown_token_by_token(inspector: Inspector) -> None:
    view = inspector.mask("seedling", HELLO, Masking(512))
    assert texts(view) == ["<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello 你好 🌱<|im_end|>\n"]
    learnt = "".join(piece.text for piece in view.segments[0].pieces if piece.trained)
    assert learnt == "Hello 你好 🌱<|im_end|>"


def test_both_answers_of_a_preference_are_shown(inspector: Inspector) -> None:
    view = inspector.mask("seedling", VALUES[3], Masking(512))
    assert [segment.label for segment in view.segments] == ["chosen", "rejected"]


def test_what_cannot_be_shown_has_a_reason(inspector: Inspector, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="absent is not a folder"):
        inspector.mask(str(tmp_path / "absent"), HELLO, Masking(512))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="damaged tokenizer"):
        inspector.mask(str(tmp_path), HELLO, Masking(512))
    with pytest.raises(RowError, match=r"^row 9: its tools are not valid JSON"):
        inspector.mask("seedling", Conversation(HELLO.messages, tools="[{"), Masking(512), number=9)
    assert inspector.mask("seedling", HELLO, Masking(512)).segments


def test_a_killed_process_is_replaced(inspector: Inspector) -> None:
    expected = inspector.mask("seedling", HELLO, Masking(512))
    [before] = processes()
    before.send_signal(signal.SIGKILL)
    assert inspector.mask("seedling", HELLO, Masking(512)) == expected
    [after] = processes()
    assert after.pid != before.pid


def test_many_ask_at_once(inspector: Inspector) -> None:
    found: dict[int, list[str]] = {}

    def ask(number: int) -> None:
        value = Conversation((Message("user", str(number)), Message("assistant", "yes")))
        found[number] = texts(inspector.mask("seedling", value, Masking(512)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(f"user\n{number}<|im_end|>" in found[number][0] for number in range(8))
    assert len(processes()) == 1


def test_no_answer_in_time_is_an_error_and_the_next_question_is_answered(inspector: Inspector) -> None:
    inspector.mask("seedling", HELLO, Masking(512))
    [process] = processes()
    process.suspend()
    hasty = Inspector(timeout_s=0.2)
    hasty._process, inspector._process = inspector._process, None
    with pytest.raises(DatasetError, match=r"did not answer within"):
        hasty.mask("seedling", HELLO, Masking(512))
    assert not processes()
    assert inspector.mask("seedling", HELLO, Masking(512)).segments


def test_a_tokenizer_that_changed_is_loaded_again(inspector: Inspector, tmp_path: Path) -> None:
    for path in (ROOT / "studio/assets/seedling").glob("*token*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}|{% endfor %}")
    assert texts(inspector.mask(str(tmp_path), HELLO, Masking(512)))[0].startswith("Hi|")
    (tmp_path / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}/ {% endfor %}")
    assert texts(inspector.mask(str(tmp_path), HELLO, Masking(512)))[0].startswith("Hi/ ")


def test_it_ends_with_the_studio() -> None:
    program = (
        "from studio.datasets.inspector import *; from studio.datasets.formats import *; import time, sys;"
        "i = Inspector(); i.mask('seedling', Text('a'), Masking(9)); print(i._process.pid, flush=True); time.sleep(60)"
    )
    studio = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert studio.stdout is not None
    resident = psutil.Process(int(studio.stdout.readline()))
    os.kill(studio.pid, signal.SIGKILL)
    studio.wait()
    deadline = time.monotonic() + 5
    while resident.is_running() and resident.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_leaves_when_nothing_is_asked() -> None:
    program = "from studio.worker import inspector; inspector.IDLE_S = 0.3; inspector.main()"
    idle = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE)
    try:
        assert idle.wait(20) == 0
    finally:
        idle.kill()


def test_it_holds_no_torch(inspector: Inspector) -> None:
    inspector.mask("seedling", HELLO, Masking(512))
    [process] = processes()
    assert not [mapped.path for mapped in process.memory_maps() if "libtorch" in mapped.path]
