import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.datasets.checks.characters import RULES, SPECIAL_TOKENS, is_mojibake, matches

# fmt: off
PIECES = st.sampled_from((
    *SPECIAL_TOKENS, "<|im_start|>", "<|x y|>", "<｜end▁of▁sentence｜>", "\ufffd", "Ã©", "â€™", "\x00", "\x1f", "\r\n",
    "\u200b", "\ufeff", "\u202e", "\u00ad", "\x85", "{{name}}", "{{ x }}", "{{}", "<b>", "</DIV>", "<br/>", "&nbsp;",
    "&#39;", "<", "[", "{", "&", "Ã", "\xc2", "\ue000", "…", "“é”", "中文，", "\U0001f600", "a < b", "x", "\n", " ",
))
# fmt: on


def found(*texts: str) -> set[tuple[int, str]]:
    return {(number, code) for number, code, _ in matches(texts)}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("broken \ufffd here", "damaged_text"),
        ("cafÃ© au lait", "mojibake"),
        ("it doesnâ€™t", "mojibake"),
        ("ä½\xa0å¥½", "mojibake"),
        ("bell \x07", "control_characters"),
        ("next\x85line", "control_characters"),
        ("zero\u200bwidth", "invisible_characters"),
        ("\u202egnp.exe", "invisible_characters"),
        ("\ufeffHello", "invisible_characters"),
        *[(f"a {token} b", "special_tokens") for token in SPECIAL_TOKENS],
        ("<|im_start|>system", "special_tokens"),
        ("<|endoftext|>", "special_tokens"),
        ("<｜User｜>", "special_tokens"),
        ("I am {{name}}.", "placeholder"),
        ("{{ author }}", "placeholder"),
        ("a<br>b", "html"),
        ("<DIV class='x'>", "html"),
        ("a&nbsp;b", "html"),
        ("it&#39;s", "html"),
    ],
)
def test_what_is_found(text: str, code: str) -> None:
    assert (1, code) in found("fine", text)
    assert not [pair for pair in found("fine", text) if pair[0] == 0]


@pytest.mark.parametrize(
    "text",
    [
        "", "plain", "tab\tnew\nline\r\n", "a < b and c > d", "f(x) = [1, 2]", "{'a': {'b': 1}}", "R&D", "Tom & Jerry",
        "“quoted” — dash… ’", "café à la carte, déjà vu", "Größe, Übung, Straße", "中文，标点。「」",
        "日本語のテキスト", "Привет, мир", "مرحبا بالعالم", "می\u200cخواهم", "\U0001f469\u200d\U0001f467",
        "50 °C, 10 µm",
        "<thinking>", "x << 2", "[INFO] started",
        "if a<b: c", "\\frac{{a}}{2+b}", "naïve “café”", "1 € – 2 £",
    ],
)  # fmt: skip
def test_what_is_fine(text: str) -> None:
    assert found(text) == set()


@given(st.lists(st.lists(PIECES | st.text(max_size=3), max_size=6).map("".join), min_size=1, max_size=5))
def test_the_look_over_a_batch_misses_nothing(texts: list[str]) -> None:
    expected = {
        (number, rule.code)
        for number, text in enumerate(texts)
        for rule in RULES
        if rule.pattern.search(text) and (rule.code != "mojibake" or is_mojibake(text))
    }
    assert found(*texts) == expected
