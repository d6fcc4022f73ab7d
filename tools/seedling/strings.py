# ruff: noqa: E501  (one wording, or one entry of a table, a line)
"""String tasks. The answer spells the word out first: a model that reads tokens, not letters, needs that."""

from collections.abc import Callable
from random import Random

import world
from facts import same
from questions import ASK_ZH, TELL, WHAT, WRITE_ZH, Item, Task

ONSETS = world.words(
    "b c d f g h j k l m n p r s t v w z bl br ch cl cr dr fl fr gl gr pl pr sh sk sl sm sn sp st sw th tr"
)
VOWELS = world.words("a e i o u ai ea ee oa oo ou")
CODAS = ("", "", "", *world.words("b ck d g k l ll m n nd ng nk nt p r rd rk s sh st t x"))
ENGLISH = tuple(
    sorted(
        {en for words in (world.WORDS, *world.CATEGORIES.values()) for en, _ in words if len(en) <= 12}
        | {word for row in world.OPPOSITES for word in row[:2] if len(word) <= 12}
        | {word for word in world.EVERYDAY_WORDS if len(word) <= 12}
    )
)
CHINESE = tuple(
    sorted({zh for words in (world.WORDS, *world.CATEGORIES.values()) for _, zh in words if 2 <= len(zh) <= 4})
)
# with the everyday characters, so that the model can copy what a user writes
TABLES = (world.ANIMALS, world.QUIET_ANIMALS, world.COUNTRIES, world.COLOURED, world.OPPOSITES, world.USES, world.JOBS)
WRITTEN = "".join(cell for rows in TABLES for row in rows for cell in row)
CHARACTERS = tuple(
    sorted({c for c in WRITTEN if "\u4e00" <= c <= "\u9fff"} | set("".join(CHINESE)) | set(world.EVERYDAY_CHARACTERS))
)


def nonsense(rng: Random) -> str:
    """A pronounceable word of one or two syllables that means nothing: blorp, snafet."""
    syllables = 1 if rng.random() < 0.5 else 2
    made = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(syllables))
    return made[:10]


def letters(rng: Random) -> str:
    """An English word of this world (half the time), a nonsense word, or a few random letters."""
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(ENGLISH)
    if kind < 0.85:
        return nonsense(rng)
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 6)))


def characters(rng: Random) -> str:
    """A Chinese word of this world, two to four everyday characters, or (rarely) two of any kind."""
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(CHINESE)
    if kind < 0.95:
        return "".join(rng.choice(CHARACTERS) for _ in range(rng.randint(2, 4)))
    return chr(rng.randrange(0x4E00, 0x9FA6)) + chr(rng.randrange(0x4E00, 0x9FA6))


def parts(it: str) -> dict[str, str]:
    backwards = it[::-1]
    return {
        "it": it, "spelt": "-".join(it), "tleps": "-".join(backwards), "back": backwards, "n": str(len(it)),
        "first": it[0], "last": it[-1], "upper": it.upper(), "SPELT": "-".join(it.upper()),
    }  # fmt: skip


def spelling(task: str, word: Callable[[Random], str]) -> Callable[[Random], Item]:
    """Words as the items of a task; what one task holds out, another may train."""

    def draw(rng: Random) -> Item:
        it = word(rng)
        return same(f"{task} {it}", **parts(it))

    return draw


def draw_repeat(rng: Random) -> Item:
    it, times = letters(rng), rng.randint(2, 5)
    return same(f"repeat {it} {times}", it=it, n=str(times), x=" ".join([it] * times))


def draw_sort(rng: Random) -> Item:
    """Three words that begin with different letters."""
    while True:
        words = [rng.choice(ENGLISH) for _ in range(3)]
        if len({word[0] for word in words}) == 3:
            break
    a, b, c = words
    return same(f"sort {sorted(words)}", a=a, b=b, c=c, x=", ".join(sorted(words)))


TASKS = (
    Task(
        "spell",
        spelling("spell", letters),
        {
            "en": (
                "(Spell|Please spell|Spell out)( the word|) {it}.",
                "How do (you|I|we) spell( the word|) {it}?",
                "How is( the word|) {it} (spelled|written)?",
                "(Can|Could) you spell( the word|) {it}?",
                "Spell (this|the following) word(.|:)(\n| ){it}",
                "(Tell me|Give me|Say|List) the letters (of|in)( the word|) {it}.",
                WHAT + " the spelling of {it}?",
                "Which letters is {it} made of, one by one?",
                "Please tell me how the word {it} is spelled.",
            ),
            "zh": (
                ASK_ZH + "(单词|) {it} (怎么拼写|怎么拼|如何拼写|的拼写是什么)？",
                "(请拼写|拼写|拼出|请拼出)(单词|) {it}。",
                "怎么(拼写|拼)(单词|) {it}？",
                "(拼写|请拼写|拼出)(这个|下面这个)单词(。|：)(\n|){it}",
                "(请|)把(单词|) {it} (的字母一个一个说出来|拼写出来|拼出来)。",
                "(单词|) {it} 由哪些字母组成？",
                "请逐个念出 {it} 的字母。",
                "请告诉我单词 {it} 怎么拼写。",
            ),
        },
        {"en": "The word {it} is spelled {spelt}.", "zh": "单词 {it} 的拼写是 {spelt}。"},
        short={"en": "{spelt}", "zh": "{spelt}"},
        follow={"en": "And {it}?", "zh": "{it} 呢？"},
        held_out="arguments",
        weight=2.5,
        quoted="{it}",
    ),
    Task(
        "reverse",
        spelling("reverse", letters),
        {
            "en": (
                "(Reverse|Please reverse|Turn around|Flip)( the word|) {it}.",
                "(Write|Spell|Say|Read)( the word|) {it} (backwards|in reverse|from right to left).",
                "(What is|What's)( the word|) {it} (backwards|in reverse|reversed|spelled backwards)?",
                "(Reverse|Turn around|Flip) (this|the following) word(.|:)(\n| ){it}",
                "Turn the word {it} around.",
                "What do (you|we|I) get when (you|we|I) reverse {it}?",
                "How do you (write|spell) {it} backwards?",
                "(Reverse|Invert) the letters of {it}.",
                "(Can you|Please) (reverse|write backwards) {it}?",
                "Give me {it} with its letters in the opposite order.",
                "Please write the word {it} from back to front.",
            ),
            "zh": (
                "(把|请把|将)(单词|) {it} (倒过来|反过来|倒过来写|反过来写|反转)。",
                "(倒着写|反着写|反转|请反转)(单词|) {it}。",
                "(单词|) {it} (倒过来|反过来|倒着|反着)(是什么|怎么写|怎么拼|写是什么)？",
                "(反转|倒着写|请反转)(这个|下面这个)单词(。|：)(\n|){it}",
                "把 {it} 的字母(倒过来|反过来|颠倒)。",
                "把 {it} 从后往前写一遍。",
                "请把单词 {it} 反着写出来。",
            ),
        },
        {"en": "Spelled {spelt}, backwards {tleps}: {back}.", "zh": "拼写是 {spelt}，倒过来是 {tleps}：{back}。"},
        follow={"en": "And {it}?", "zh": "{it} 呢？"},
        held_out="arguments",
        weight=4,
        quoted="{it}",
    ),
    Task(
        "uppercase",
        spelling("uppercase", letters),
        {
            "en": (
                "(Write|Put|Type|Show)( the word|) {it} in (capital letters|uppercase|capitals|upper case|big letters).",
                "(Convert|Change|Turn)( the word|) {it} (to|into) (uppercase|capital letters|capitals|upper case).",
                "(Write|Put) (this|the following) word in (capital letters|uppercase|capitals)(.|:)(\n| ){it}",
                "(Make|Capitalise|Uppercase)( the word|) {it}( uppercase| in capitals|).",
                "What is {it} in (capital letters|uppercase|capitals)?",
                "How does {it} look in (capital letters|uppercase|capitals)?",
                "Please use only capital letters for {it}.",
                "Show me the word {it} in big letters.",
            ),
            "zh": (
                "(把|请把|将)(单词|) {it} (改成|变成|写成|换成|转换成)(大写|大写字母)。",
                "(用大写字母|用大写)(写|写出)(单词|) {it}。",
                "(单词|) {it} (的大写是什么|大写怎么写|用大写怎么写|的大写怎么写)？",
                "(把|请把)这个单词(改成|变成|写成)大写(。|：)(\n|){it}",
                "{it} 全部用大写字母怎么写？",
                "请用大写字母写出单词 {it}。",
            ),
        },
        {"en": "Spelled {SPELT}, it is {upper}.", "zh": "拼写是 {SPELT}，大写是 {upper}。"},
        follow={"en": "And {it}?", "zh": "{it} 呢？"},
        held_out="arguments",
        weight=3,
        quoted="{it}",
    ),
    Task(
        "count_letters",
        spelling("count_letters", letters),
        {
            "en": (
                "How many (letters|characters) (are in|are there in|has|does it take to write)( the word|) {it}?",
                "How many letters does( the word|) {it} (have|contain)?",
                "Count the (letters|characters) (in|of)( the word|) {it}.",
                TELL + " how many letters( the word|) {it} has.",
                "(Count the letters.|How many letters?|Number of letters:)\n{it}",
                "How (long is|many letters long is)( the word|) {it}?",
                "(What is|Give me|Say) the (length|number of letters) of( the word|) {it}.",
                "{it} is a word of how many letters?",
                "Can you count how many letters {it} has?",
            ),
            "zh": (
                ASK_ZH + "(单词|) {it} (有几个字母|有多少个字母|一共有几个字母|有多长|由几个字母组成|有多少字母)？",
                "(数一数|请数一数|数数)(单词|) {it} (的字母|有几个字母|有多少个字母)。",
                "(数字母|几个字母|多少个字母)(。|：|？)\n{it}",
                "{it} 这个单词(有几个字母|有多少个字母|一共几个字母)？",
                "(单词|) {it} 的长度是多少？",
                "写 {it} 需要几个字母？",
                "请数出单词 {it} 一共有多少个字母。",
            ),
        },
        {"en": "Spelled {spelt}, it has {n} letters.", "zh": "拼写是 {spelt}，有{n}个字母。"},
        follow={"en": "And {it}?", "zh": "{it} 呢？"},
        held_out="arguments",
        weight=3,
        quoted="{it}",
    ),
    *(
        Task(
            f"{side}_letter",
            spelling(f"{side}_letter", letters),
            {
                "en": (
                    WHAT + f" the {side} letter (of|in)( the word|) {{it}}?",
                    f"Which letter is( the|) {side}( one|) in( the word|) {{it}}?",
                    TELL + f" the {side} letter of( the word|) {{it}}.",
                    f"(Give|Name|Write|Find) the {side} letter(.|:)(\n| ){{it}}",
                    f"(With|On) which letter does( the word|) {{it}} {verb}?",
                    f"Look at the word {{it}}: which letter is {side}?",
                    f"Can you tell me which letter is the {side} one of the word {{it}}?",
                ),
                "zh": (
                    ASK_ZH + f"(单词|) {{it}} 的{zh_side}字母(是什么|是哪个|是)？",
                    f"(请说出|说出|写出|找出)(单词|) {{it}} 的{zh_side}字母。",
                    WRITE_ZH + f"{zh_side}字母(。|：)(\n|){{it}}",
                    f"{{it}} 的{zh_side}字母(是|是哪一个)？",
                    f"{{it}} 这个词里{zh_side}字母是哪个？",
                    f"请问哪个字母是 {{it}} 的{zh_side}字母？",
                ),
            },
            {
                "en": f"Spelled {{spelt}}, its {side} letter is {{{side}}}.",
                "zh": f"拼写是 {{spelt}}，{zh_side}字母是 {{{side}}}。",
            },
            follow={"en": "And of {it}?", "zh": "{it} 呢？"},
            held_out="arguments",
            weight=1.5,
            quoted="{it}",
        )
        for side, zh_side, verb in (("first", "第一个", "(start|begin)"), ("last", "最后一个", "(end|stop)"))
    ),
    Task(
        "repeat",
        draw_repeat,
        {
            "en": (
                "(Repeat|Say|Write|Type|Print|Please repeat|Please write)( the word|) {it} {n} times.",
                "(Repeat|Say|Write) (this|the following) word {n} times(.|:)(\n| ){it}",
                "(Can you|Could you) (repeat|say|write)( the word|) {it} {n} times?",
                "(Give me|Show me)( the word|) {it} {n} times.",
                "Put the word {it} on a line {n} times.",
                "Please say the word {it} exactly {n} times.",
            ),
            "zh": (
                "(把|请把|将)(单词|) {it} (重复|写|说|念)(|上){n}(遍|次)。",
                "(说|写|念|请说|请写){n}(遍|次)(单词|) {it}。",
                "(重复|请重复)(单词|) {it} {n}(遍|次)。",
                "(重复|写|说)(这个|下面这个)单词{n}(遍|次)(。|：)(\n|){it}",
                "请把 {it} 连着打{n}次。",
                "请你把 {it} 说{n}遍。",
            ),
        },
        {"en": "Here it is: {x}.", "zh": "好的：{x}。"},
        held_out="arguments",
        weight=2,
        quoted="{it}",
    ),
    Task(
        "sort_words",
        draw_sort,
        {
            "en": (
                "(Sort|Order|Arrange|Put in order|Please sort) (these|the|the following)( three|) words( alphabetically| by the alphabet| from A to Z|)(: |. ){a}, {b}, {c}",
                "Put (these|the following|the)( three|) words in alphabetical order: {a}, {b}, {c}.",
                "(Sort|Order|Arrange)( the words|) {a}, {b} and {c}( alphabetically| by their first letter|).",
                "(Sort the words.|Sort alphabetically.|Put in alphabetical order.|Sort these words.|Arrange alphabetically.)\n{a}, {b}, {c}",
                "(What is|Give me) the alphabetical order of {a}, {b}, {c}?",
                "Bring these words into alphabetical order: {a}, {b}, {c}.",
                "Please put the words {a}, {b}, {c} in order from A to Z.",
            ),
            "zh": (
                "(把|请把|将)(这些|下面的|这三个)单词(按字母顺序|按字母|按从A到Z的顺序|)(排列|排序|排好)：{a}, {b}, {c}。",
                "(请给|给)(这些|这三个)单词排序：{a}, {b}, {c}。",
                "(按字母顺序排列|单词排序|排序|请排序|按字母排序)(。|：)(\n|){a}, {b}, {c}",
                "(将|把) {a}、{b} 和 {c} 按字母(顺序|)(排序|排列)。",
                "(单词|)(排序|按字母排序)：{a}, {b}, {c}。",
                "请把这几个单词依照字母先后排一下：{a}, {b}, {c}。",
                "请把单词 {a}, {b}, {c} 按字母顺序排好。",
            ),
        },
        {"en": "In alphabetical order: {x}.", "zh": "按字母顺序：{x}。"},
        held_out="arguments",
        weight=5,
    ),
    Task(
        "reverse_chinese",
        spelling("reverse_chinese", characters),
        {
            "zh": (
                "(把|请把|将)(“{it}”|词语“{it}”|{it})(倒过来|反过来|倒过来写|反过来写|反转)。",
                "(“{it}”|词语“{it}”|{it})(倒过来|反过来|倒着写|反着)(是什么|怎么写|读什么)？",
                "(倒着写|反着写|反转|请反转)(“{it}”|{it})。",
                "(把|请把)(这个|下面这个)词(倒过来|反过来|反转)(。|：)(\n|){it}",
                "“{it}”从后往前写是什么？",
                "请你把“{it}”这个词倒过来。",
            ),
        },
        {"zh": "“{it}”是 {spelt}，倒过来是 {tleps}：{back}。"},
        follow={"zh": "“{it}”呢？"},
        held_out="arguments",
        weight=5,
    ),
    Task(
        "count_chinese",
        spelling("count_chinese", characters),
        {
            "zh": (
                ASK_ZH
                + "(“{it}”|词语“{it}”|{it})(有几个字|有多少个字|一共有几个字|是几个字|有几个汉字|一共几个汉字)？",
                "(数一数|请数一数|数数)(“{it}”|{it})(有几个字|有多少个字|的字数)。",
                "(数字数|几个字|多少个字)(。|：|？)\n{it}",
                "写“{it}”要写几个字？",
                "请问“{it}”这个词有几个字？",
            ),
        },
        {"zh": "“{it}”是 {spelt}，有{n}个字。"},
        follow={"zh": "“{it}”呢？"},
        held_out="arguments",
        weight=3,
    ),
    *(
        Task(
            f"{side}_chinese",
            spelling(f"{side}_chinese", characters),
            {
                "zh": (
                    ASK_ZH + f"(“{{it}}”|词语“{{it}}”|{{it}})的{zh_side}字(是什么|是哪个|是)？",
                    f"(请说出|说出|写出|找出)(“{{it}}”|{{it}})的{zh_side}字。",
                    f"(“{{it}}”|{{it}}){zh_side}字是(什么|哪个)？",
                    WRITE_ZH + f"{zh_side}字(。|：)(\n|){{it}}",
                    f"“{{it}}”这个词的{zh_side}字(是什么|是哪个)？",
                    f"在“{{it}}”里，{zh_side}字是哪个？",
                    f"请你找出“{{it}}”的{zh_side}字。",
                ),
            },
            {"zh": f"“{{it}}”的{zh_side}字是“{{{side}}}”。"},
            short={"zh": f"{{{side}}}"},
            follow={"zh": "“{it}”呢？"},
            held_out="arguments",
            weight=2,
        )
        for side, zh_side in (("first", "第一个"), ("last", "最后一个"))
    ),
)
