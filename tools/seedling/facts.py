# ruff: noqa: E501  (one wording, or one entry of a table, a line)
"""Tasks about the small world: animals, countries, colours, opposites, days, science."""

from collections.abc import Callable
from random import Random

import world
from questions import ASK_ZH, TELL, WHAT, WRITE, WRITE_ZH, Item, Task

UNCOUNTED = world.words(
    "water milk tea coffee juice lemonade cocoa wine beer gold silver iron copper tin lead zinc garlic celery lettuce"
    " red blue green yellow black white brown purple pink grey spinach"
)


def article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


def counted(noun: str) -> str:
    return noun if noun in UNCOUNTED else article(noun)


def one_of(items: tuple[Item, ...]) -> Callable[[Random], Item]:
    return lambda rng: rng.choice(items)


def same(key: str, **slots: str) -> Item:
    """An item whose slots read the same in both languages."""
    return Item(key, slots, slots)


ANIMAL_SOUNDS = tuple(
    Item(r[0], {"it": article(r[0]), "name": r[0], "x": r[2]}, {"it": r[1], "x": r[3]}) for r in world.ANIMALS
)
ANIMAL_YOUNG = tuple(
    Item(r[0], {"it": article(r[0]), "name": r[0], "x": r[5], "ax": article(r[5])}, {"it": r[1], "x": r[6]})
    for r in world.ANIMALS
)
ANIMAL_LEGS = tuple(
    Item(name, {"it": article(name), "name": name, "x": legs}, {"it": zh, "x": legs})
    for name, zh, legs in [(r[0], r[1], r[4]) for r in world.ANIMALS]
    + [(r[0], r[1], r[2]) for r in world.QUIET_ANIMALS]
)
ANIMAL_HOMES = tuple(
    Item(name, {"it": article(name), "name": name, "x": home}, {"it": zh, "x": home_zh})
    for name, zh, home, home_zh in [(r[0], r[1], r[7], r[8]) for r in world.ANIMALS]
    + [(r[0], r[1], r[3], r[4]) for r in world.QUIET_ANIMALS]
)


def countries(column: int) -> tuple[Item, ...]:
    """One item a country; `x` is the table's column (2 capital, 4 continent, 6 language)."""
    return tuple(Item(r[0], {"it": r[0], "x": r[column]}, {"it": r[1], "x": r[column + 1]}) for r in world.COUNTRIES)


COLOURS = tuple(
    Item(r[0], {"it": r[0], "be": r[2], "x": r[3], "It": capital(r[0])}, {"it": r[1], "x": r[4]})
    for r in world.COLOURED
)
OPPOSITES = tuple(
    Item(en_a, {"it": en_a, "x": en_b}, {"it": zh_a, "x": zh_b})
    for row in world.OPPOSITES
    for en_a, en_b, zh_a, zh_b in (row, (row[1], row[0], row[3], row[2]))
)
# scissors have no singular
USES = tuple(
    Item(r[0], {"it": r[0] if r[0] == "scissors" else article(r[0]), "x": r[2]}, {"it": r[1], "x": r[3]})
    for r in world.USES
)
JOBS = tuple(Item(r[0], {"it": article(r[0]), "name": r[0], "x": r[2]}, {"it": r[1], "x": r[3]}) for r in world.JOBS)
KINDS = tuple(
    Item(
        f"{category[0]} {en}",
        {"it": counted(en), "It": capital(counted(en)), "x": article(category[0])},
        {"it": zh, "x": category[2]},
    )
    for category, words in world.CATEGORIES.items()
    for en, zh in words
    if en not in {"orange", "scissors", "lead"}  # two meanings, or no singular
)
PLURALS = tuple(same(one, it=one, x=many) for one, many in world.PLURALS)


def neighbours(cycle: tuple[tuple[str, str], ...], step: int) -> tuple[Item, ...]:
    """For each of a cycle of (en, zh) names, the one `step` further on."""
    return tuple(
        Item(en, {"it": en, "x": cycle[(i + step) % len(cycle)][0]}, {"it": zh, "x": cycle[(i + step) % len(cycle)][1]})
        for i, (en, zh) in enumerate(cycle)
    )


MONTH_SEASONS = tuple(
    Item(en, {"it": en, "x": world.SEASONS[(i + 1) % 12 // 3][0]}, {"it": zh, "x": world.SEASONS[(i + 1) % 12 // 3][1]})
    for i, (en, zh) in enumerate(world.MONTHS)
)


def split_wordings(cell: str) -> tuple[str, ...]:
    return tuple(text.strip() for text in cell.split(";"))


SCIENCE = tuple(
    Item(
        r[1],
        {},
        {},
        ask={"en": split_wordings(r[0]), "zh": split_wordings(r[2])},
        answer={"en": r[1], "zh": r[3]},
    )
    for r in world.SCIENCE
)
X = {"en": "{x}", "zh": "{x}"}

TASKS = (
    Task(
        "animal_sound",
        one_of(ANIMAL_SOUNDS),
        {
            "en": (
                "What (sound|noise) does {it} make?",
                "Which (sound|noise) does {it} make?",
                "How does {it} (sound|call|cry)?",
                "What does {it} (do|say) when it makes a sound?",
                TELL + " (how {it} sounds|the sound of {it}|what sound {it} makes|what noise {it} makes).",
                "(Name|Give) the sound (this|the following) animal makes(.|:)(\n| ){name}",
                "What does {it} say?",
                "What kind of sound does {it} make?",
                "What does the voice of {it} sound like?",
            ),
            "zh": (
                ASK_ZH + "{it}(怎么叫|是怎么叫的|的叫声是什么|的叫声是什么样的|会发出什么声音)？",
                "{it}(怎样|如何)叫？",
                WRITE_ZH + "这种动物的叫声(。|：)(\n|){it}",
                "{it}叫起来是什么声音？",
                "{it}叫的声音是什么？",
            ),
        },
        {"en": "The {name} {x}.", "zh": "{it}{x}。"},
        follow={"en": "And {it}?", "zh": "{it}呢？"},
    ),
    Task(
        "animal_young",
        one_of(ANIMAL_YOUNG),
        {
            "en": (
                "What is (a baby|a young|the young of a|the child of a) {name} called?",
                "What do (we|you|people) call a (baby|young|little) {name}?",
                "What is the name (of|for) a (baby|young) {name}?",
                TELL + " what a (young|baby|little) {name} is called.",
                "(Name|Give) the young of (this|the following) animal(.|:)(\n| ){name}",
                "(What is|Name) the young of {it}?",
                "How do you call a (baby|young) {name}?",
                "Which word do we use for a baby {name}?",
                "What name do we give to a baby {name}?",
            ),
            "zh": (
                ASK_ZH + "{it}的(幼崽|宝宝|孩子|后代)(叫什么|是什么|怎么称呼)？",
                "小时候的{it}叫什么？",
                WRITE_ZH + "(这种|下面这种)动物的幼崽(。|：)(\n|){it}",
                "刚出生的{it}叫什么？",
                "一只小{it}应该叫什么？",
            ),
        },
        {"en": "A young {name} is called {ax}.", "zh": "{it}的幼崽叫{x}。"},
        short=X,
        follow={"en": "And a young {name}?", "zh": "那{it}的呢？"},
    ),
    Task(
        "animal_legs",
        one_of(ANIMAL_LEGS),
        {
            "en": (
                "How many legs does {it} have?",
                "How many legs (has {it} got|are on {it}|do you see on {it})?",
                "(What is|Tell me) the number of legs of {it}.",
                "(Count|Give) the (legs of {it}|number of legs of {it}).",
                TELL + " how many legs {it} has.",
                "(How many legs?|Number of legs:|Count the legs.)\n{name}",
                "On how many legs does {it} (walk|stand)?",
                "What number of legs does {it} have?",
                "Tell me, how many legs does {it} walk on?",
            ),
            "zh": (
                ASK_ZH + "{it}(有几条腿|有多少条腿|长了几条腿|一共有几条腿|共有多少条腿)？",
                "(数一数|请数一数){it}(的腿|有几条腿)。",
                "(几条腿？|多少条腿？)\n{it}",
                "{it}身上有几条腿？",
                "{it}走路用几条腿？",
            ),
        },
        {"en": "The {name} has {x} legs.", "zh": "{it}有{x}条腿。"},
        short=X,
        follow={"en": "And {it}?", "zh": "{it}呢？"},
    ),
    Task(
        "animal_home",
        one_of(ANIMAL_HOMES),
        {
            "en": (
                "Where does {it} (live|make its home|sleep and live)?",
                "Where is the home of {it}?",
                "Where (can|could|would|do|should) (I|we|you) (find|see|look for|search for) {it}?",
                "In (what|which) place does {it} live?",
                TELL + " where {it} lives.",
                "(Say|Tell me|Write) where (this|the following) animal lives(.|:)(\n| ){name}",
                "(What is|Name) the home of {it}?",
                "Where do you have to go to meet {it}?",
                "In which place would you find {it}?",
            ),
            "zh": (
                ASK_ZH + "{it}(住在哪里|住在哪儿|住在什么地方|生活在哪里|在哪里生活|的家在哪里)？",
                "(在|)(哪里|哪儿|什么地方)(能|可以)(找到|看到){it}？",
                WRITE_ZH + "(这种|下面这种)动物住在哪里(。|：)(\n|){it}",
                "{it}在哪儿安家？",
                "{it}平时住在什么地方？",
            ),
        },
        {"en": "The {name} lives {x}.", "zh": "{it}住在{x}。"},
        follow={"en": "And {it}?", "zh": "{it}呢？"},
    ),
    Task(
        "capital",
        one_of(countries(2)),
        {
            "en": (
                WHAT + " the capital( city|) of {it}?",
                "(What is|What's|Tell me|Name) {it}'s capital( city|)?",
                "Which (city|town) is the capital of {it}?",
                TELL + " (which city is the capital of {it}|what the capital of {it} is).",
                WRITE + " the capital of (this|the following) country(.|:)(\n| ){it}",
                "(Capital of {it}?|{it}: what is the capital?|The capital of {it}?|The capital of {it} is?)",
                "The capital of {it} is which city?",
                "Which city do we call the capital of {it}?",
            ),
            "zh": (
                ASK_ZH + "{it}的首都(是什么|是哪里|是哪儿|在哪里|叫什么|是哪个城市|是哪座城市)？",
                "(哪个城市|哪里|哪座城市)是{it}的首都？",
                WRITE_ZH + "(这个|下面这个)国家的首都(。|：)(\n|){it}",
                "(请说出|说出|写出){it}的首都。",
                "{it}首都(是|在)(哪里|哪儿)？",
                "{it}这个国家的首都是哪里？",
                "{it}的首都是哪一个城市？",
            ),
        },
        {"en": "The capital of {it} is {x}.", "zh": "{it}的首都是{x}。"},
        short=X,
        follow={"en": "And of {it}?", "zh": "{it}呢？"},
        weight=1.5,
    ),
    Task(
        "country_of_capital",
        one_of(countries(2)),
        {
            "en": (
                "{x} is the capital of (which|what) country?",
                "Of which country is {x} the capital?",
                "(Which|What) country has (the capital {x}|{x} as its capital|{x} as capital)?",
                TELL
                + " (which country {x} is the capital of|which country has the capital {x}|of which country {x} is the capital).",
                "(Which|What) country does this capital belong to?\n{x}",
                "(Which|What) country's capital is {x}?",
                "To which country does the capital {x} belong?",
                "The city of {x} is the capital of which country?",
            ),
            "zh": (
                ASK_ZH + "{x}是(哪个国家|什么国家|哪国)的首都？",
                "(哪个国家|什么国家|哪国)的首都(是|叫){x}？",
                "首都(是|叫){x}的(是哪个|是什么)国家？",
                "(以|把){x}(为|作为)首都的(国家是哪个|是哪个国家)？",
                "这个首都属于(哪个|什么)国家？\n{x}",
                "{x}这个首都属于哪个国家？",
                "{x}这座城市是哪个国家的首都？",
            ),
        },
        {"en": "{x} is the capital of {it}.", "zh": "{x}是{it}的首都。"},
        short={"en": "{it}", "zh": "{it}"},
    ),
    Task(
        "continent",
        one_of(countries(4)),
        {
            "en": (
                "(On|In) which continent is {it}?",
                "(Which|What) continent is {it} (in|on|part of)?",
                "(Which|What) continent does {it} (belong to|lie in)?",
                "In which part of the world (is|lies) {it}?",
                TELL + " (which continent {it} is in|the continent of {it}|on which continent {it} is).",
                WRITE + " the continent of (this|the following) country(.|:)(\n| ){it}",
                "On which continent can I find {it}?",
                "{it} is a country on which continent?",
            ),
            "zh": (
                ASK_ZH + "{it}(在哪个洲|属于哪个洲|属于哪个大洲|位于哪个洲|在哪个大洲|是哪个洲的国家)？",
                "(哪个洲|哪个大洲)有{it}？",
                WRITE_ZH + "(这个|下面这个)国家所在的洲(。|：)(\n|){it}",
                "{it}在世界的哪个大洲上？",
                "{it}这个国家在哪个洲？",
            ),
        },
        {"en": "{it} is in {x}.", "zh": "{it}在{x}。"},
        short=X,
        follow={"en": "And {it}?", "zh": "{it}呢？"},
    ),
    Task(
        "language",
        one_of(countries(6)),
        {
            "en": (
                "(What|Which) language do (people|they|we) speak in {it}?",
                "(What|Which) language is spoken in {it}?",
                "(What is|Name|Tell me) the language of {it}?",
                "What do people (speak in {it}|in {it} speak)?",
                TELL + " (which language people speak in {it}|the language of {it}|what they speak in {it}).",
                WRITE + " the language of (this|the following) country(.|:)(\n| ){it}",
                "(What|Which) language do people (use|talk) in {it}?",
                "If I go to {it}, which language will people speak?",
                "Which language is used in {it}?",
            ),
            "zh": (
                ASK_ZH + "{it}(人说什么语言|说什么语言|人说什么话|的语言是什么|人讲什么话|讲什么语言|使用什么语言)？",
                "(在{it}|在{it}人们)(说|讲)(什么|哪种)(语言|话)？",
                WRITE_ZH + "(这个|下面这个)国家的语言(。|：)(\n|){it}",
                "去{it}要说什么语言？",
                "{it}的人民说什么语言？",
            ),
        },
        {"en": "People in {it} speak {x}.", "zh": "{it}人说{x}。"},
        short=X,
        follow={"en": "And in {it}?", "zh": "{it}呢？"},
    ),
    Task(
        "colour",
        one_of(COLOURS),
        {
            "en": (
                "(What|Which) (colour|color) {be} {it}?",
                "(What is|Tell me|Name|Say|What's) the (colour|color) of {it}?",
                TELL + " (what colour {it} {be}|which colour {it} {be}|what color {it} {be}).",
                "(Name|Give|Write|Say) the (usual |)(colour|color)(.|:)(\n| ){it}",
                "(What|Which) (colour|color) does {it} have?",
                "{It}: (what|which) colour?",
                "In which colour do we see {it}?",
                "What is the usual colour of {it}?",
            ),
            "zh": (
                ASK_ZH + "{it}(是什么颜色|是什么颜色的|的颜色是什么|有什么颜色|一般是什么颜色|是哪种颜色)？",
                "(什么颜色|哪种颜色)是{it}的颜色？",
                WRITE_ZH + "(通常的|)颜色(。|：)(\n|){it}",
                "我们看到的{it}是哪种颜色的？",
                "{it}通常是什么颜色的？",
            ),
        },
        {"en": "{It} {be} {x}.", "zh": "{it}是{x}的。"},
        short=X,
        follow={"en": "And {it}?", "zh": "{it}呢？"},
        weight=1.5,
    ),
    Task(
        "opposite",
        one_of(OPPOSITES),
        {
            "en": (
                WHAT + " the opposite of {it}?",
                "(What|Which) (word|is the word that) (is|means) the opposite of {it}?",
                "(What|Which) is the opposite of (the word |){it}?",
                TELL + " (what the opposite of {it} is|which word is the opposite of {it}).",
                "(Write|Give|Name|Find) the opposite of (this|the following) word(.|:)(\n| ){it}",
                "(The opposite of {it} is?|Opposite of {it}?|What is not {it} but the opposite?)",
                "(What|Which word) is opposite to {it}?",
                "Which word says the opposite of {it}?",
                "Please give me the opposite of the word {it}.",
            ),
            "zh": (
                ASK_ZH + "(“{it}”|{it})的(反义词|相反词|反面|对立面)(是什么|是哪个|是)？",
                "(和|与|跟)(“{it}”|{it})(相反|意思相反|相对)的(词|词语)是(什么|哪个)？",
                "(请说出|说出|写出|给出)(“{it}”|{it})的(反义词|相反词)。",
                WRITE_ZH + "(这个|下面这个)词的反义词(。|：)(\n|){it}",
                "“{it}”反过来的意思是哪个词？",
                "哪个词是“{it}”的反义词？",
            ),
        },
        {"en": "The opposite of {it} is {x}.", "zh": "“{it}”的反义词是“{x}”。"},
        short=X,
        follow={"en": "And of {it}?", "zh": "“{it}”呢？"},
        weight=2.5,
        quoted="{it}",
    ),
    Task(
        "use",
        one_of(USES),
        {
            "en": (
                "(What|For what) do (we|you|people) use {it}( for|)?",
                "What is {it} (used |good |)for?",
                "What (can|do|could) (I|we|you|people) do with {it}?",
                "Why do (we|you|people) (need|have|use) {it}?",
                TELL + " what {it} is (used |)for.",
                "What is this (used |)for?\n{it}",
                "(What is|Name|Tell me) the use of {it}?",
                "For which purpose do people have {it}?",
                "Tell me why people use {it}.",
            ),
            "zh": (
                ASK_ZH + "{it}(是用来做什么的|是做什么用的|有什么用|可以用来做什么|能用来做什么|的用途是什么)？",
                "(我们|人们|大家)(用{it}做什么|为什么需要{it}|拿{it}做什么)？",
                "(这个|下面这个)东西有什么用？\n{it}",
                "(请说说|说说){it}的(用途|用处)。",
                "人们买{it}来做什么？",
                "{it}的作用是什么？",
            ),
        },
        {"en": "We use {it} to {x}.", "zh": "{it}是用来{x}的。"},
        follow={"en": "And {it}?", "zh": "{it}呢？"},
        weight=1.5,
    ),
    Task(
        "job",
        one_of(JOBS),
        {
            "en": (
                "What does {it} do( at work| every day| all day|)?",
                "(What is|Tell me|Describe|Explain) the (work|job) of {it}.",
                TELL + " what {it} does.",
                "(Describe|Explain) (this|the following) job(.|:)(\n| ){name}",
                "What (work|job) does {it} do?",
                "What is {it} doing at work?",
                "How does {it} spend the working day?",
                "What kind of work does {it} do?",
            ),
            "zh": (
                ASK_ZH + "{it}(是做什么的|做什么工作|的工作是什么|每天做什么|做什么|负责做什么|干什么)？",
                "(描述|解释|说明)(这个|下面这个)职业(。|：)(\n|){it}",
                "(请说说|说说){it}(做什么|的工作)。",
                "{it}上班时干些什么？",
                "{it}平时做什么工作？",
            ),
        },
        {"en": "The {name} {x}.", "zh": "{it}的工作是{x}。"},
        follow={"en": "And {it}?", "zh": "{it}呢？"},
    ),
    Task(
        "kind",
        one_of(KINDS),
        {
            "en": (
                "What is {it}?",
                "What (kind|sort|type) of thing is {it}?",
                "What's {it}?",
                "(" + TELL + "|Can you explain|Explain) what {it} is.",
                "(Name|Give|Write) the category(.|:)(\n| ){it}",
                "(What|Which) (category|group) does {it} belong to?",
                "What do we call {it}?",
                "Please explain to me what {it} may be?",
                "Say what kind of thing {it} is.",
            ),
            "zh": (
                ASK_ZH + "{it}是(什么|什么东西|哪一类|哪种东西|什么东西呢)？",
                "{it}(属于|是)(哪一类|什么类|哪个类别|什么类别)？",
                "(你能|能|请|可以)(解释|说明)(一下|){it}是什么(吗？|。)",
                "你知道{it}是什么吗？",
                WRITE_ZH + "(类别|种类)(。|：)(\n|){it}",
                "{it}到底是一种什么呢？",
                "请问{it}是哪一类的东西？",
            ),
        },
        {"en": "{It} is {x}.", "zh": "{it}是一种{x}。"},
        weight=2,
    ),
    Task(
        "plural",
        one_of(PLURALS),
        {
            "en": (
                WHAT + " the plural( form|) of {it}?",
                "(Write|Form|Make|Build) the plural( form|) of {it}.",
                "How do (you|I|we) (write|say) more than one {it}?",
                TELL + " what the plural of {it} is.",
                "(Write|Give|Form) the plural of (this|the following) word(.|:)(\n| ){it}",
                "(One {it}, two what?|One {it}, many what?|Plural of {it}?)",
                "What does {it} become in the plural?",
                "Which word is the plural of {it}?",
                "What do we write for more than one {it}?",
            ),
            "zh": (
                ASK_ZH + "(单词|英语单词|) {it} 的(复数|复数形式)(是什么|怎么写|怎么说|是哪个)？",
                "(写出|请写出|说出|请说出)(单词|) {it} 的(复数|复数形式)。",
                "(写出|给出|请写出)(这个|下面这个)(单词|词)的复数(。|：)(\n|){it}",
                "{it} (变成复数|变为复数)(怎么写|是什么)？",
                "把 {it} 变成复数会是什么？",
                "一个以上的 {it} 应该怎么写？",
            ),
        },
        {"en": "The plural of {it} is {x}.", "zh": "{it} 的复数是 {x}。"},
        short=X,
        follow={"en": "And of {it}?", "zh": "{it} 呢？"},
        weight=1.5,
        quoted="{it}",
    ),
    *(
        Task(
            f"{unit}_{side}",
            one_of(neighbours(cycle, step)),
            {
                "en": (
                    f"(What|Which) {unit} (comes|is|falls)( right| directly|) {side} {{it}}?",
                    WHAT + f" the {unit} {side} {{it}}?",
                    TELL + f" (which|what) {unit} (comes|is) {side} {{it}}.",
                    f"(Which|What) {unit} comes {side} this one?\n{{it}}",
                    f"What (comes|is) {side} {{it}}?",
                    f"If today is in {{it}}, which {unit} is {side} it?"
                    if unit == "month"
                    else f"If today is {{it}}, which day is {side} it?",
                    f"Please tell me which {unit} we have {side} {{it}}.",
                ),
                "zh": (
                    ASK_ZH + f"{{it}}的{zh_next}(是{zh_which}|是什么|是哪个|是)？",
                    f"(请说出|说出|写出){{it}}的{zh_next}。",
                    f"{{it}}(之后|后面)的{zh_next}(是什么|是{zh_which})？"
                    if step == 1
                    else f"{{it}}(之前|前面)的{zh_next}(是什么|是{zh_which})？",
                    WRITE_ZH + f"{zh_next}(。|：)(\n|){{it}}",
                    f"现在是{{it}}，{zh_next}是{zh_which}？",
                    f"请你说说{{it}}的{zh_next}是{zh_which}。",
                ),
            },
            {"en": f"The {unit} {side} {{it}} is {{x}}.", "zh": f"{{it}}的{zh_next}是{{x}}。"},
            short=X,
            follow={"en": f"And {side} {{it}}?", "zh": "{it}呢？"},
            weight=0.7,
        )
        for unit, side, cycle, step, zh_next, zh_which in (
            ("day", "after", world.DAYS, 1, "后一天", "星期几"),
            ("day", "before", world.DAYS, -1, "前一天", "星期几"),
            ("month", "after", world.MONTHS, 1, "下一个月", "几月"),
            ("month", "before", world.MONTHS, -1, "上一个月", "几月"),
        )
    ),
    Task(
        "season",
        one_of(MONTH_SEASONS),
        {
            "en": (
                "In (which|what) season is {it}?",
                "(Which|What) season is {it}( in|)?",
                "(Which|What) season does {it} belong to?",
                "Is {it} in spring, summer, autumn or winter?",
                "(" + TELL + " the season of {it}.|" + TELL + " in which season {it} is.)",
                WRITE + " the season of (this|the following) month(.|:)(\n| ){it}",
                "To which season does {it} belong?",
                "{it} is a month of which season?",
            ),
            "zh": (
                ASK_ZH + "{it}(是什么季节|是哪个季节|在哪个季节|属于什么季节|属于哪个季节)？",
                "{it}是春天、夏天、秋天还是冬天？",
                WRITE_ZH + "(这个月|这个月份)的季节(。|：)(\n|){it}",
                "{it}是一年中的哪个季节？",
                "{it}是哪个季节的月份？",
            ),
        },
        {"en": "{it} is in {x}.", "zh": "{it}是{x}。"},
        short=X,
        follow={"en": "And {it}?", "zh": "{it}呢？"},
        weight=0.7,
    ),
    Task("science", one_of(SCIENCE), {"en": (), "zh": ()}, {}, held_out="nothing", weight=2),
)
