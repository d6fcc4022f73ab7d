"""What is trained of conversations under awkward templates, token by token against expectations written by hand.

In the expectations « and » stand around the tokens that count in the loss.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import trl
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from studio import templates
from studio.datasets.formats import Conversation, Message, Text, ToolCall
from studio.datasets.masking import Masking
from studio.errors import RowError
from studio.worker import tokenizer as tokenizers
from studio.worker.encode import IGNORED, Encoded, encode
from studio.worker.pool import Tokens
from tests.worker.conftest import UNMARKED

SHIPPED = Path(trl.__file__).parent / "chat_templates"
ALL, LAST, PROMPT = Masking(512), Masking(512, mask_history=True), Masking(512, train_on_prompt=True)
END = "»"
TALK = (("user", "Hi"), ("assistant", "Hello"), ("user", "2+2?"), ("assistant", " 4 "))
THOUGHTS = (
    ("user", "1+1?"), ("assistant", "<think>\none\n</think>\n\n2"), ("user", "2+2?"),
    ("assistant", "<think>\ntwo\n</think>\n\n4"),
)  # fmt: skip
# writes call, result and answer of a question as one turn of the assistant
MERGING = """\
{%- for message in messages %}
{%- if message['role'] == 'user' %}
{{- '<|im_end|>' if not loop.first }}
{{- '<|im_start|>user\n' + message['content'] + '<|im_end|><|im_start|>assistant\n' }}
{%- elif message['role'] == 'assistant' %}
{{- message['content'] }}
{%- for call in message['tool_calls'] or () %}
{{- call['function']['name'] + call['function']['arguments'] | tojson }}
{%- endfor %}
{%- else %}
{{- '[' + message['content'] + ']' }}
{%- endif %}
{%- if loop.last and message['role'] == 'assistant' %}{{- '<|im_end|>' }}{%- endif %}
{%- endfor %}
"""
# marks an answer in two parts
PARTED = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\n' }}
{%- if message['role'] == 'assistant' %}
{%- generation %}{{- message['content'][:2] }}{%- endgeneration %}
{{- '|' }}
{%- generation %}{{- message['content'][2:] + '<|im_end|>' }}{%- endgeneration %}
{%- else %}
{{- message['content'] + '<|im_end|>' }}
{%- endif %}
{{- '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"""


@pytest.fixture
def tokenizer(tokenizer_dir: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tokenizer_dir)


def conversation(*turns: tuple[str, str]) -> Conversation:
    return Conversation(tuple(Message(role, content) for role, content in turns))


def called(call: str, answer: str) -> Conversation:
    """A question, a call of a tool, its result, and the answer."""
    calls = (ToolCall("add", '{"a": 1}'),)
    turns = (
        Message("user", "1+1?"),
        Message("assistant", call, calls),
        Message("tool", "two"),
        Message("assistant", answer),
    )
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    return Conversation(turns, json.dumps(tools))


def marked(tokenizer: PreTrainedTokenizerBase, row: Encoded) -> str:
    """The tokens of a row as text, with « and » around each run that is trained."""
    runs: list[tuple[bool, list[int]]] = []
    for token, label in zip(row.input_ids, row.labels, strict=True):
        trained = label != IGNORED
        if not runs or runs[-1][0] != trained:
            runs.append((trained, []))
        runs[-1][1].append(token)
    texts = [(trained, tokenizer.decode(tokens)) for trained, tokens in runs]
    return "".join(f"«{text}»" if trained else text for trained, text in texts)


def shown(tokenizer: PreTrainedTokenizerBase, value: Conversation, masking: Masking = ALL) -> list[str]:
    return [marked(tokenizer, row) for row in encode([(7, value)], tokenizer, masking)]


def chatml(*turns: str) -> str:
    """Turns of user and assistant, each as it stands in the text."""
    roles = ("user", "assistant") * len(turns)
    return "".join(f"<|im_start|>{role}\n{turn}\n" for role, turn in zip(roles, turns, strict=False))


@pytest.mark.parametrize(
    ("masking", "expected"),
    [
        (ALL, chatml("Hi<|im_end|>", "«Hello<|im_end|>»", "2+2?<|im_end|>", "« 4 <|im_end|>»")),
        (LAST, chatml("Hi<|im_end|>", "Hello<|im_end|>", "2+2?<|im_end|>", "« 4 <|im_end|>»")),
        (
            PROMPT,
            "<|im_start|>«" + chatml("Hi<|im_end|>", "Hello<|im_end|>", "2+2?<|im_end|>", " 4 <|im_end|>")[12:] + "»",
        ),
    ],
    ids=["all answers", "last only", "prompts too"],
)
@pytest.mark.parametrize("template", [UNMARKED, templates.text("chatml")], ids=["no marks", "marks"])
def test_what_counts_of_two_turns(
    tokenizer: PreTrainedTokenizerBase, template: str, masking: Masking, expected: str
) -> None:
    tokenizer.chat_template = template
    assert shown(tokenizer, conversation(*TALK), masking) == [expected]


def test_a_template_that_trims_trains_what_it_leaves(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = UNMARKED.replace("message['content']", "message['content'] | trim")
    assert shown(tokenizer, conversation(*TALK)) == [
        chatml("Hi<|im_end|>", "«Hello<|im_end|>»", "2+2?<|im_end|>", "«4<|im_end|>»")
    ]


@pytest.mark.parametrize("own", [True, False], ids=["the model's own", "named"])
def test_forgotten_thoughts_are_learnt_where_they_were_thought(tokenizer: PreTrainedTokenizerBase, own: bool) -> None:
    tokenizer.chat_template = (SHIPPED / "qwen3.jinja").read_text() if own else templates.text("qwen3")
    first = chatml("1+1?<|im_end|>", "«<think>\none\n</think>\n\n2<|im_end|>»")
    second = chatml("1+1?<|im_end|>", "2<|im_end|>", "2+2?<|im_end|>", "«<think>\ntwo\n</think>\n\n4<|im_end|>»")
    assert shown(tokenizer, conversation(*THOUGHTS)) == [first, second]
    assert shown(tokenizer, conversation(*THOUGHTS), LAST) == [second]
    assert shown(tokenizer, conversation(*THOUGHTS), PROMPT) == [
        "<|im_start|>«" + second.replace("«", "").replace("»", "").removeprefix("<|im_start|>") + "»"
    ]


@pytest.mark.parametrize("own", [True, False], ids=["the model's own", "named"])
def test_without_thinking_an_empty_thought_is_part_of_the_question(
    tokenizer: PreTrainedTokenizerBase, own: bool
) -> None:
    text = (SHIPPED / "qwen3.jinja").read_text() if own else templates.text("qwen3")
    tokenizer.chat_template = templates.with_thinking(text, False)
    first = chatml("1+1?<|im_end|>", "<think>\n\n</think>\n\n«2<|im_end|>»")
    second = chatml("1+1?<|im_end|>", "2<|im_end|>", "2+2?<|im_end|>", "<think>\n\n</think>\n\n«4<|im_end|>»")
    assert shown(tokenizer, conversation(*THOUGHTS), Masking(512, enable_thinking=False)) == [first, second]


def test_thoughts_between_calls_of_tools_stay_so_one_sequence_serves_both_answers(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    for text in ((SHIPPED / "qwen3.jinja").read_text(), templates.text("qwen3")):
        tokenizer.chat_template = text
        [row] = shown(tokenizer, called("<think>\nadd\n</think>\n\n", "<think>\nso\n</think>\n\n2"), Masking(4096))
        assert row.endswith(
            "<|im_start|>assistant\n«<think>\nadd\n</think>\n\n"
            '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>»\n'
            "<|im_start|>user\n<tool_response>\ntwo\n</tool_response><|im_end|>\n"
            "<|im_start|>assistant\n«<think>\nso\n</think>\n\n2<|im_end|>»\n"
        )


def test_turns_that_are_merged_when_the_conversation_goes_on(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = MERGING
    question = "<|im_start|>user\n1+1?<|im_end|><|im_start|>assistant\n"
    rows = shown(tokenizer, Conversation(called("", "2").messages))
    assert rows == [question + '«add{"a": 1}<|im_end|>»', question + 'add{"a": 1}[two]«2<|im_end|>»']


def test_an_answer_that_is_marked_in_parts_is_learnt_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = PARTED
    ends = chatml("Hi<|im_end|>", "«He»|«llo<|im_end|>»", "2+2?<|im_end|>", "« 4»|« <|im_end|>»")
    assert shown(tokenizer, conversation(*TALK)) == [ends]
    assert shown(tokenizer, conversation(*TALK), LAST) == [ends.replace("«He»|«llo<|im_end|>»", "He|llo<|im_end|>")]


def test_an_end_of_text_behind_the_last_answer_only_is_no_rewriting(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.chat_template = UNMARKED + "{%- if not add_generation_prompt %}{{- eos_token }}{%- endif %}"
    assert shown(tokenizer, conversation(*TALK)) == [
        chatml("Hi<|im_end|>", "«Hello<|im_end|>»", "2+2?<|im_end|>", "« 4 <|im_end|>")[:-1] + "\n<|endoftext|>»"
    ]


def test_a_template_that_begins_the_text_does_not_begin_it_twice(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    assert tokenizer("Hi")["input_ids"][0] == 0, "the tokenizer itself begins every text"
    for template in ("{{- bos_token }}" + UNMARKED, templates.text("intern2")):
        tokenizer.chat_template = template
        [row] = encode([(7, conversation(*TALK))], tokenizer, ALL)
        assert row.input_ids[:2] == [0, tokenizer.convert_tokens_to_ids("<|im_start|>")]
        assert row.input_ids.count(0) == 1


def test_a_template_that_knows_no_system_prompt_names_the_row(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.chat_template = (SHIPPED / "gemma.jinja").read_text()
    wanted = "row 7: the model's chat template refuses it: System role not supported"
    with pytest.raises(RowError, match=wanted):
        shown(tokenizer, conversation(("system", "Be brief."), *TALK))
    with pytest.raises(RowError, match=wanted):
        shown(tokenizer, conversation(*TALK), Masking(512, default_system="Be brief."))
    tokenizer.chat_template = templates.text("gemma")
    [row] = shown(tokenizer, conversation(("system", "Be brief."), *TALK))
    assert row.startswith(
        "<|endoftext|><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n«Hello"
    )


def test_a_template_that_asks_for_thoughts_but_never_writes_them_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.chat_template = (SHIPPED / "deepseek_r1_distill.jinja").read_text()
    sentence = r"answer 1 cannot be told from the question: .* begin with '<think>\\n', but writes this one without it"
    with pytest.raises(RowError, match=sentence):
        shown(tokenizer, conversation(*THOUGHTS))
    tokenizer.chat_template = templates.text("deepseekr1")
    assert shown(tokenizer, conversation(*THOUGHTS[:2])) == [
        "<|endoftext|><｜User｜>1+1?<｜Assistant｜><think>\n«one\n</think>\n\n2<|im_end|>»"
    ]


@pytest.mark.parametrize("name", templates.names())
def test_a_named_template_trains_each_answer_with_its_end(tokenizer_dir: Path, name: str) -> None:
    tokenizer = tokenizers.load(tokenizer_dir, False, name)
    end = templates.find(name).end or tokenizer.eos_token
    rows = list(encode([(7, conversation(*TALK))], tokenizer, ALL))
    answers = [run.partition("»")[0] for row in rows for run in marked(tokenizer, row).split("«")[1:]]
    assert [answer.removesuffix(end).split(">")[-1].strip() for answer in answers] == ["Hello", "4"]
    assert all(answer.endswith(end) for answer in answers)


def test_a_named_template_ends_answers_with_its_token_where_the_tokenizer_knows_it(
    tokenizer_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(tokenizer_dir, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "<|endoftext|>"}))
    assert tokenizers.load(folder, False).eos_token == "<|endoftext|>"
    assert tokenizers.load(folder, False, "chatml").eos_token == "<|im_end|>"
    assert tokenizers.load(folder, False, "llama3").eos_token == "<|endoftext|>"
    assert tokenizers.load(folder, False, "smollm").chat_template == templates.text("chatml")
    [document] = encode([(1, Text("Once."))], tokenizers.load(folder, False, "chatml"), ALL)
    assert document.input_ids[-1] == tokenizers.load(folder, False).eos_token_id, "no answer ends there"


def test_a_template_and_the_mode_of_thinking_make_another_fingerprint(tokenizer_dir: Path) -> None:
    kinds = [(None, None), ("chatml", None), ("qwen3", None), ("qwen3", False), ("qwen3", True), (None, False)]
    prints = [Tokens(tokenizer_dir, False, *kind).fingerprint for kind in kinds]
    assert len(set(prints)) == len(kinds)
    assert Tokens(tokenizer_dir, False, "yi").fingerprint == Tokens(tokenizer_dir, False, "chatml").fingerprint
