# ruff: noqa: E501  (one wording, or one entry of a table, a line)
"""Short stories from a small grammar, asked for by hero, place and thing."""

from random import Random

import world
from facts import article
from questions import Item, Lang, Task

# every story takes one line of each act; {0} hero, {1} place, {2} thing, {3} trait, {4} friend
ACTS: dict[Lang, tuple[tuple[str, ...], ...]] = {
    "en": (
        (
            "Once upon a time there was a {3} {0} who lived {1}.",
            "Long ago a {3} {0} lived {1}.",
            "There was once a {3} {0} {1}.",
        ),
        (
            "One morning the {0} found {2t} in the grass.",
            "One day the {0} saw {2t} under a tree.",
            "One evening the {0} discovered {2t} near the road.",
            "After the rain the {0} came upon {2t}.",
        ),
        (
            "The {0} did not know who had lost the {2}.",
            '"Whose {2} is this?" asked the {0}.',
            "The {0} wanted to keep the {2}, but it was not right.",
            "The {2} was old and very beautiful.",
        ),
        (
            "Then a {4} came by and began to cry.",
            "Just then a {4} came along and looked everywhere.",
            'Soon a {4} came and said, "I lost my {2}!"',
            "A {4} sat nearby and was very sad.",
        ),
        (
            "The {0} gave the {2} back, and the {4} smiled.",
            "So the {0} gave the {2} to the {4}.",
            '"Here is your {2}", said the {0}, and the {4} laughed with joy.',
            "The {0} shared the {2} with the {4}.",
        ),
        (
            "From that day on they were good friends.",
            "They played together until the sun went down.",
            "The {0} went home happy.",
            "And so the {0} learned that it is good to help.",
        ),
    ),
    "zh": (
        ("从前，{1}住着{3}{0}。", "很久以前，{3}{0}住在{1}。", "从前有{3}{0}，家在{1}。"),
        (
            "一天早上，{0}在草丛里找到了{2}。",
            "有一天，{0}在树下看到了{2}。",
            "一天傍晚，{0}在路边发现了{2}。",
            "雨后，{0}遇到了一样东西：{2}。",
        ),
        ("{0}不知道是谁丢了{2}。", "“这是谁的{2}？”{0}问。", "{0}想留下{2}，可是这样不对。", "这个{2}又旧又漂亮。"),
        (
            "这时{4}走过来，哭了起来。",
            "正在这时，{4}来了，到处寻找。",
            "不久{4}来了，说：“我的{2}丢了！”",
            "{4}坐在旁边，非常难过。",
        ),
        (
            "{0}把{2}还给了{4}，{4}笑了。",
            "于是{0}把{2}给了{4}。",
            "“这是你的{2}。”{0}说，{4}高兴地笑了。",
            "{0}和{4}一起分享{2}。",
        ),
        ("从那天起，他们成了好朋友。", "他们一起玩到太阳下山。", "{0}高兴地回家了。", "{0}明白了：帮助别人是好事。"),
    ),
}


def tell(rng: Random, lang: Lang, hero: str, place: str, thing: str) -> str:
    side = 0 if lang == "en" else 1
    trait = rng.choice(world.TRAITS)[side]
    friend = rng.choice([pair[side] for pair in world.HEROES if pair[side] != hero])
    lines = [rng.choice(act) for act in ACTS[lang]]
    # {2t} is the thing with its article; English only
    text = (" " if lang == "en" else "").join(lines).replace("{2t}", article(thing))
    text = text.format(hero, place, thing, trait, friend)
    return text.replace(" a old ", " an old ").replace(" a owl", " an owl").replace("A owl", "An owl")


# so that a story can be about what the usual ones are not about
OTHER_HEROES = tuple(
    pair for kind, words in world.CATEGORIES.items() if kind[0] in {"animal", "job", "family member"} for pair in words
)
OTHER_THINGS = tuple(
    pair
    for kind, words in world.CATEGORIES.items()
    if kind[0] in {"fruit", "vegetable", "tool", "musical instrument", "flower", "vehicle"}
    for pair in words
)


def draw_story(rng: Random) -> Item:
    hero, place, thing = rng.choice(world.HEROES), rng.choice(world.PLACES), rng.choice(world.THINGS)
    if rng.random() < 0.3:
        hero, thing = rng.choice(OTHER_HEROES), rng.choice(OTHER_THINGS)
    return Item(
        f"{hero[0]} {place[0]} {thing[0]}",
        {"hero": hero[0], "a_hero": article(hero[0]), "place": place[0], "thing": thing[0], "a_thing": article(thing[0]),
         "x": tell(rng, "en", hero[0], place[0], thing[0])},
        {"hero": hero[1], "place": place[1], "thing": thing[1], "x": tell(rng, "zh", hero[1], place[1], thing[1])},
    )  # fmt: skip


TASKS = (
    Task(
        "story",
        draw_story,
        {
            "en": (
                "(Tell|Write|Make up)( me|) a( short| little|) story about {a_hero}.",
                "(Tell|Write)( me|) a( short|) story about {a_hero} and {a_thing}.",
                "(Tell|Write)( me|) a( short|) story about {a_hero} {place}.",
                "(Tell|Write)( me|) a( short|) story about {a_hero} who finds {a_thing} {place}.",
                "(Write|Tell) a( short|) story(.|:)(\n| ){a_hero}, {a_thing}, {place}",
                "(Tell|Write)( me|) a( short|) story about {a_thing}.",
                "(Can|Could) you tell me a( short|) story about {a_hero}( and {a_thing}|)?",
                "I want to hear a story about {a_hero}( and {a_thing}|).",
                "Please think of a story with {a_hero} and {a_thing} in it.",
                "Please tell me a little story about {a_hero} and {a_thing}.",
            ),
            "zh": (
                "(给我|请给我|请|)(讲|讲一个|说一个|写一个|讲个)关于{hero}的(小故事|故事|短故事)。",
                "(讲一个|给我讲一个|写一个|请写一个)(关于|){hero}和{thing}的(故事|小故事|短故事)。",
                "(写一个|讲一个)(关于|){hero}在{place}的(短故事|故事)。",
                "(讲个故事|写个故事)，{hero}在{place}找到了{thing}。",
                "(写一个|讲一个)(故事|短故事)(。|：)(\n|){hero}，{thing}，{place}",
                "(讲一个|写一个)关于{thing}的(故事|小故事)。",
                "(你能|能)(讲|说)一个{hero}(和{thing}|)的故事吗？",
                "我想听{hero}(和{thing}|)的故事。",
                "请你编一个有{hero}和{thing}的故事。",
                "请给我讲一个有{hero}和{thing}的小故事。",
            ),
        },
        {"en": "{x}", "zh": "{x}"},
        held_out="arguments",
        weight=4,
    ),
)
