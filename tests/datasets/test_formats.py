import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.datasets.entry import FORMATTINGS, Entry, describe
from studio.datasets.formats import (
    FORMATS,
    SHAPES,
    Conversation,
    Feedback,
    Message,
    Misfit,
    Preference,
    Row,
    Text,
    ToolCall,
    chat,
    convert,
    shaped,
    to_record,
)
from studio.errors import RowError

ROLES = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
ALPACA = describe("a", "a.json", columns={"system": "system", "history": "history", "tools": "tools"})
SHAREGPT = describe("s", "s.json", "sharegpt", {"system": "system", "tools": "tools"})
OPENAI = describe("o", "o.json", "openai", {"tools": "tools"})
PAIRS = describe("p", "p.json", columns={"prompt": "instruction"}, ranking=True)
CHAT_PAIRS = describe("p", "p.json", "sharegpt", ranking=True)
JUDGED = describe("k", "k.json", "sharegpt", {"kto_tag": "label"})


def turns(*pairs: str) -> list[dict[str, str]]:
    return [{"from": role, "value": text} for role, _, text in (pair.partition(":") for pair in pairs)]


def said(messages: tuple[Message, ...]) -> list[str]:
    return [f"{message.role}:{message.content}" for message in messages]


def test_every_formatting_has_its_reader() -> None:
    assert set(FORMATS) == set(FORMATTINGS)


def test_alpaca() -> None:
    record = {
        "instruction": "Add", "input": "1 2", "output": "3", "system": "Be terse.", "history": [["hi", "hello"]],
    }  # fmt: skip
    row = convert(ALPACA, 1, record)
    assert isinstance(row, Conversation)
    assert said(row.messages) == ["system:Be terse.", "user:hi", "assistant:hello", "user:Add\n1 2", "assistant:3"]


@pytest.mark.parametrize("extra", [{}, {"input": ""}, {"input": None}, {"system": "", "history": [], "tools": ""}])
def test_alpaca_options_may_be_missing_or_empty(extra: dict[str, Any]) -> None:
    row = convert(ALPACA, 1, {"instruction": "q", "output": "a", **extra})
    assert row == Conversation((Message("user", "q"), Message("assistant", "a")))


def test_a_prompt_without_a_response_is_plain_text() -> None:
    for entry in (
        describe("t", "t.txt", columns={"prompt": "text"}),
        describe("t", "t.txt", columns={"prompt": "text", "response": None}),
    ):
        assert convert(entry, 1, {"text": "once upon"}) == Text("once upon")


def test_a_partial_mapping_still_finds_the_default_response() -> None:
    row = convert(describe("q", "q.json", columns={"prompt": "question"}), 1, {"question": "q", "output": "a"})
    assert isinstance(row, Conversation)


def test_sharegpt_with_tools() -> None:
    call = '{"name": "add", "arguments": {"a": 1}}'
    conversation = turns("system:S", "human:1+1?", f"function_call:{call}", "observation:2", "gpt:It is 2.")
    row = convert(SHAREGPT, 1, {"conversations": conversation, "tools": '[{"name": "add"}]', "system": "unused"})
    assert isinstance(row, Conversation)
    assert said(row.messages) == ["system:S", "user:1+1?", "assistant:", "tool:2", "assistant:It is 2."]
    assert row.messages[2].tool_calls == (ToolCall("add", '{"a": 1}'),)
    assert row.tools == '[{"name": "add"}]'
    assert chat(row.messages)[2] == {
        "role": "assistant", "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}],
    }  # fmt: skip


def test_the_system_column_stands_in_where_no_turn_is_one() -> None:
    record = {"conversations": turns("human:q", "gpt:a"), "system": "S"}
    row = convert(SHAREGPT, 1, record)
    assert isinstance(row, Conversation)
    assert said(row.messages)[0] == "system:S"


@pytest.mark.parametrize("system", [None, "", "Be terse."])
def test_openai_invents_no_system_prompt(system: str | None) -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    row = convert(OPENAI, 1, {"messages": messages})
    assert isinstance(row, Conversation)
    assert said(row.messages) == ([f"system:{system}"] if system else []) + ["user:q", "assistant:a"]


def test_openai_tool_calls_and_parts() -> None:
    function = {"name": "add", "arguments": '{"a": 1}'}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "1+"}, {"type": "text", "text": "1?"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "id": "1", "function": function}]},
        {"role": "tool", "content": "2"},
        {"role": "tool", "content": ""},
        {"role": "assistant", "content": "2"},
    ]
    row = convert(OPENAI, 1, {"messages": json.dumps(messages)})
    assert isinstance(row, Conversation)
    assert said(row.messages) == ["user:1+1?", "assistant:", "tool:2", "tool:", "assistant:2"]
    assert row.messages[1].tool_calls == (ToolCall("add", '{"a": 1}'),)


@pytest.mark.parametrize(
    ("entry", "record"),
    [
        (PAIRS, {"instruction": "q", "chosen": "good", "rejected": "bad"}),
        (CHAT_PAIRS, {"conversations": turns("human:q"), "chosen": turns("gpt:good")[0], "rejected": "bad"}),
        (CHAT_PAIRS, {"conversations": turns("human:q"), "chosen": "good", "rejected": "bad"}),
        (CHAT_PAIRS, {"chosen": turns("human:q", "gpt:good"), "rejected": turns("human:q", "gpt:bad")}),
        (CHAT_PAIRS, {"conversations": turns("human:q"), "chosen": turns("human:q", "gpt:good"), "rejected": "bad"}),
    ],
)  # fmt: skip
def test_preferences_in_every_form(entry: Entry, record: dict[str, Any]) -> None:
    good, bad = Message("assistant", "good"), Message("assistant", "bad")
    assert convert(entry, 1, record) == Preference((Message("user", "q"),), good, bad)


@pytest.mark.parametrize(("label", "good"), [(True, True), (False, False), ("True", True), ("false", False)])
def test_judgements(label: Any, good: bool) -> None:
    row = convert(JUDGED, 1, {"conversations": turns("human:q", "gpt:a"), "label": label})
    assert isinstance(row, Feedback)
    assert row.good is good


@pytest.mark.parametrize(
    ("entry", "record", "message"),
    [
        (ALPACA, {"output": "a"}, "has no field 'instruction'; its fields are output"),
        (ALPACA, {}, "has no field 'instruction'; its fields are none"),
        (ALPACA, {"instruction": None, "output": "a"}, "'instruction' must not be null"),
        (ALPACA, {"instruction": "q"}, "has no field 'output'; its fields are instruction"),
        (ALPACA, {"instruction": "q", "output": None}, "'output' must not be null"),
        (ALPACA, {"instruction": "q", "output": " \n"}, "'output' must not be empty"),
        (ALPACA, {"instruction": "", "input": " ", "output": "a"}, "'instruction' and 'input' must not be empty"),
        (ALPACA, {"instruction": ["q"], "output": "a"}, "'instruction' must be text, found the list [\"q\"]"),
        (ALPACA, {"instruction": "q", "output": 5}, "'output' must be text, found the number 5"),
        (ALPACA, {"instruction": "q", "input": {"x": 1}, "output": "a"}, "'input' must be text, found the object"),
        (ALPACA, {"instruction": "q", "output": "a", "system": 1}, "'system' must be text, found the number 1"),
        (ALPACA, {"instruction": "q", "output": "a", "history": "hi"}, "'history' must be a list of"),
        (ALPACA, {"instruction": "q", "output": "a", "history": [["a"]]}, "'history' pair 1 must be ["),
        (ALPACA, {"instruction": "q", "output": "a", "history": [["a", ""]]}, "'history' pair 1 must not hold"),
        (ALPACA, {"instruction": "q", "output": "a", "tools": "{"}, "'tools' must be JSON, found the text '{'"),
        (ALPACA, {"instruction": "q", "output": "a", "tools": "{}"}, "'tools' must be a JSON list"),
        (SHAREGPT, {"messages": []}, "has no field 'conversations'; its fields are messages"),
        (SHAREGPT, {"conversations": "hi"}, "'conversations' must be a list of turns, found the text 'hi'"),
        (SHAREGPT, {"conversations": []}, "'conversations' must not be empty"),
        (SHAREGPT, {"conversations": "[{broken"}, "looks like JSON but is damaged"),
        (SHAREGPT, {"conversations": ["hi"]}, "'conversations' turn 1: must be an object with 'from' and 'value'"),
        (SHAREGPT, {"conversations": [{"role": "user"}]}, "turn 1: 'from' must be one of human, gpt, observation"),
        (SHAREGPT, {"conversations": [{"from": ["human"]}]}, "turn 1: 'from' must be one of"),
        (SHAREGPT, {"conversations": turns("human:q", "bot:a")}, "turn 2: 'from' must be one of human, gpt"),
        (SHAREGPT, {"conversations": turns("human:q", "gpt: ")}, "turn 2: 'value' must not be empty"),
        (SHAREGPT, {"conversations": [*turns("human:q"), {"from": "gpt", "value": None}]}, "found null"),
        (SHAREGPT, {"conversations": turns("gpt:a")}, "turn 1 is assistant; first there must be system or user"),
        (SHAREGPT, {"conversations": turns("human:q", "human:q")}, "turn 2 is user; after user there must be"),
        (SHAREGPT, {"conversations": turns("human:q", "gpt:a", "gpt:a")}, "turn 3 is assistant; after assistant"),
        (SHAREGPT, {"conversations": turns("human:q", "gpt:a", "human:q")}, "the last turn is user; it must be"),
        (SHAREGPT, {"conversations": turns("human:q", "gpt:a", "system:s")}, "turn 3 is system"),
        (SHAREGPT, {"conversations": turns("system:s")}, "the last turn is system"),
        (SHAREGPT, {"conversations": turns("human:q", "function_call:x")}, "turn 2: 'value' must be JSON"),
        (SHAREGPT, {"conversations": turns("human:q", "function_call:{}")}, "turn 2: a tool call must be"),
        (OPENAI, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "only parts of type text"),
        (OPENAI, {"messages": [{"role": "user", "content": "q"}, {"role": "assistant"}]}, "found null"),
        (PAIRS, {"instruction": "q", "chosen": "same", "rejected": "same"}, "nothing to prefer"),
        (PAIRS, {"instruction": "q", "chosen": "good"}, "has no field 'rejected'"),
        (CHAT_PAIRS, {"chosen": "a", "rejected": "b"}, "has no field 'conversations'"),
        (CHAT_PAIRS, {"chosen": turns("human:q", "gpt:a"), "rejected": turns("human:p", "gpt:b")}, "same prompt"),
        (CHAT_PAIRS, {"chosen": turns("human:q"), "rejected": "b"}, "'chosen' must end with an assistant turn"),
        (CHAT_PAIRS, {"conversations": turns("human:q", "gpt:a"), "chosen": "b", "rejected": "c"}, "turn 3 is"),
        (JUDGED, {"conversations": turns("human:q", "gpt:a"), "label": 1}, "must be true or false, found the number"),
        (JUDGED, {"conversations": turns("human:q", "gpt:a")}, "has no field 'label'"),
    ],
)  # fmt: skip
def test_a_misfit_names_field_find_and_expectation(entry: Entry, record: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError) as raised:
        convert(entry, 7, record)
    assert str(raised.value).startswith("row 7: ")
    assert message in str(raised.value)


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(RowError) as raised:
        convert(ALPACA, 1, {"instruction": ["x" * 10_000], "output": "a"})
    assert len(str(raised.value)) < 200


def test_a_deep_value_is_no_traceback() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(RowError, match="nested too deeply"):
        convert(ALPACA, 1, {"instruction": deep, "output": "a"})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(["human", "gpt", "user", "[{"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["from", "value", "role", "content", "tool_calls", "x"]), inner, max_size=3)
    ),
    max_leaves=10,
)
FIELDS = [
    "instruction",
    "input",
    "output",
    "system",
    "history",
    "tools",
    "conversations",
    "messages",
    "chosen",
    "label",
]


@given(
    st.sampled_from([ALPACA, SHAREGPT, OPENAI, PAIRS, CHAT_PAIRS, JUDGED]),
    st.dictionaries(st.sampled_from(FIELDS), VALUES),
)
def test_any_record_converts_or_is_a_row_error(entry: Entry, record: dict[str, Any]) -> None:
    with suppress(RowError):
        row = convert(entry, 1, record)
        assert not isinstance(row, Conversation) or row.messages[-1].role == "assistant"


# --- written back -------------------------------------------------------------------------------------------------

SPOKEN = st.text(min_size=1, max_size=30).filter(str.strip)
ARGUMENTS = st.dictionaries(st.text(max_size=4), st.text(max_size=4) | st.integers(), max_size=2).map(
    lambda arguments: json.dumps(arguments, ensure_ascii=False)
)
CALLS = st.lists(st.builds(ToolCall, st.text(min_size=1, max_size=5), ARGUMENTS), min_size=1, max_size=2).map(tuple)
ASKED = st.builds(Message, st.just("user"), SPOKEN)
ANSWERED = st.builds(Message, st.just("assistant"), SPOKEN)
CALLED = st.builds(lambda calls: Message("assistant", "", calls), CALLS)
OBSERVED = st.builds(Message, st.just("tool"), st.text(max_size=10))
EXCHANGE = st.tuples(ASKED, ANSWERED) | st.tuples(ASKED, CALLED, OBSERVED, ANSWERED)
SYSTEM = st.just(()) | st.tuples(st.builds(Message, st.just("system"), SPOKEN))
TURNS = st.builds(
    lambda system, exchanges: system + tuple(turn for exchange in exchanges for turn in exchange),
    SYSTEM,
    st.lists(EXCHANGE, min_size=1, max_size=3),
)
TOOLS_TEXT = st.none() | st.just('[{"name": "add"}]')
VALUES = (
    st.builds(Conversation, TURNS, TOOLS_TEXT)
    | st.builds(Feedback, TURNS, st.booleans(), TOOLS_TEXT)
    | st.builds(Text, SPOKEN)
    | st.builds(
        lambda turns, better, worse, tools: Preference(turns[:-1], better, worse, tools),
        TURNS, ANSWERED, ANSWERED, TOOLS_TEXT,
    ).filter(lambda value: value.chosen != value.rejected)
)  # fmt: skip


@given(VALUES, st.sampled_from(sorted(SHAPES)))
def test_what_a_shape_can_hold_comes_back_as_it_was(value: Row, shape: str) -> None:
    try:
        record = to_record(shape, value)
    except Misfit:
        return
    entry = shaped("it", shape, type(value))
    assert convert(entry, 1, record) == value
    # also as a cell of a table, where lists and objects are JSON text
    cells = {name: cell if isinstance(cell, str) else json.dumps(cell) for name, cell in record.items()}
    assert convert(entry, 1, cells) == value


@pytest.mark.parametrize(
    ("shape", "value", "reason"),
    [
        ("alpaca", Text("x"), "it is plain text"),
        ("openai", Text("x"), "it is plain text"),
        ("text", Conversation((Message("user", "q"), Message("assistant", "a"))), "it is a conversation"),
        ("prompt_completion",
         Conversation(tuple(Message(role, "x") for role in ("user", "assistant") * 2)), "it has earlier turns"),
        ("alpaca", Conversation((Message("user", "q"), Message("assistant", "", (ToolCall("f", "{}"),)))),
         "it calls tools"),
        ("sharegpt", Conversation((Message("user", "q"), Message("assistant", "a", (ToolCall("f", "{}"),)))),
         "one answer both speaks and calls tools"),
    ],
)  # fmt: skip
def test_what_a_shape_has_no_place_for_is_said(shape: str, value: Row, reason: str) -> None:
    with pytest.raises(Misfit, match=reason):
        to_record(shape, value)


def test_records_look_as_their_readers_expect() -> None:
    turns = (Message("system", "s"), Message("user", "q"), Message("assistant", "a"))
    assert to_record("alpaca", Feedback(turns, False)) == {
        "instruction": "q", "input": "", "output": "a", "kto_tag": False, "system": "s",
    }  # fmt: skip
    assert to_record("prompt_completion", Preference(turns[1:2], turns[2], Message("assistant", "b"))) == {
        "prompt": "q", "chosen": "a", "rejected": "b",
    }  # fmt: skip
    called = (Message("user", "q"), Message("assistant", "", (ToolCall("f", '{"x": 1}'),)))
    assert to_record("openai", Conversation(called, "[1]")) == {
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "", "tool_calls": [
                {"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]},
        ],
        "tools": "[1]",
    }  # fmt: skip
    assert to_record("sharegpt", Conversation(called)) == {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
        ],
    }  # fmt: skip


@pytest.mark.parametrize("system", [None, "", "  ", "Be terse."])
@pytest.mark.parametrize("formatting", FORMATTINGS)
def test_no_system_prompt_is_ever_invented(formatting: str, system: str | None) -> None:
    """LLaMA-Factory writes "detailed thinking off" into every system prompt of its openai formatting."""
    entry = describe("it", "it.json", formatting, {"system": "system"})
    record: dict[str, Any] = {
        "alpaca": {"instruction": "q", "output": "a"},
        "sharegpt": {"conversations": turns("human:q", "gpt:a")},
        "openai": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    }[formatting]
    row = convert(entry, 1, {**record, "system": system})
    assert isinstance(row, Conversation)
    kept = [f"system:{system}"] if system and system.strip() else []
    assert said(row.messages) == [*kept, "user:q", "assistant:a"]
    if formatting != "alpaca":
        (name,) = record
        inner = {"from": "system", "value": ""} if formatting == "sharegpt" else {"role": "system", "content": ""}
        row = convert(entry, 1, {name: [inner, *record[name]]})
        assert said(row.messages) == ["user:q", "assistant:a"]  # type: ignore[union-attr]


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [50, 150, 990, 100_000])
def test_deep_nesting_is_an_error_of_the_row(depth: int) -> None:
    deep = nested(depth)
    for entry, record in (
        (ALPACA, {"instruction": deep, "output": "a"}),
        (ALPACA, {"instruction": "q", "output": "a", "history": deep}),
        (ALPACA, {"instruction": "q", "output": deep}),
        (SHAREGPT, {"conversations": deep}),
        (SHAREGPT, {"conversations": turns("human:q", "gpt:a"), "tools": [deep]}),
        (OPENAI, {"messages": [{"role": "user", "content": deep}]}),
        (OPENAI, {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [
            {"function": {"name": "f", "arguments": {"x": deep}}}]}]}),
        (OPENAI, {"messages": [{"role": deep, "content": "q"}]}),
    ):  # fmt: skip
        try:
            row = convert(entry, 1, record)
        except RowError:
            continue
        # what is let through can be rendered
        assert depth == 50
        assert isinstance(row, Conversation)
        chat(row.messages)
