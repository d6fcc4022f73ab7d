"""Which tokens are trained, compared with what the templates and the tokenizer say of each piece alone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from studio.datasets.formats import Conversation, Feedback, Message, Preference, Row, Text, ToolCall
from studio.datasets.loading import load
from studio.datasets.masking import Masking
from studio.datasets.registry import Registry
from studio.errors import ModelError, RowError
from studio.models import resolve
from studio.worker.columns import COLUMNS
from studio.worker.encode import BATCH_ROWS, IGNORED, _render, encode, explain, sequences
from studio.worker.rendering import Renderer
from tests.worker.conftest import CHATML, TEXT, UNMARKED

SHARED = Path(__file__).resolve().parents[3] / "shared/data/llamafactory"
TWO_TURNS = (
    ("user", "Who are you?"),
    ("assistant", "I am Sprout, made by Ada."),
    ("user", "你是谁？"),
    ("assistant", "我是小芽。\n\n  很高兴\n"),
)
# drops what the assistant thought in earlier turns, as reasoning models' templates do
FORGETFUL = UNMARKED.replace(
    "message['content'] + '<|im_end|>' }}\n{{- '\\n'",
    "(message['content'] if loop.last else message['content'].split('</think>')[-1]) + '<|im_end|>' }}\n{{- '\\n'",
)
ENDLESS = CHATML.replace(
    "message['content'] + '<|im_end|>' }}\n{%- endgeneration %}",
    "message['content'] }}\n{%- endgeneration %}{{- '<|im_end|>' }}",
)

# shows tools and calls, as Qwen 2.5 does
TOOLED = (
    """\
{%- if tools %}
{{- '<|im_start|>system\\nTools: ' + tools | tojson + '<|im_end|>\\n' }}
{%- endif %}
"""
    + CHATML
).replace(
    "{%- generation %}\n{{- message['content'] +",
    "{%- generation %}\n{{- message['content'] + (message['tool_calls'] | tojson if message['tool_calls'] else '') +",
)


@pytest.fixture
def tokenizer(tokenizer_dir: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tokenizer_dir)


@pytest.fixture(scope="module")
def metaspace() -> PreTrainedTokenizerBase:
    """A Unigram tokenizer in the manner of SentencePiece: unknown characters, and white space that is folded."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    unigram = Tokenizer(models.Unigram())
    unigram.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Metaspace()
    special = ["<unk>", "<|im_start|>", "<|im_end|>"]
    unigram.train_from_iterator(
        TEXT * 3, trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>")
    )
    return PreTrainedTokenizerFast(tokenizer_object=unigram, eos_token="<|im_end|>", unk_token="<unk>")


def conversation(*turns: tuple[str, str], tools: str | None = None) -> tuple[int, Conversation]:
    return 7, Conversation(tuple(Message(role, content) for role, content in turns), tools)


def trained(tokenizer: PreTrainedTokenizerBase, row: Any) -> list[str]:
    """The runs of trained tokens, as text."""
    pieces: list[list[int]] = [[]]
    for label in row.labels:
        if label == IGNORED:
            pieces.append([])
        else:
            pieces[-1].append(label)
    return [tokenizer.decode(piece) for piece in pieces if piece]


@pytest.mark.parametrize("template", [CHATML, UNMARKED, ENDLESS], ids=["marked", "unmarked", "end outside marks"])
def test_answers_are_trained_with_their_end(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    tokenizer.chat_template = template
    [row] = encode([conversation(*TWO_TURNS)], tokenizer, Masking(512))
    assert trained(tokenizer, row) == [
        "I am Sprout, made by Ada.<|im_end|>",
        "我是小芽。\n\n  很高兴\n<|im_end|>",
    ]
    assert tokenizer.decode(row.input_ids).startswith(
        "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\nI am"
    )


def test_tokens_are_those_of_the_template_itself(tokenizer: PreTrainedTokenizerBase) -> None:
    turns = [{"role": role, "content": content} for role, content in TWO_TURNS]
    expected = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    [row] = encode([conversation(*TWO_TURNS)], tokenizer, Masking(512))
    assert row.input_ids == expected["input_ids"]
    mask = [int(label != IGNORED) for label in row.labels]
    assert mask == expected["assistant_masks"]


def test_only_the_last_answer_with_masked_history(tokenizer: PreTrainedTokenizerBase) -> None:
    for template in (CHATML, UNMARKED):
        tokenizer.chat_template = template
        [row] = encode([conversation(*TWO_TURNS)], tokenizer, Masking(512, mask_history=True))
        assert trained(tokenizer, row) == ["我是小芽。\n\n  很高兴\n<|im_end|>"]


def test_prompts_are_trained_on_request_but_the_first_token(tokenizer: PreTrainedTokenizerBase) -> None:
    [row] = encode([conversation(*TWO_TURNS)], tokenizer, Masking(512, train_on_prompt=True))
    assert row.labels == [IGNORED, *row.input_ids[1:]]


def test_a_default_system_prompt_goes_to_rows_without_one(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [conversation(*TWO_TURNS), conversation(("system", "Be kind."), *TWO_TURNS)]
    bare, kind = encode(rows, tokenizer, Masking(512, default_system="Be brief."))
    assert tokenizer.decode(bare.input_ids).startswith("<|im_start|>system\nBe brief.<|im_end|>")
    assert "Be brief." not in tokenizer.decode(kind.input_ids)


def test_long_rows_are_cut_and_say_by_how_much(tokenizer: PreTrainedTokenizerBase) -> None:
    [whole] = encode([conversation(*TWO_TURNS)], tokenizer, Masking(512))
    [row] = encode([conversation(*TWO_TURNS)], tokenizer, Masking(20))
    assert row.input_ids == whole.input_ids[:20]
    assert row.labels == whole.labels[:20]
    assert row.cut == len(whole.input_ids) - 20
    [short] = encode([conversation(*TWO_TURNS)], tokenizer, Masking(8))
    assert short.trained == 0


def test_a_template_that_rewrites_earlier_turns_shows_each_answer_as_it_was_asked_for(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    tokenizer.chat_template = FORGETFUL
    thinking = [
        conversation(("user", "1+1?"), ("assistant", "<think>a</think>2"), ("user", "2+2?"), ("assistant", "4"))
    ]
    first, second = encode(thinking, tokenizer, Masking(512))
    assert tokenizer.decode(first.input_ids) == (
        "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n<think>a</think>2<|im_end|>\n"
    )
    assert trained(tokenizer, first) == ["<think>a</think>2<|im_end|>"]
    assert tokenizer.decode(second.input_ids) == (
        "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
    )
    assert trained(tokenizer, second) == ["4<|im_end|>"]
    assert (first.again, second.again) == (False, True)
    [row] = encode(thinking, tokenizer, Masking(512, mask_history=True))
    assert trained(tokenizer, row) == ["4<|im_end|>"]
    assert [segment.label for segment in explain(1, thinking[0][1], tokenizer, Masking(512)).segments] == [
        "part 1 of 2",
        "part 2 of 2",
    ]


def test_what_a_template_refuses_names_the_row_and_its_reason(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{{ raise_exception('no system role here') }}"
    with pytest.raises(RowError, match=r"row 7: .*no system role here"):
        list(encode([conversation(*TWO_TURNS)], tokenizer, Masking(512)))


def test_damaged_tools_name_the_row(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(RowError, match="row 7: its tools are not valid JSON"):
        list(encode([conversation(*TWO_TURNS, tools="[{")], tokenizer, Masking(512)))


def test_a_tokenizer_without_template_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="chat"):
        list(encode([conversation(*TWO_TURNS)], tokenizer, Masking(512)))


def test_no_rows_make_no_rows(tokenizer: PreTrainedTokenizerBase) -> None:
    assert list(encode([], tokenizer, Masking(512))) == []


# --- the same as before it was made fast ---------------------------------------------------------------------------

CONTENT = st.text(alphabet=st.sampled_from("aé你🌱 \n\t<|>im_endstart"), min_size=1, max_size=30)
PIECES = st.lists(
    st.one_of(CONTENT, st.sampled_from(["<|im_end|>", "  ", "\n\n", "你好", "👩‍👩‍👧"])), min_size=1, max_size=4
)
TURNS = st.lists(st.tuples(PIECES.map("".join), PIECES.map("".join)), min_size=1, max_size=3)


def plainly_labelled(tokenizer: Any, text: str, spans: list[tuple[int, int]]) -> list[int]:
    """The labels by looking at every token's place."""
    tokens = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, labels = tokens["input_ids"], [IGNORED] * len(tokens["input_ids"])
    starts, ends = zip(*tokens["offset_mapping"], strict=True)
    for start, end in spans:
        first, last = bisect_right(ends, start), bisect_left(starts, end)
        labels[first:last] = ids[first:last]
    return [IGNORED, *labels[1:]]


@pytest.mark.parametrize("model", ["byte level", "metaspace"])
@pytest.mark.parametrize("template", [CHATML, UNMARKED, ENDLESS], ids=["marked", "unmarked", "end outside marks"])
@given(turns=TURNS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_labels_are_those_found_by_looking_at_every_place(
    tokenizer: PreTrainedTokenizerBase, metaspace: PreTrainedTokenizerBase, model: str, template: str, turns: Any
) -> None:
    used = tokenizer if model == "byte level" else metaspace
    used.chat_template = template
    row = conversation(
        *((role, text) for pair in turns for role, text in zip(("user", "assistant"), pair, strict=True))
    )
    [(_, text, spans, *_)] = _render(Renderer(used), *row, Masking(4096))
    [found] = encode([row], used, Masking(4096))
    assert found.input_ids == used(text, add_special_tokens=False)["input_ids"]
    assert found.labels == plainly_labelled(used, text, spans)


def test_rows_of_many_batches_come_in_order(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [conversation(("user", "n"), ("assistant", f"number {n}")) for n in range(3 * BATCH_ROWS + 1)]
    found = [trained(tokenizer, row) for row in encode(rows, tokenizer, Masking(64))]
    assert found == [[f"number {n}<|im_end|>"] for n in range(len(rows))]


def test_a_tokenizer_that_was_told_to_truncate_does_not(tokenizer: PreTrainedTokenizerBase) -> None:
    [whole] = encode([conversation(*TWO_TURNS)], tokenizer, Masking(512))
    tokenizer("a", truncation=True, max_length=5, padding="max_length")
    assert list(encode([conversation(*TWO_TURNS)], tokenizer, Masking(512))) == [whole]


def test_text_is_trained_up_to_its_end(tokenizer: PreTrainedTokenizerBase) -> None:
    [row] = encode([(1, Text("Paris."))], tokenizer, Masking(512))
    assert tokenizer.decode(row.input_ids) == "Paris.<|im_end|>"
    assert row.labels == [IGNORED, *row.input_ids[1:]]


# --- tools -----------------------------------------------------------------------------------------------------------

CALL = ToolCall("weather", '{"place": "Paris", "days": 2}')
ASKS = Message("user", "The weather in Paris for 2 days?")
TOLD = (Message("tool", "Rain."), Message("assistant", "It rains."))
TOOLS = '[{"name": "weather", "description": "Tells the weather.", "parameters": {}}]'


@pytest.mark.parametrize("template", [CHATML, UNMARKED], ids=["marked", "unmarked"])
@pytest.mark.parametrize("words", ["", "One moment."], ids=["call alone", "call and words"])
@pytest.mark.parametrize("masking", [Masking(512), Masking(512, train_on_prompt=True), Masking(512, mask_history=True)])
def test_of_a_row_whose_call_the_template_leaves_out_nothing_is_trained(
    tokenizer: PreTrainedTokenizerBase, template: str, words: str, masking: Masking
) -> None:
    tokenizer.chat_template = template
    value = Conversation((ASKS, Message("assistant", words, (CALL,)), *TOLD), TOOLS)
    [row] = encode([(7, value)], tokenizer, masking)
    assert (row.trained, row.lost) == (0, "its call of weather")
    with pytest.raises(
        RowError, match=r"row 7: the model's chat template leaves out its call of weather: choose a model"
    ):
        explain(7, value, tokenizer, masking)


def test_a_call_that_the_template_shows_is_trained(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = TOOLED
    value = Conversation((ASKS, Message("assistant", "One moment.", (CALL,)), *TOLD), TOOLS)
    [row] = encode([(7, value)], tokenizer, Masking(1024))
    assert row.lost == ""
    called, answered = trained(tokenizer, row)
    assert called.startswith("One moment.")
    assert '"weather"' in called
    assert '"Paris"' in called
    assert answered == "It rains.<|im_end|>"


def test_tools_that_nobody_calls_are_not_to_be_lost_either(tokenizer: PreTrainedTokenizerBase) -> None:
    [row] = encode([conversation(*TWO_TURNS, tools=TOOLS)], tokenizer, Masking(512))
    assert (row.trained, row.lost) == (0, "the tool weather")


def test_a_template_that_cannot_join_arguments_to_text_names_the_row(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = (
        "{% for m in messages if m.tool_calls %}{{ '>' + m.tool_calls[0].function.arguments }}{% endfor %}"
    )
    value = Conversation((ASKS, Message("assistant", "", (CALL,)), *TOLD), TOOLS)
    with pytest.raises(RowError, match="row 7: the model's chat template refuses it: can only concatenate str"):
        list(encode([(7, value)], tokenizer, Masking(512)))


# --- what is shown ---------------------------------------------------------------------------------------------------

ASKED = (Message("user", "Hi"), Message("assistant", "Hello 你"), Message("user", "Well?"))
ROWS = {
    "conversation": Conversation(tuple(Message(role, content) for role, content in TWO_TURNS)),
    "text": Text("Ein Text über 🌱 und 你好。\n"),
    "preference": Preference(ASKED, Message("assistant", "Good."), Message("assistant", "Bad 坏.")),
    "feedback": Feedback((*ASKED, Message("assistant", "Fine 👩‍👩‍👧.")), good=False),
}


def as_trained(
    value: Row, tokenizer: PreTrainedTokenizerBase, masking: Masking
) -> Iterator[tuple[list[int], list[int]]]:
    """Token ids and labels of each sequence of a row, as a training is given them."""
    kind = {Preference: "pair", Feedback: "judged"}.get(type(value), "sequence")
    [row] = COLUMNS[kind].encode([(7, value)], tokenizer, masking)
    if kind == "sequence":
        yield row.input_ids, row.labels
    for answer in {"pair": ("chosen_ids", "rejected_ids"), "judged": ("completion_ids",)}.get(kind, ()):
        prompt, ids = row.prompt_ids, getattr(row, answer)
        yield prompt + ids, [IGNORED] * len(prompt) + ids


def check_shown(value: Row, tokenizer: PreTrainedTokenizerBase, masking: Masking) -> None:
    """All that a training is given is shown as kept; what stands behind a judged answer is shown and not given."""
    shown = explain(7, value, tokenizer, masking)
    for segment, (ids, labels) in zip(shown.segments, as_trained(value, tokenizer, masking), strict=True):
        kept = [piece for piece in segment.pieces if not piece.cut]
        behind = kept[len(ids) :] if isinstance(value, Preference | Feedback) else []
        assert [piece.id for piece in kept[: len(kept) - len(behind)]] == ids
        assert [piece.id if piece.trained else IGNORED for piece in kept] == [*labels, *[IGNORED] * len(behind)]
        text = "".join(piece.text for piece in segment.pieces)
        assert text == tokenizer.decode([piece.id for piece in segment.pieces])


@pytest.mark.parametrize("masking", [Masking(512), Masking(12), Masking(512, train_on_prompt=True)], ids=str)
@pytest.mark.parametrize("kind", ROWS)
def test_what_is_shown_is_what_is_trained(tokenizer: PreTrainedTokenizerBase, kind: str, masking: Masking) -> None:
    names = [segment.label for segment in explain(7, ROWS[kind], tokenizer, masking).segments]
    assert names == [name for name, _, _ in sequences(ROWS[kind], masking)]
    check_shown(ROWS[kind], tokenizer, masking)


@pytest.mark.parametrize(
    "name", ["alpaca_en_demo", "alpaca_zh_demo", "glaive_toolcall_en_demo", "dpo_en_demo", "kto_en_demo", "wiki_demo"]
)
def test_what_is_shown_of_real_rows_is_what_is_trained(name: str) -> None:
    if not SHARED.exists():
        pytest.skip("needs the public demo sets")
    bundled = AutoTokenizer.from_pretrained(resolve("seedling"))
    if "toolcall" in name:
        bundled.chat_template = TOOLED
    masking = Masking(300)
    for _, value in islice(load(Registry(SHARED), name, leave_out=lambda fault: None), 60):
        check_shown(value, bundled, masking)


def test_only_the_judged_answer_is_learnt_from(tokenizer: PreTrainedTokenizerBase) -> None:
    for kind, answers in {"preference": ["Good.", "Bad 坏."], "feedback": ["Fine 👩‍👩‍👧."]}.items():
        shown = explain(7, ROWS[kind], tokenizer, Masking(512, train_on_prompt=True))
        learnt = ["".join(piece.text for piece in segment.pieces if piece.trained) for segment in shown.segments]
        assert learnt == [f"{answer}<|im_end|>" for answer in answers]


def test_special_tokens_and_parts_of_characters_are_told_apart(tokenizer: PreTrainedTokenizerBase) -> None:
    [segment] = explain(
        7, Conversation((Message("user", "🌱"), Message("assistant", "b"))), tokenizer, Masking(64)
    ).segments
    assert [piece.text for piece in segment.pieces if piece.special] == ["<|im_start|>", "<|im_end|>"] * 2
    [plant] = [place for place, piece in enumerate(segment.pieces) if piece.text == "🌱"]
    assert [piece.text for piece in segment.pieces[plant : plant + 5]] == ["🌱", "", "", "", "<|im_end|>"]
