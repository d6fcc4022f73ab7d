"""Every named template against the format of its family, written out by hand, and against what models ship."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trl
from transformers.utils.chat_template_utils import render_jinja_template

from studio import templates
from studio.models import added_tokens, resolve

SHIPPED = Path(trl.__file__).parent / "chat_templates"
SYSTEM, HI, HELLO = "Be brief.", "Hi", "Hello"
CHAT = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": HI},
    {"role": "assistant", "content": HELLO},
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4"},
]
THOUGHT = [*CHAT[:-1], {"role": "assistant", "content": "<think>\nsum\n</think>\n\n4"}]
# what is trained stands between « and »; bos_token is <s>, eos_token </s>
CHATML = (
    "<|im_start|>system\nBe brief.<|im_end|>\n"
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«Hello<|im_end|>»\n"
    "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n«4<|im_end|>»\n"
)
EXPECTED = {
    "alpaca": "Be brief.\n\n### Instruction:\nHi\n\n### Response:\n«Hello</s>»\n\n"
    "### Instruction:\n2+2?\n\n### Response:\n«4</s>»\n\n",
    "chatml": CHATML,
    "cohere": "<s><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be brief.<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>«Hello<|END_OF_TURN_TOKEN|>»"
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>2+2?<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>«4<|END_OF_TURN_TOKEN|>»",
    "deepseek": "<s>Be brief.\n\nUser: Hi\n\nAssistant:« Hello</s>»User: 2+2?\n\nAssistant:« 4</s>»",
    "deepseek3": "<s>Be brief.<｜User｜>Hi<｜Assistant｜>«Hello</s>»<｜User｜>2+2?<｜Assistant｜>«4</s>»",
    "deepseekr1": "<s>Be brief.<｜User｜>Hi<｜Assistant｜>«Hello</s>»"
    "<｜User｜>2+2?<｜Assistant｜><think>\n«\n</think>\n\n4</s>»",
    "default": "System: Be brief.</s>\nHuman: Hi</s>\nAssistant:«Hello</s>»\nHuman: 2+2?</s>\nAssistant:«4</s>»\n",
    "exaone": "[|system|]Be brief.[|endofturn|]\n[|user|]Hi\n[|assistant|]«Hello[|endofturn|]»\n"
    "[|user|]2+2?\n[|assistant|]«4[|endofturn|]»\n",
    "gemma": "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n«Hello<end_of_turn>»\n"
    "<start_of_turn>user\n2+2?<end_of_turn>\n<start_of_turn>model\n«4<end_of_turn>»\n",
    "glm4": "[gMASK]<sop><|system|>\nBe brief.<|user|>\nHi<|assistant|>«\nHello<|user|>»\n2+2?"
    "<|assistant|>«\n4<|user|>»",
    "glm4_moe": "[gMASK]<sop><|system|>\nBe brief.<|user|>\nHi<|assistant|>«\n<think></think>\nHello<|user|>»\n2+2?"
    "<|assistant|>«\n<think></think>\n4<|user|>»",
    "granite3": "<|start_of_role|>system<|end_of_role|>Be brief.<|end_of_text|>\n"
    "<|start_of_role|>user<|end_of_role|>Hi<|end_of_text|>\n"
    "<|start_of_role|>assistant<|end_of_role|>«Hello<|end_of_text|>»\n"
    "<|start_of_role|>user<|end_of_role|>2+2?<|end_of_text|>\n"
    "<|start_of_role|>assistant<|end_of_role|>«4<|end_of_text|>»\n",
    "intern2": "<s>" + CHATML,
    "llama2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]« Hello </s>»<s>[INST] 2+2? [/INST]« 4 </s>»",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n«Hello<|eot_id|>»"
    "<|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n«4<|eot_id|>»",
    "llama4": "<s><|header_start|>system<|header_end|>\n\nBe brief.<|eot|>"
    "<|header_start|>user<|header_end|>\n\nHi<|eot|><|header_start|>assistant<|header_end|>\n\n«Hello<|eot|>»"
    "<|header_start|>user<|header_end|>\n\n2+2?<|eot|><|header_start|>assistant<|header_end|>\n\n«4<|eot|>»",
    "ministral": "<s>[INST]Be brief.\n\nHi[/INST]«Hello</s>»[INST]2+2?[/INST]«4</s>»",
    "mistral": "<s>[INST] Be brief.\n\nHi[/INST]« Hello</s>»[INST] 2+2?[/INST]« 4</s>»",
    "mistral_small": "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi[/INST]«Hello</s>»[INST]2+2?[/INST]«4</s>»",
    "moonlight": "<|im_system|>system<|im_middle|>Be brief.<|im_end|><|im_user|>user<|im_middle|>Hi<|im_end|>"
    "<|im_assistant|>assistant<|im_middle|>«Hello<|im_end|>»<|im_user|>user<|im_middle|>2+2?<|im_end|>"
    "<|im_assistant|>assistant<|im_middle|>«4<|im_end|>»",
    "openchat": "<s>Be brief.<|end_of_turn|>GPT4 Correct User: Hi<|end_of_turn|>GPT4 Correct Assistant:"
    "« Hello<|end_of_turn|>»GPT4 Correct User: 2+2?<|end_of_turn|>GPT4 Correct Assistant:« 4<|end_of_turn|>»",
    "phi": "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\n«Hello<|end|>»\n"
    "<|user|>\n2+2?<|end|>\n<|assistant|>\n«4<|end|>»\n",
    "phi4": "<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|>Hi<|im_end|>"
    "<|im_start|>assistant<|im_sep|>«Hello<|im_end|>»<|im_start|>user<|im_sep|>2+2?<|im_end|>"
    "<|im_start|>assistant<|im_sep|>«4<|im_end|>»",
    "qwen": CHATML,
    "qwen3": CHATML.replace("«4", "«<think>\n\n</think>\n\n4"),
    "vicuna": "Be brief. USER: Hi ASSISTANT:« Hello</s>»USER: 2+2? ASSISTANT:« 4</s>»",
    "zephyr": "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\n«Hello</s>»\n"
    "<|user|>\n2+2?</s>\n<|assistant|>\n«4</s>»\n",
}
THINKING = {
    ("qwen3", None): CHATML.replace("«4", "«<think>\nsum\n</think>\n\n4"),
    ("qwen3", True): CHATML.replace("«4", "«<think>\nsum\n</think>\n\n4"),
    ("qwen3", False): CHATML.replace("«4", "<think>\n\n</think>\n\n«4"),
    ("deepseekr1", None): EXPECTED["deepseekr1"].replace("«\n</think>", "«sum\n</think>"),
    ("deepseekr1", False): EXPECTED["deepseekr1"].replace("«\n</think>\n\n", "\n</think>\n\n«"),
    ("glm4_moe", None): EXPECTED["glm4_moe"].replace("</think>\n4", "sum</think>\n4"),
    ("glm4_moe", False): EXPECTED["glm4_moe"]
    .replace("«\n<think></think>", "\n<think></think>«")
    .replace("Hi", "Hi/nothink")
    .replace("2+2?", "2+2?/nothink"),
}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris", "days": 2}}}
TOOL_CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "Rain in Paris?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": '{"rain": true}'},
    {"role": "assistant", "content": "Yes."},
]
HERMES = (
    "<|im_start|>system\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
    f"{json.dumps(WEATHER)}\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML "
    'tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
    "<|im_start|>user\nRain in Paris?<|im_end|>\n<|im_start|>assistant\n"
    '«<tool_call>\n{"name": "weather", "arguments": {"city": "Paris", "days": 2}}\n</tool_call><|im_end|>»\n'
    '<|im_start|>user\n<tool_response>\n{"rain": true}\n</tool_response><|im_end|>\n'
    "<|im_start|>assistant\n«Yes.<|im_end|>»\n"
)
HEADER = "<|start_header_id|>{}<|end_header_id|>\n\n"
MISTRAL = (
    f"<s>[AVAILABLE_TOOLS] [{json.dumps(WEATHER)}][/AVAILABLE_TOOLS][INST] Rain in Paris?[/INST]"
    '«[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Paris", "days": 2}}]</s>»'
    '[TOOL_RESULTS] {"content": {"rain": true}}[/TOOL_RESULTS]« Yes.</s>»'
)
GLM4_MOE_CALL = (
    "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
    "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>"
)
TOOLS = {
    "qwen": HERMES,
    "qwen3": HERMES.replace("«Yes.", "«<think>\n\n</think>\n\nYes."),
    "llama3": "<s>" + HEADER.format("system") + "You have access to the following functions. To call a function, "
    'please respond with JSON for a function call. Respond in the format {"name": function name, "parameters": '
    "dictionary of argument name and its value}. Do not use variables.\n\n"
    + json.dumps(WEATHER, indent=4)
    + "\n\n<|eot_id|>"
    + HEADER.format("user")
    + "Rain in Paris?<|eot_id|>"
    + HEADER.format("assistant")
    + '«{"name": "weather", "parameters": {"city": "Paris", "days": 2}}<|eot_id|>»'
    + HEADER.format("ipython")
    + '{"rain": true}<|eot_id|>'
    + HEADER.format("assistant")
    + "«Yes.<|eot_id|>»",
    "mistral": MISTRAL,
    "ministral": MISTRAL.replace("] [", "][").replace("] {", "]{").replace("[INST] ", "[INST]").replace("« ", "«"),
    "mistral_small": MISTRAL.replace("] [", "][").replace("] {", "]{").replace("[INST] ", "[INST]").replace("« ", "«"),
    "glm4": "[gMASK]<sop><|system|>\n你是一个名为 ChatGLM 的人工智能助手。你是基于智谱 AI 公司训练的语言模型 GLM-4 模型"
    "开发的，你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具\n\n## weather\n\n"
    + json.dumps(WEATHER["function"], indent=4)
    + "\n在调用上述函数时，请使用 Json 格式表示调用的参数。<|user|>\nRain in Paris?<|assistant|>"
    '«weather\n{"city": "Paris", "days": 2}<|observation|>»\n{"rain": true}<|assistant|>«\nYes.<|user|>»',
    "glm4_moe": "[gMASK]<sop><|system|>\n# Tools\n\nYou may call one or more functions to assist with the user query."
    "\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
    + json.dumps(WEATHER)
    + "\n</tools>\n\nFor each function call, output the function name and arguments within the following XML format:\n"
    "<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>\n<arg_value>{arg-value-1}</arg_value>\n"
    "<arg_key>{arg-key-2}</arg_key>\n<arg_value>{arg-value-2}</arg_value>\n...\n</tool_call>"
    f"<|user|>\nRain in Paris?<|assistant|>«\n<think></think>\n{GLM4_MOE_CALL}<|observation|>»"
    '\n<tool_response>\n{"rain": true}\n</tool_response><|assistant|>«\n<think></think>\nYes.<|user|>»',
}


def render(source: str, messages: list[dict[str, Any]], **options: Any) -> tuple[str, list[tuple[int, int]]]:
    marks = "generation" in source
    [text], spans = render_jinja_template(
        [messages],
        chat_template=source,
        return_assistant_tokens_mask=marks,
        **{"tools": None, "bos_token": "<s>", "eos_token": "</s>", **options},
    )
    return text, spans[0] if marks else []


def marked(source: str, messages: list[dict[str, Any]], **options: Any) -> str:
    """The rendering with « and » around what is trained."""
    text, spans = render(source, messages, **options)
    for start, end in reversed(spans):
        text = f"{text[:start]}«{text[start:end]}»{text[end:]}"
    return text


def shipped(name: str) -> str:
    return (SHIPPED / f"{name}.jinja").read_text(encoding="utf-8")


def test_every_name_has_a_text_and_every_text_a_name() -> None:
    assert templates.names() == sorted(EXPECTED) == sorted(path.stem for path in templates.FOLDER.glob("*.jinja"))
    assert set(templates.ALIASES.values()) <= set(templates.names())
    assert set(templates.NEAREST.values()) <= set(templates.names())
    groups = [set(templates.names()), set(templates.ALIASES), set(templates.NEAREST)]
    assert len(set().union(*groups)) == sum(map(len, groups))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_two_turns_with_a_system_prompt(name: str) -> None:
    assert marked(templates.text(name), CHAT) == EXPECTED[name]


@pytest.mark.parametrize(("name", "enable_thinking"), THINKING, ids=str)
def test_thoughts_are_learnt_left_out_or_forgotten(name: str, enable_thinking: bool | None) -> None:
    source = templates.with_thinking(templates.text(name), enable_thinking)
    assert marked(source, THOUGHT) == THINKING[name, enable_thinking]
    earlier = f"<think>\nx\n</think>\n\n{HELLO}"
    thoughtful = [{**turn, "content": turn["content"].replace(HELLO, earlier)} for turn in THOUGHT]
    assert marked(source, thoughtful) == THINKING[name, enable_thinking], "thoughts of earlier turns are left out"


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_tools_calls_and_their_results(name: str) -> None:
    assert marked(templates.text(name), TOOL_CHAT, tools=[WEATHER]) == TOOLS[name]


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_what_is_trained_goes_on_from_the_prompt_of_the_chat(name: str) -> None:
    """The last answer begins where the generation prompt ends, thoughts on or off: what is learnt is what is asked."""
    for enable_thinking in (None, True, False):
        source = templates.with_thinking(templates.text(name), enable_thinking)
        text, spans = render(source, CHAT)
        prompt, _ = render(source, CHAT[:-1], add_generation_prompt=True)
        assert text[: spans[-1][0]] == prompt


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_no_system_prompt_is_added(name: str) -> None:
    assert SYSTEM not in marked(templates.text(name), CHAT[1:])
    assert len(marked(templates.text(name), CHAT[1:])) < len(EXPECTED[name])


@pytest.mark.parametrize(
    ("name", "original", "end"),
    [
        ("qwen", "qwen2_5", ""),
        ("qwen3", "qwen3", ""),
        ("llama3", "llama3", ""),
        ("phi", "phi3", "</s>"),
        ("gemma", "gemma3", ""),
        ("cohere", "cohere", ""),
    ],
)
def test_models_own_templates_say_the_same(name: str, original: str, end: str) -> None:
    ours, theirs = templates.text(name), shipped(original)
    assert render(ours, CHAT)[0] + end == render(theirs, CHAT)[0]
    prompts = (render(source, CHAT[:-1], add_generation_prompt=True)[0] for source in (ours, theirs))
    assert next(prompts) == next(prompts)


@pytest.mark.parametrize("messages", [TOOL_CHAT, [CHAT[0], *TOOL_CHAT], THOUGHT], ids=["tools", "system", "thoughts"])
def test_qwen_says_the_same_of_tools_and_thoughts(messages: list[dict[str, Any]]) -> None:
    tools = [WEATHER] if messages is not THOUGHT else None
    ours, theirs = (render(source, messages, tools=tools)[0] for source in (templates.text("qwen3"), shipped("qwen3")))
    assert ours == theirs


@pytest.mark.parametrize("messages", [TOOL_CHAT, THOUGHT], ids=["tools", "thoughts"])
def test_glm_says_the_same_up_to_the_token_that_ends_the_last_answer(messages: list[dict[str, Any]]) -> None:
    tools = [WEATHER] if messages is TOOL_CHAT else None
    ours, _ = render(templates.text("glm4_moe"), messages, tools=tools)
    assert ours.removesuffix("<|user|>") == render(shipped("glm4moe"), messages, tools=tools)[0]


def test_a_mode_of_thinking_is_a_default_that_a_request_overrides() -> None:
    source = templates.with_thinking(templates.text("qwen3"), False)
    silent = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert render(source, CHAT[1:2], add_generation_prompt=True)[0] == silent
    asked = render(source, CHAT[1:2], add_generation_prompt=True, enable_thinking=True)[0]
    assert asked == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert templates.with_thinking(templates.text("chatml"), False) == templates.text("chatml")


def test_names_of_llamafactory_are_known_or_refused_with_the_nearest() -> None:
    assert templates.text("qwen3_nothink") == templates.text("qwen")
    assert templates.find("mllama").name == "llama3"
    assert templates.problem("qwen3_nothink") is None
    assert "nearest by name is default" in (templates.problem("baichuan2") or "")
    assert "did you mean chatml?" in (templates.problem("chatlm") or "")
    assert "no template ''; there are: alpaca" in (templates.problem("") or "")


def test_tokens_that_a_tokenizer_would_spell_in_pieces(tmp_path: Path) -> None:
    known = added_tokens(Path(resolve("seedling")))
    assert templates.lacking("chatml", known) == []
    assert templates.lacking("llama3", known) == ["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    assert templates.lacking("llama3", {*known, "<|eot_id|>", "<|start_header_id|>"}) == ["<|end_header_id|>"]
    assert templates.lacking("alpaca", known) == []
    assert templates.lacking("llama3", added_tokens(tmp_path)) == [], "nothing is known of a tokenizer of another kind"
