# ruff: noqa: E501  (one wording, or one entry of a table, a line)
"""Arithmetic tasks: numbers from 0 to 99, a tenth of the number pairs held out."""

from random import Random

import world
from facts import X, one_of, same
from questions import ASK_ZH, TELL, WHAT, Item, Task

ONES = world.words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen"
)
TENS = world.words("_ _ twenty thirty forty fifty sixty seventy eighty ninety")
DIGITS = "零一二三四五六七八九"


def english(n: int) -> str:
    if n < 20:
        return ONES[n]
    return TENS[n // 10] + (f"-{ONES[n % 10]}" if n % 10 else "")


def chinese(n: int) -> str:
    tens, ones = divmod(n, 10)
    if tens == 0:
        return DIGITS[ones]
    return ("" if tens == 1 else DIGITS[tens]) + "十" + (DIGITS[ones] if ones else "")


def number(rng: Random) -> int:
    """0 to 99, small ones more often than their share."""
    return rng.randrange(10) if rng.random() < 0.15 else rng.randrange(100)


def sum_key(a: int, b: int) -> str:
    return f"{min(a, b)} + {max(a, b)}"


def draw_sum(rng: Random) -> Item:
    a, b = number(rng), number(rng)
    return same(sum_key(a, b), a=str(a), b=str(b), x=str(a + b))


def draw_difference(rng: Random) -> Item:
    a, b = number(rng), number(rng)
    if a < b and rng.random() < 0.8:
        a, b = b, a
    return same(f"{a} - {b}", a=str(a), b=str(b), x=str(a - b))


def draw_comparison(rng: Random) -> Item:
    a, b = rng.sample(range(100), 2)
    greater = rng.random() < 0.5
    first, second = (max(a, b), min(a, b)) if greater else (min(a, b), max(a, b))
    shared = {"a": str(a), "b": str(b), "x": str(first), "y": str(second)}
    return Item(
        f"compare {min(a, b)} {max(a, b)}",
        shared | {"more": "bigger" if greater else "smaller"},
        shared | {"more": "大" if greater else "小"},
    )


def draw_purchase(rng: Random) -> Item:
    """A one-step word problem with numbers below 50."""
    a, b = sorted((rng.randrange(1, 50), rng.randrange(1, 50)), reverse=True)
    gets = rng.random() < 0.5
    en_name, zh_name = rng.choice(world.NAMES)
    en_thing, zh_thing = rng.choice(COUNTED)
    shared = {"a": str(a), "b": str(b), "op": "+" if gets else "-", "x": str(a + b if gets else a - b)}
    return Item(
        sum_key(a, b) if gets else f"{a} - {b}",
        shared | {"who": en_name, "things": en_thing, "change": f"gets {b} more" if gets else f"gives away {b}"},
        shared | {"who": zh_name, "things": zh_thing, "change": f"又得到{b}个" if gets else f"送走了{b}个"},
    )


COUNTED = world.pairs(
    "apples 苹果, balls 球, eggs 鸡蛋, cakes 蛋糕, boxes 盒子, stones 石头, hats 帽子, oranges 橙子, cups 杯子, toys 玩具"
)
PRODUCTS = tuple(same(f"{a} {b}", a=str(a), b=str(b), x=str(a * b)) for a in range(10) for b in range(10))
PARITY = tuple(
    Item(str(n), {"a": str(n), "x": "odd" if n % 2 else "even"}, {"a": str(n), "x": "奇数" if n % 2 else "偶数"})
    for n in range(100)
)
COUNTS = tuple(same(str(n), a=str(n), x=", ".join(str(i) for i in range(1, n + 1))) for n in range(3, 21))
NEXT = tuple(same(str(n), a=str(n), x=str(n + 1)) for n in range(99))
IN_WORDS = tuple(Item(str(n), {"a": str(n), "x": english(n)}, {"a": str(n), "x": chinese(n)}) for n in range(100))

TASKS = (
    Task(
        "add",
        draw_sum,
        {
            "en": (
                "(What is|What's|How much is|Calculate|Compute|Work out|Tell me|) {a}( + |+| plus ){b}?",
                "(What is|What's|How much is|Calculate|Find) the sum of {a} and {b}?",
                "Add {a} (and|to) {b}.",
                "Add {a} and {b} together.",
                "{a}( + |+){b}( = |=| = ?|=?)",
                "(Work out this sum.|Work this out.|Calculate.|Solve.|Add these numbers.)\n{a}( + |+){b}",
                "(Can you|Please) add {a} and {b}?",
                "What do {a} and {b} make?",
                "What do you get when you add {a} and {b}?",
                "{a} plus {b} (is|equals|makes)?",
                "If you put {a} and {b} together, how much is that?",
                "Tell me the sum of {a} and {b}.",
            ),
            "zh": (
                "(请问|请算一下|计算|算一算|)(| ){a}(+| + |加|加上){b}(等于多少|等于几|是多少|得多少|)？",
                "(计算|请计算|算一算|求){a}(与|和){b}的和。",
                "{a}(与|和){b}的和是(多少|几)？",
                "{a}(与|和){b}(相加|加起来|加在一起)(等于多少|是多少|得多少)？",
                "(计算下面的加法|请计算|算一算|解题)。\n{a}( + |+){b}",
                "{a}和{b}合起来一共是几？",
                "请告诉我{a}加{b}的结果。",
            ),
        },
        {"en": "{a} + {b} = {x}.", "zh": "{a} + {b} = {x}。"},
        short=X,
        follow={"en": "And {a} + {b}?", "zh": "那{a} + {b}呢？"},
        held_out="arguments",
        weight=5,
    ),
    Task(
        "subtract",
        draw_difference,
        {
            "en": (
                "(What is|What's|How much is|Calculate|Compute|Work out|Tell me|) {a}( - |-| minus ){b}?",
                "Subtract {b} from {a}.",
                "Take {b} (away from|from|off) {a}.",
                "(What is|What's|Calculate|Find) the difference (between|of) {a} and {b}?",
                "{a}( - |-){b}( = |=| = ?|=?)",
                "(Work this out.|Calculate.|Solve.|Subtract.)\n{a}( - |-){b}",
                "(What do you get when you|Can you|Please) (subtract|take) {b} from {a}?",
                "{a} minus {b} (is|equals|makes)?",
                "How much is left when {b} is taken from {a}?",
                "What is left if you take {b} from {a}?",
            ),
            "zh": (
                "(请问|请算一下|计算|算一算|)(| ){a}(-| - |减|减去){b}(等于多少|等于几|是多少|得多少|)？",
                "{a}(减去|减){b}的差是(多少|几)？",
                "(计算|请计算|求){a}(与|减){b}的差。",
                "(计算下面的减法|请计算|算一算|解题)。\n{a}( - |-){b}",
                "从{a}里(减去|拿走|去掉){b}(等于多少|还剩多少|是多少)？",
                "{a}拿走{b}以后剩下几？",
                "请告诉我{a}减{b}的结果。",
            ),
        },
        {"en": "{a} - {b} = {x}.", "zh": "{a} - {b} = {x}。"},
        short=X,
        follow={"en": "And {a} - {b}?", "zh": "那{a} - {b}呢？"},
        held_out="arguments",
        weight=5,
    ),
    Task(
        "multiply",
        one_of(PRODUCTS),
        {
            "en": (
                "(What is|What's|How much is|Calculate|Compute|Work out|Tell me|) {a}( × | x | * |*|x| times ){b}?",
                "Multiply {a} (by|and|with) {b}.",
                "(What is|What's|Calculate|Find) the product of {a} and {b}?",
                "{a}( × | * |*){b}( = |=| = ?|=?)",
                "(Work this out.|Calculate.|Solve.|Multiply.)\n{a}( × | * |*){b}",
                "{a} (times|multiplied by) {b} (is|equals|makes)?",
                "What do you get when you multiply {a} (by|and) {b}?",
                "How much do I have if I take {b} {a} times?",
                "What is the result of {a} times {b}?",
            ),
            "zh": (
                "(请问|请算一下|计算|算一算|)(| ){a}(×| × |乘|乘以| * |*){b}(等于多少|等于几|是多少|得多少|)？",
                "{a}(与|和){b}的(积|乘积)是(多少|几)？",
                "(计算|请计算|求){a}(与|和){b}的积。",
                "{a}(与|和){b}相乘(等于多少|是多少|得几)？",
                "(计算下面的乘法|请计算|算一算|解题)。\n{a}( × | * |*){b}",
                "{a}个{b}加起来是多少？",
                "请告诉我{a}乘{b}的结果。",
            ),
        },
        {"en": "{a} × {b} = {x}.", "zh": "{a} × {b} = {x}。"},
        short=X,
        follow={"en": "And {a} × {b}?", "zh": "那{a} × {b}呢？"},
        weight=2,
    ),
    Task(
        "compare",
        draw_comparison,
        {
            "en": (
                "(Which|What) (number is|one is|is) {more}, {a} or {b}?",
                "(Which|What) is {more}: {a} or {b}?",
                "Is {a} or {b} {more}?",
                "(Name|Give me|Tell me|Find) the {more} (number|one) of {a} and {b}.",
                TELL + " which( number|) is {more}, {a} or {b}.",
                "(Which one is {more}?|Which number is {more}?|Find the {more} number.)\n{a}(, | and | or ){b}",
                "Of {a} and {b}, which is {more}?",
                "Take the {more} one of these two numbers: {a} and {b}.",
                "Of the numbers {a} and {b}, which one is {more}?",
            ),
            "zh": (
                ASK_ZH + "{a}(和|与|跟){b}(哪个|谁|哪个数)(更|比较|){more}？",
                "(哪个|哪个数|谁)(更|){more}(：|，){a}(还是|和){b}？",
                "{a}(与|和){b}(相比|比较)，(哪个|谁)(更|){more}？",
                "(请说出|说出|找出){a}(和|与){b}中(较|更){more}的(数|那个)。",
                "(哪个更|哪个){more}？\n{a}(，|、|和){b}",
                "{a}、{b}两个数里较{more}的是谁？",
                "在{a}和{b}中，哪个数更{more}？",
            ),
        },
        {"en": "{x} is {more} than {y}.", "zh": "{x}比{y}{more}。"},
        short=X,
        held_out="arguments",
        weight=2,
    ),
    Task(
        "word_problem",
        draw_purchase,
        {
            "en": (
                "{who} has {a} {things} and {change}. How many {things} does {who} have( now|)?",
                "{who} has {a} {things}. (Then |Now |Later |){who} {change}. How many {things} (are there|does {who} have)( now|)?",
                "If {who} has {a} {things} and {change}, how many {things} does {who} have( now|)?",
                "(Solve this problem.|Solve.|Work this out.|Answer the question.)\n{who} has {a} {things} and {change}. How many (are there|does {who} have) now?",
                "{who} has {a} {things} and {change}. How many( are there| is that|)( now|)?",
                "How many {things} does {who} have now? {who} had {a} {things} and {change}.",
                "{who} has {a} {things}. After that {who} {change}. How many {things} does {who} have in the end?",
            ),
            "zh": (
                "{who}有{a}个{things}，{change}。(现在|请问现在|请问|){who}(有|一共有|共有)(几个|多少个){things}？",
                "{who}有{a}个{things}。(后来|然后|接着|){who}{change}。现在(有|一共有)(几个|多少个)({things}|)？",
                "如果{who}有{a}个{things}，{change}，(那么|现在|){who}有(几个|多少个){things}？",
                "(解答这道题|请解题|做这道题)。\n{who}有{a}个{things}，{change}。现在有(几个|多少个)？",
                "{who}(原来|本来|)有{a}个{things}，{change}，还有多少个{things}？",
                "{who}手里有{a}个{things}，接着{change}，那么是多少个？",
                "{who}一开始有{a}个{things}，后来{change}。最后{who}有几个{things}？",
            ),
        },
        {
            "en": "{a} {op} {b} = {x}, so {who} has {x} {things}.",
            "zh": "{a} {op} {b} = {x}，所以{who}有{x}个{things}。",
        },
        held_out="arguments",
        weight=3,
    ),
    Task(
        "parity",
        one_of(PARITY),
        {
            "en": (
                "Is( the number|) {a} (even or odd|odd or even)?",
                "Is {a} an (even|odd) or an (odd|even) number?",
                TELL + " (if|whether) {a} is (even or odd|odd or even).",
                "(Even or odd?|Odd or even?)\n{a}",
                "{a}(: |, )(odd or even|even or odd)?",
                "Would you call {a} odd or even?",
                "Tell me: is {a} odd, or is it even?",
            ),
            "zh": (
                ASK_ZH + "(数字|){a}(是奇数还是偶数|是偶数还是奇数)？",
                "(奇数还是偶数？|偶数还是奇数？)\n{a}",
                "{a}(：|，)(偶数还是奇数|奇数还是偶数)？",
                "{a}这个数(是奇数还是偶数|是偶数还是奇数)？",
                "{a}算奇数还是偶数？",
                "请判断{a}是奇数还是偶数。",
            ),
        },
        {"en": "{a} is {x}.", "zh": "{a}是{x}。"},
        short=X,
        follow={"en": "And {a}?", "zh": "{a}呢？"},
    ),
    Task(
        "next_number",
        one_of(NEXT),
        {
            "en": (
                "(What|Which) number (comes|is|follows)( right|) after {a}?",
                WHAT + " the (next number after|number after|number following) {a}?",
                "What comes( right|) after {a}?",
                "(Which number|What) follows {a}?",
                "(What is|Give|Write) the next number(.|:)(\n| ){a}",
                "Count on from {a}: what is next?",
                "I am at {a}, which number do I count next?",
                "Tell me the number that comes after {a}.",
            ),
            "zh": (
                ASK_ZH + "{a}(后面|之后|后)(的数是什么|的数是几|是几|是哪个数|的数字是什么)？",
                "{a}的下一个数(是几|是什么|是多少)？",
                "(请说出|说出|写出){a}(后面|之后)的数。",
                "(下一个数是什么？|下一个数：)\n{a}",
                "数到{a}以后，接着数几？",
                "紧跟在{a}后面的数是几？",
            ),
        },
        {"en": "{x} comes after {a}.", "zh": "{a}后面的数是{x}。"},
        short=X,
        follow={"en": "And after {a}?", "zh": "{a}呢？"},
    ),
    Task(
        "count_to",
        one_of(COUNTS),
        {
            "en": (
                "(Count|Please count|Can you count|Count from 1|Count up)( up|) to {a}.",
                "(Say|Write|List|Name|Give me) the numbers from (1|one) to {a}.",
                "(What are|Which are) the numbers from 1 to {a}?",
                "Please write all numbers up to {a}.",
            ),
            "zh": (
                "(从1|从一|请|)数到{a}。",
                "(写出|说出|列出)(从|)1到{a}(的数|的数字|)。",
                "请写出{a}以内的所有数字。",
            ),
        },
        {"en": "Here it is: {x}.", "zh": "好的：{x}。"},
        weight=0.7,
    ),
    Task(
        "number_in_words",
        one_of(IN_WORDS),
        {
            "en": (
                "(Write|Put|Say|Spell)( the number|) {a} (in|with|as) words.",
                "How do (you|I|we) (write|say) {a} (in|with|as) words?",
                "What is {a} (in|as) words?",
                "(Spell|Write) out the number {a}.",
                "(Write|Put|Say) this number (in|as) words(.|:)(\n| ){a}",
                "Put {a} into words.",
                "How is {a} written in words?",
                "Which words do we write for {a}?",
                "Please write the number {a} in words.",
            ),
            "zh": (
                "把{a}(写成|变成|改成)(汉字|中文|中文数字)。",
                "{a}(用汉字|用中文|用中文数字)(怎么写|怎么说|如何写)？",
                "{a}的(中文数字|汉字|中文)(是什么|怎么写)？",
                "(请|)(用汉字|用中文)写出{a}。",
                "把这个数写成(汉字|中文)(。|：)(\n|){a}",
                "数字{a}写成汉字是怎样的？",
                "请把数字{a}写成汉字。",
            ),
        },
        {"en": "{a} in words is {x}.", "zh": "{a}写成汉字是{x}。"},
        short=X,
        follow={"en": "And {a}?", "zh": "{a}呢？"},
        weight=1.5,
    ),
)
