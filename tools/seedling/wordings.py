# ruff: noqa: E501  (one wording, or one entry of a table, a line)
"""Language tasks: translate, judge, pick out, shorten; and short stories and lists, which have many right answers."""

import re
from collections import Counter
from random import Random

import world
from facts import X, article, one_of
from questions import ASK_ZH, WHAT, Item, Task


def translations() -> tuple[tuple[str, str], ...]:
    """Word pairs that are unambiguous both ways."""
    found = {pair for words in (world.WORDS, *world.CATEGORIES.values(), world.THINGS) for pair in words}
    found |= {(en, zh) for row in world.OPPOSITES for en, zh in (row[::2], row[1::2])}
    en_count = Counter(en for en, _ in found)
    zh_count = Counter(zh for _, zh in found)
    return tuple(sorted((en, zh) for en, zh in found if en_count[en] == 1 and zh_count[zh] == 1))


WORD_PAIRS = translations()
TRANSLATED = tuple(Item(en, {"en": en, "zh": zh}, {"en": en, "zh": zh}) for en, zh in WORD_PAIRS)
CLASSES = tuple((kind, words) for kind, words in world.CATEGORIES.items() if len(words) >= 8)


def draw_review(rng: Random) -> Item:
    good = rng.random() < 0.5
    en, zh = rng.choice(world.POSITIVE if good else world.NEGATIVE)
    en_thing, zh_thing = rng.choice(world.REVIEWED)
    en_frame = rng.choice(
        ("The {0} was {1}.", "I think the {0} is {1}.", "What a {0}! It was {1}.", "This {0} is really {1}.")
    )
    zh_frame = rng.choice(("这次的{0}{1}。", "我觉得{0}{1}。", "这个{0}真的{1}。", "{0}{1}，我这样认为。"))
    return Item(
        f"{en} {en_thing}",
        {"text": en_frame.format(en_thing, en), "x": "positive" if good else "negative"},
        {"text": zh_frame.format(zh_thing, zh), "x": "正面" if good else "负面"},
    )


def draw_odd_one(rng: Random) -> Item:
    (kind, words), (_, strangers) = rng.sample(CLASSES, 2)
    stranger = rng.choice([pair for pair in strangers if pair not in words])
    fellows = rng.sample([pair for pair in words if pair[0] not in AMBIGUOUS], 3)
    shown = [*fellows, stranger]
    rng.shuffle(shown)
    return Item(
        " ".join(sorted(en for en, _ in shown)),
        {"list": ", ".join(en for en, _ in shown), "x": stranger[0], "kind": kind[1]},
        {"list": "、".join(zh for _, zh in shown), "x": stranger[1], "kind": kind[2]},
    )


AMBIGUOUS = {"orange", "violet", "rose", "lead", "star", "heart"}
VISITS = (
    ("{0} went {1} yesterday.", "昨天{0}去了{1}。"),
    ("This morning {0} was {1}.", "今天早上{0}在{1}。"),
    ("I met {0} {1}.", "我在{1}遇见了{0}。"),
    ("My friend {0} likes to play {1}.", "我的朋友{0}喜欢在{1}玩。"),
    ("{0} found a coin {1}.", "{0}在{1}找到了一枚硬币。"),
    ("We saw {0} {1} last week.", "上周我们在{1}看到了{0}。"),
)


def draw_named(rng: Random) -> Item:
    name, place, frame = rng.choice(world.NAMES), rng.choice(world.PLACES), rng.choice(VISITS)
    where = re.sub("^(in|on|by|at) the", "to the", place[0])
    return Item(
        f"{name[0]} {place[0]} {frame[0]}",
        {"text": frame[0].format(name[0], where if "went" in frame[0] else place[0]), "x": name[0]},
        {"text": frame[1].format(name[1], place[1]), "x": name[1]},
    )


DEEDS = (
    ("gave it to a friend", "gave it away", "把它送给了朋友", "送给了朋友"),
    ("took it home", "kept it", "把它带回了家", "带回了家"),
    ("lost it on the way", "lost it", "在路上把它弄丢了", "又弄丢了"),
    ("sold it at the market", "sold it", "在市场上把它卖了", "卖掉了"),
    ("hid it under a tree", "hid it", "把它藏在树下", "藏了起来"),
)
WHENS = (("One day", "有一天"), ("Yesterday", "昨天"), ("In the morning", "早上"), ("Last summer", "去年夏天"))


def draw_summary(rng: Random) -> Item:
    hero, place, thing = rng.choice(world.HEROES), rng.choice(world.PLACES), rng.choice(world.THINGS)
    deed, when, trait = rng.choice(DEEDS), rng.choice(WHENS), rng.choice(world.TRAITS)
    found = f"found {article(thing[0])}"
    return Item(
        f"{hero[0]} {place[0]} {thing[0]} {deed[0]}",
        {
            "text": f"{when[0]} a {hero[0]} {found} {place[0]}. Then the {trait[0]} {hero[0]} {deed[0]}.",
            "x": f"The {hero[0]} {found} and {deed[1]}.",
        },
        {
            "text": f"{when[1]}，{hero[1]}在{place[1]}找到了{thing[1]}。后来{trait[1]}{hero[1]}{deed[2]}。",
            "x": f"{hero[1]}找到了{thing[1]}，{deed[3]}。",
        },
    )


def draw_list(rng: Random) -> Item:
    kind, words = rng.choice([(kind, words) for kind, words in CLASSES if kind[0] != "family member"])
    # three in the table's order, round its end: a sampled list would now and then name a word twice
    start = rng.randrange(len(words))
    chosen = (words * 2)[start : start + 3]
    return Item(
        kind[0],
        {"kinds": kind[1], "x": "{}, {} and {}".format(*(en for en, _ in chosen))},
        {"kinds": kind[2], "x": "{}、{}和{}".format(*(zh for _, zh in chosen))},
    )


TASKS = (
    Task(
        "translate_to_chinese",
        one_of(TRANSLATED),
        {
            "en": (
                "(What is|What's|What does|Tell me|Say|How do you say|How do I say|How do you write)( the word|) {en} in Chinese?",
                "(Translate|Please translate|Put)( the word|) {en} (into|to) Chinese.",
                "(Translate|Put) (this word |the word |)(into|to) Chinese(.|:)(\n| ){en}",
                WHAT + " the Chinese( word|) for {en}?",
                "Which (Chinese word|word in Chinese) means {en}?",
                "(Can|Could) you translate {en} (into|to) Chinese?",
                "{en} in Chinese?",
                "What does {en} mean in Chinese?",
                "Which word do Chinese people use for {en}?",
                "I want to know what {en} is in Chinese.",
            ),
            "zh": (
                ASK_ZH + "(单词|英语单词|) {en} (是什么意思|的意思是什么|用中文怎么说|的中文是什么|用汉语怎么说)？",
                "(把|请把|将)(单词|) {en} (翻译成中文|译成中文|翻译为中文|翻译成汉语)。",
                "(翻译|请翻译)(单词|) {en}。",
                "(翻译成中文|译成中文|请翻译成中文)(。|：)(\n|){en}",
                "中文里 {en} 怎么说？",
                "请用中文告诉我 {en} 的意思。",
            ),
        },
        {"en": "In Chinese, {en} is {zh}.", "zh": "{en} 的中文是{zh}。"},
        short={"en": "{zh}", "zh": "{zh}"},
        follow={"en": "And {en}?", "zh": "{en} 呢？"},
        weight=6,
        quoted="{en}",
    ),
    Task(
        "translate_to_english",
        one_of(TRANSLATED),
        {
            "en": (
                "(What is|What's|Tell me|Say|How do you say|How do I say|How do you write) {zh} in English?",
                "What does {zh} mean( in English|)?",
                "(Translate|Please translate|Put) {zh} (into|to) English.",
                "(Translate|Put) (this word |the word |)(into|to) English(.|:)(\n| ){zh}",
                WHAT + " the English( word|) for {zh}?",
                "Which (English word|word in English) means {zh}?",
                "(Can|Could) you translate {zh} (into|to) English?",
                "{zh} in English?",
                "Which word do English people use for {zh}?",
                "I want to know what {zh} is in English.",
            ),
            "zh": (
                ASK_ZH
                + "(“{zh}”|{zh})(用英语怎么说|用英文怎么说|的英文是什么|的英语是什么|的英语单词是什么|英语怎么说|用英语怎么写)？",
                "(把|请把|将)(“{zh}”|{zh})(翻译成英文|翻译成英语|译成英文|翻译为英语)。",
                "(翻译成英文|翻译成英语|译成英文|请翻译成英文)(。|：)(\n|){zh}",
                "英语里“{zh}”怎么说？",
                "请用英文说出“{zh}”。",
            ),
        },
        {"en": "In English, {zh} is {en}.", "zh": "{zh}的英文是 {en}。"},
        short={"en": "{en}", "zh": "{en}"},
        follow={"en": "And {zh}?", "zh": "{zh}呢？"},
        weight=6,
        quoted="{zh}",
    ),
    Task(
        "sentiment",
        draw_review,
        {
            "en": (
                "Is (this|the|the following) (sentence|text|review|comment) (positive or negative|negative or positive)?\n{text}",
                "(Classify the sentiment.|What is the sentiment?|Sentiment:|Positive or negative?|Positive or negative:)(\n| ){text}",
                "(What is|Tell me) the sentiment of (this|the following) (sentence|text|review): {text}",
                "(Say|Tell me|Decide) (whether|if) this( sentence| review|) is positive or negative(.|:)(\n| ){text}",
                "Classify (this|the) (review|sentence|text)( as positive or negative|)(.|:)(\n| ){text}",
                "Does the writer of this sentence feel good or bad? Positive or negative?\n{text}",
                "Please judge whether the following review is positive or negative.\n{text}",
            ),
            "zh": (
                "(这句话|这个句子|这条评论|下面的话)是(正面还是负面|正面的还是负面|负面还是正面)的？\n{text}",
                "(判断情感|判断这句话的情感|情感分类|正面还是负面|给这条评论的情感分类)(。|：|？)(\n|){text}",
                "(这句话|这个句子)的情感是什么(：|？){text}",
                "(请判断|判断|请说出)(这句话|这条评论)是正面还是负面(。|：)(\n|){text}",
                "说这句话的人是正面还是负面的态度？\n{text}",
                "请问下面的评论是正面的还是负面的？\n{text}",
            ),
        },
        {"en": "The sentence is {x}.", "zh": "这句话是{x}的。"},
        short=X,
        held_out="arguments",
        weight=1.5,
    ),
    Task(
        "odd_one_out",
        draw_odd_one,
        {
            "en": (
                "(Which|What)( word| one|) is the odd one out(: |? ){list}?",
                "(Find|Pick|Name|Choose|Which is) the odd one out(.|:)(\n| ){list}",
                "Which( one| word| of these|) (does not belong|does not fit|is different)(: |? ){list}?",
                "Which( one| word|) (does not belong|does not fit|is different)?\n{list}",
                "One of these words is not like the others: {list}. Which one?",
                "Please tell me which word is the odd one out: {list}",
            ),
            "zh": (
                "(哪个词|哪个|哪一个)(与其他不同|和其他的不同|不属于同一类|不一样|不同)：{list}？",
                "(找出|选出|请找出|说出)(不同类的词|不同的一个|不同的词|不合群的词|不一样的词)(。|：)(\n|){list}",
                "(下面|这些词里|以下)(哪个|哪个词)(不一样|不同|不是同类)：{list}？",
                "(哪个词不同|哪个不一样)？\n{list}",
                "{list}，这里面哪个词不是同类？",
                "请指出哪个词和其他词不同类：{list}",
            ),
        },
        {"en": "The odd one out is {x}; the others are {kind}.", "zh": "不同的是{x}，其他都是{kind}。"},
        held_out="arguments",
        weight=4,
    ),
    Task(
        "extract_name",
        draw_named,
        {
            "en": (
                "(Who is|Which person is|Which name is|What name is) in (this|the|the following) (sentence|text)?\n{text}",
                "(Find|Extract|Give|Write|Tell me) the( person's|) name( in this sentence| from the sentence| from this text|)(.|:)(\n| ){text}",
                "(Which|What) name is in this sentence: {text}",
                "Who is (this sentence|it) about?\n{text}",
                "What name does this sentence mention?\n{text}",
                "Which person does the text speak of?\n{text}",
                "Please find the name of the person in this text.\n{text}",
            ),
            "zh": (
                "(这句话里|句子里|下面的句子里)(的人是谁|有谁|的人名是什么|有谁的名字)？\n{text}",
                "(找出|提取|请找出|写出|说出)(句子里的|这句话里的|)(名字|人名)(。|：)(\n|){text}",
                "这句话(里有谁的名字|说的是谁|提到了谁|讲的是谁)(：|？\n){text}",
                "下面的话讲了哪个人？\n{text}",
                "请从句子中找出人名。\n{text}",
            ),
        },
        {"en": "The name is {x}.", "zh": "名字是{x}。"},
        short=X,
        held_out="arguments",
        weight=1.5,
    ),
    Task(
        "summarise",
        draw_summary,
        {
            "en": (
                "(Summarise|Summarize|Shorten) (this|the|the following) (story|text)( in one sentence|)(.|:)(\n| ){text}",
                "(Make this shorter|Say this in one sentence|Put this in one sentence|Shorten)(.|:)(\n| ){text}",
                "(Give|Write) (a|me a) (short|one-sentence|brief) summary( of this story|)(.|:)(\n| ){text}",
                "(What happens in this story|What is this story about)?\n{text}",
                "Tell me briefly, in one sentence, what happened here.\n{text}",
                "Please shorten this story to one sentence.\n{text}",
            ),
            "zh": (
                "(用一句话|简短地|请用一句话)(概括|总结)(这个故事|这段话|下面的文字|)(。|：)(\n|){text}",
                "(把这段话缩短|缩短这段话|概括这段文字|总结这段话|概括)(。|：)(\n|){text}",
                "(请写|写)一个(简短的|一句话的)(总结|摘要)(。|：)(\n|){text}",
                "用一句话说：{text}",
                "这段话讲了什么？\n{text}",
                "把下面的内容压缩成一句话。\n{text}",
                "请把下面的故事概括成一句话。\n{text}",
            ),
        },
        {"en": "{x}", "zh": "{x}"},
        held_out="arguments",
        weight=2,
    ),
    Task(
        "list_three",
        draw_list,
        {
            "en": (
                "(Name|Give me|List|Tell me|Write down|Say) three {kinds}.",
                "(Tell me|Give me) the names of three {kinds}.",
                "(Can|Could) you (name|list) three {kinds}?",
                "Which three {kinds} (do you know|can you name)?",
                "What are three {kinds}?",
                "I need the names of three different {kinds}.",
                "Please name any three {kinds}.",
            ),
            "zh": (
                "(说出|请说出|列出|请列出|告诉我|写出|举出)三种{kinds}。",
                "举三个{kinds}的例子。",
                "(你知道|请问)(哪三种|有哪三种){kinds}？",
                "你能(说出|列出)三种{kinds}吗？",
                "三种{kinds}(有哪些|是什么)？",
                "我想知道三种不同的{kinds}。",
                "请随便说出三种{kinds}。",
            ),
        },
        {"en": "Three {kinds} are {x}.", "zh": "三种{kinds}是{x}。"},
    ),
)
