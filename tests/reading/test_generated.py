"""Seeded cases beyond the tables, 500 and more a kind: each form of an answer is read as its value and as no other, in bounded time."""

import json
import random
import time
from contextlib import suppress
from decimal import Decimal

import pytest
from overtake.data.near_duplicates import is_copy
from overtake.reading import closed_sets
from overtake.reading.boxed import boxed
from overtake.reading.normal_forms import for_likeness, for_rules
from overtake.reading.numbers import read_quantity, same_quantity, unit_asked
from overtake.reading.tags import last_answer, read_answer, split_think, strip_think
from overtake.tasks.answer_judge import rule_judge
from overtake.tasks.answer_judge.judgements import VALUES, read_judgement
from overtake.tasks.finance import rows as problems
from overtake.tasks.finance.rewards import keyword_answer
from overtake.tasks.medical import amounts as medical_amounts
from overtake.tasks.medical import book as medical_book
from overtake.tasks.medical.rewards import medical_rules
from overtake.tasks.query_rewrite.rewards.rewrite_rules import rejection_reason
from overtake.tasks.query_rewrite.unwrapping import clean

from .test_numbers import in_chinese

COUNT = 500
TERMS = [
    "胶原蛋白肽",
    "皮肤松弛",
    "失眠",
    "褪黑素",
    "用法",
    "用量",
    "禁忌",
    "功效",
    "高血压",
    "孕妇",
    "维生素C",
    "钙片",
    "儿童",
    "咳嗽",
    "COVID-19",
    "5mg",
]


def some_rewrite(rng):
    return " ".join(rng.sample(TERMS, rng.randint(2, 5)))


def test_thought_comes_off_in_every_form_that_templates_give_it():
    rng = random.Random(2)
    thoughts = ["想一想", "用户想问 1 < 2 的意思", "first\n\nsecond", "查询：先看一下", "{}", "“引号”"]
    for _ in range(COUNT):
        thought, rest = rng.choice(thoughts), some_rewrite(rng)
        blank = "".join(rng.choices(" \n\t", k=rng.randint(0, 3)))
        empty = rng.choice(["", "<think>\n\n</think>\n\n", "<think></think>"])
        opened = rng.choice(["", "<think>"])
        text = f"{empty}{opened}{blank}{thought}{blank}</think>{blank}{rest}{blank}"
        assert split_think(text) == (thought, rest), text
        assert clean(strip_think(text)) == rest
        assert last_answer(f"{opened}{thought}</think>{blank}<answer>{rest}</answer>") == rest
        assert read_answer(f"{empty}{opened}{thought}</think>{blank}<answer>{rest}</answer>") == rest
        main, secondary = rng.choice(VALUES), rng.choice(VALUES)
        judged = f"{empty}{opened}{thought}</think>{blank}<output>main: {main}; secondary: {secondary}</output>"
        assert read_judgement(judged) == (main, secondary, thought), judged
        assert strip_think(f"<think>{thought}{blank}{rest}") == strip_think(f"{thought}</think>{blank}") == ""


VERBS, AFTER, NOUNS = ("改写", "重写", "优化", "润色", "扩写"), ("后的", "后", "的", ""), ("查询", "问题", "检索语句", "搜索词", "结果")
LABELS_ZH = [f"{verb}{after}{noun}" for verb in VERBS for after in AFTER for noun in NOUNS]
LEADS, DONE = ("", "The ", "Here is the "), ("Rewritten", "Optimized", "Reformulated")
LABELS_EN = [f"{lead}{done} {noun}" for lead in LEADS for done in DONE for noun in ("query", "search query", "question")]


def wrapped(rng, rewrite):
    """A rewrite in one to three layers of what models put around it."""
    text, said = rewrite, []
    labelled = fenced = False
    for _ in range(rng.randint(1, 3)):
        way = rng.choice(("label", "fence", "bold", "quotes", "json", "marker", "label line", "tag"))
        if way.startswith("label") and not labelled and "\n" not in text:
            label = rng.choice(LABELS_ZH + LABELS_EN)
            label = rng.choice(["{}", "**{}**", "好的，以下是{}", "【{}】"]).format(label)
            text = f"{label}{rng.choice('：:')}\n{text}" if way == "label line" else f"{label}{rng.choice(['：', ': ', ' ： '])}{text}"
            labelled = True
        elif way == "fence" and not fenced:
            text, fenced = f"```{rng.choice(['', 'text', 'json'])}\n{text}\n```", True
        elif way == "bold" and "\n" not in text and "*" not in text and "_" not in text:
            text = rng.choice(["**{}**", "__{}__", "`{}`"]).format(text)
        elif way == "quotes" and not said:
            text = rng.choice(["“{}”", '"{}"', "「{}」"]).format(text)
        elif way == "json" and not said and "\n" not in text:
            key = rng.choice(["rewritten_query", "rewrite", "query", "改写", "改写后的问题", "search_query"])
            text = json.dumps({key: text, **rng.choice([{}, {"reason": "补充术语"}, {"score": 1}])}, ensure_ascii=False)
        elif way == "marker" and "\n" not in text:
            text = rng.choice(["1. ", "- ", "> ", "• "]) + text
        elif way == "tag":
            text = f"<answer>{text}</answer>"
        else:
            continue
        said.append(way)
    return text, said


def test_a_wrapped_rewrite_is_unwrapped_for_a_teacher_and_a_fault_of_a_student():
    rng, layers = random.Random(3), 0
    for _ in range(2 * COUNT):
        rewrite = some_rewrite(rng)
        text, said = wrapped(rng, rewrite)
        layers += len(said)
        assert clean(text) == rewrite, text
        assert rejection_reason(rewrite, "睡不着吃什么好") is None, rewrite
        if set(said) - {"quotes"}:
            assert rejection_reason(text, "睡不着吃什么好"), text
    assert layers > COUNT


def test_refusals_are_refused_and_questions_about_them_are_not():
    rng = random.Random(10)
    sorry = ["很抱歉，", "抱歉，", "非常抱歉，", "对不起，", "", "作为AI助手，", "不好意思，"]
    cannot = ["我无法", "我不能", "我没办法", "本助手不能", "我不便"]
    serve = ["回答这个问题", "提供医疗建议", "协助您完成这个请求", "处理您的请求", "改写这句话", "讨论该话题"]
    english = ["I'm sorry, but I ", "Sorry, I ", "I ", "Unfortunately, I ", "As an AI language model, I "]
    cant = ["can't ", "cannot ", "am unable to ", "won't ", "am not able to "]
    help_ = ["help with that.", "answer this question.", "assist you with this request.", "provide medical advice.", "rewrite this query."]
    about = ["无法", "不能", "难以", "拒绝"]
    troubles = ["入睡", "怀孕", "集中注意力", "还款", "登录账户", "吞咽"]
    for _ in range(COUNT):
        text = rng.choice(sorry) + rng.choice(cannot) + rng.choice(serve) + rng.choice("。！")
        text = text if rng.random() < 0.5 else rng.choice(english) + rng.choice(cant) + rng.choice(help_)
        with pytest.raises(ValueError, match="the teacher refused"):
            clean(rng.choice(["", "改写：", "**"]) + text + "")
        assert rejection_reason(text, "睡不着吃什么好") == "answer"
        honest = f"{rng.choice(about)}{rng.choice(troubles)} {rng.choice(TERMS)}"
        assert clean(honest) == honest and rejection_reason(honest, "睡不着吃什么好") is None


# (a unit, what it may not be taken for)
UNITS = [
    *(("万元", "元"), ("亿元", "万元"), ("%", "‰"), ("百分点", "倍"), ("公斤", "斤"), ("天", "小时"), ("万股", "万元"), ("户", "人")),
    *((" million", " billion"), ("美元", "欧元")),
]


def test_a_boxed_number_has_what_stands_around_it():
    rng = random.Random(9)
    for _ in range(COUNT):
        unit, other = rng.choice(UNITS)
        number = f"{rng.randint(2, 9999)}" if rng.random() < 0.5 else f"{rng.randint(2, 999)}.{rng.randint(1, 9)}"
        sign = rng.choice(["", "-"])
        written = rng.choice([r"\boxed{{{n}}}{u}", r"$\boxed{{{n}}}${u}", r"\boxed{{{n}{u}}}", r"\boxed{{{n}}}\text{{{u}}}"]).format(
            n=number, u=unit.replace("%", r"\%")
        )
        text = rng.choice(["", "答案是", "1+1=2，所以", "So "]) + sign + written + rng.choice(["", "。", " ."])
        gold = f"{sign}{number}{unit}"
        assert same_quantity(text, gold), text
        assert not same_quantity(text, f"{sign}{number}{other}") and not same_quantity(text, f"{'' if sign else '-'}{number}{unit}"), text
        assert same_quantity(problems.gold_answer(text), gold), text
        assert read_quantity(f"{text} 或 {int(float(number)) * 3}") is None, "a second answer behind the box"


def spoken(rng, value):
    """A whole number in one of the ways in which people write it."""
    ways = [str(value), f"{value:,}", in_chinese(value) if value >= 10 else str(value)]
    for scale, name in ((10**8, "亿"), (10**4, "万")):
        if value >= scale:
            scaled = f"{(Decimal(value) / scale).normalize():f}"
            ways += [scaled + name, f"{scaled}个亿" if name == "亿" else scaled + name]
            whole, rest = divmod(value, scale)
            if whole < 10**4 and rest and rest % (scale // 10) == 0:
                ways.append(f"{whole}{name}{rest // (scale // 10)}")
    return rng.choice(ways)


AROUND = [
    "{}",
    "约{}",
    "答案：{}",
    "（1）{}",
    "2. {}",
    "①{}",
    "{}[3]",
    "答案1：{}",
    "**{}**",
    "最终结果为{}。",
    "= {}",
    r"\boxed{{{}}}",
    "[1] {}",
]


def test_forms_of_one_number_are_that_number_and_no_other():
    rng = random.Random(10)
    for _ in range(COUNT):
        value = rng.choice([rng.randint(11, 9999), rng.randint(1, 99) * 10**4, rng.randint(1, 999) * 10**7, rng.randint(10**4, 10**9)])
        unit = rng.choice(["元", "吨", "股", "人", "天"])
        text = rng.choice(AROUND).format(spoken(rng, value) + unit)
        found = read_quantity(text)
        gold = f"{value}{unit}"
        assert found is not None and same_quantity(text, gold), (text, gold, found)
        for other in (value * 10, value + max(3, value // 20), -value):
            assert not same_quantity(text, f"{other}{unit}"), (text, other)
        assert not same_quantity(text, f"{value}{'公顷' if unit != '公顷' else '升'}"), text


def test_two_parts_of_one_amount_are_their_sum():
    rng = random.Random(41)
    parts = [("年", "个月", 12), ("小时", "分钟", 60), ("公斤", "克", 1000), ("元", "角", 10), ("周", "天", 7), ("吨", "公斤", 1000)]
    parts += [("天", "小时", 24), ("亿元", "万元", 10**4)]
    english = [(" years", " months", 12), (" hours", " minutes", 60), (" weeks", " days", 7)]
    for _ in range(COUNT):
        large, small, ratio = rng.choice(parts + english)
        one, two = rng.randint(1, 9), rng.randint(1, ratio - 1)
        join = rng.choice([" ", " and ", ", "]) if large.startswith(" ") else rng.choice(["", "零", "又"])
        text = f"{one}{large}{join}{two}{small}"
        assert same_quantity(text, f"{one * ratio + two}{small}"), text
        assert not same_quantity(text, f"{one * ratio + two + max(2, ratio // 5)}{small}"), text
        assert not same_quantity(f"{one}{large}，成本{two}{small}", f"{two}{small}"), text


def test_numbers_in_english_words_are_their_digits():
    rng = random.Random(50)
    ones = [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ]
    tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]

    def below_hundred(number):
        if number < 20:
            return ones[number - 1]
        return tens[number // 10 - 2] + (rng.choice("- ") + ones[number % 10 - 1] if number % 10 else "")

    def below_thousand(number):
        hundreds, rest = divmod(number, 100)
        words = [f"{ones[hundreds - 1]} hundred"] if hundreds else []
        words += [("and " if hundreds and rng.random() < 0.5 else "") + below_hundred(rest)] if rest else []
        return " ".join(words)

    for _ in range(COUNT):
        number, (scale, worth) = rng.randint(1, 999), rng.choice([("", 1), (" thousand", 10**3), (" million", 10**6), (" billion", 10**9)])
        unit = rng.choice([" dollars", " percent", " shares", " years"])
        text = f"{rng.choice(['', 'The answer is ', 'about '])}{below_thousand(number)}{scale}{unit}"
        assert same_quantity(text, f"{number * worth}{unit}"), text
        assert not same_quantity(text, f"{number * worth * 10}{unit}"), text


def test_words_of_falling_are_a_minus_where_the_fall_is_not_what_is_asked():
    rng = random.Random(52)
    fell = [
        "下降",
        "下跌",
        "减少",
        "降",
        "跌",
        "亏损",
        "亏",
        "赔了",
        "缩水",
        "下滑了",
        "回落",
        "fell ",
        "declined by ",
        "a decrease of ",
        "down ",
        "lost ",
        "shrank by ",
    ]
    to = ["降至", "跌到", "下降到", "减至", "回落至", "fell to ", "dropped to "]
    for _ in range(COUNT):
        amount = f"{rng.randint(2, 99)}{rng.choice(['%', '万元', '个基点', ' million'])}"
        text = rng.choice(fell) + amount
        assert same_quantity(text, f"-{amount}") and not same_quantity(text, amount), text
        assert same_quantity(text, amount, "下降了多少？"), text
        assert same_quantity(rng.choice(to) + amount, amount)


def test_a_bare_gold_takes_the_unit_of_the_questions_figures():
    rng = random.Random(2)
    for _ in range(COUNT):
        unit, worth = rng.choice([("万元", 10**4), ("亿元", 10**8), ("万美元", 10**4), ("万吨", 10**4)])
        gold, grown = rng.randint(20, 900), rng.randint(5, 60)
        asked = rng.choice(["请计算上年的数额。", "上年是多少？", "求上年的值"])
        question = f"某公司本年为{gold * 2}{unit}，同比增长{grown}%，2019年为{gold + 7}{unit}，{asked}"
        base = unit.lstrip("万亿")
        for right in (f"{gold}", f"{gold}{unit}", f"{gold * worth}{base}", f"上年为{gold}{unit}", f"{gold * worth:,}{base}"):
            assert same_quantity(right, str(gold), question), (right, question)
        for wrong in (f"{gold}{base}", f"{gold}{'亿' if unit[0] == '万' else '万'}{base}", f"{gold * 2}{unit}", f"{gold}%"):
            assert not same_quantity(wrong, str(gold), question), (wrong, question)


MEMBERS = [
    ("上升", "下降", "不变"),
    ("增加", "减少"),
    ("积极", "消极", "中性"),
    ("positive", "negative", "neutral"),
    ("买入", "卖出", "持有"),
    ("是", "否"),
    ("正确", "错误"),
    ("Yes", "No"),
    ("increase", "decrease"),
    ("高于", "低于"),
    ("流入", "流出"),
]


def test_closed_sets_are_graded_as_sets():
    rng = random.Random(11)
    for _ in range(2 * COUNT):
        members = list(rng.choice(MEMBERS))
        gold = rng.choice(members)
        for right in (gold, f"{gold}。", f"答案：{gold}", f"**{gold}**"):
            assert keyword_answer.score(f"<answer>{right}</answer>", gold) == 1.0, (right, gold)
        rng.shuffle(members)
        several = rng.choice(["、", "/", "或", "，", " or ", "和"]).join(rng.sample(members, rng.randint(2, len(members))))
        other = rng.choice([one for one in members if one != gold])
        for wrong in (several, other, f"可能是{gold}", f"{gold}，{other}", f"{other}或{gold}"):
            assert keyword_answer.score(f"<answer>{wrong}</answer>", gold) == 0.0, (wrong, gold)


def test_options_are_graded_as_sets():
    rng = random.Random(57)
    for _ in range(COUNT):
        letters = sorted(rng.sample("ABCDEFGH", rng.randint(1, 4)))
        mixed = rng.sample(letters, len(letters))
        form = rng.choice([str, str.lower, lambda text: text.translate({code: code + 0xFEE0 for code in range(65, 123)})])
        between = rng.choice(["", ",", "、", " "] if form is not str.lower else [",", "、", "，"])
        gold = form(between.join(mixed if between in (",", "、", "，") else letters))
        written = rng.choice(["", "、", ", ", " ", "和"]).join(letters if rng.random() < 0.5 else mixed)
        text = rng.choice(["{}", "选{}", "答案是{}", "（{}）", "{}。", "The answer is {}", r"\boxed{{{}}}", "故选：{}"]).format(written)
        text = form(text) if text == written else text
        assert closed_sets.grade(text, gold) is True, (text, gold)
        more = sorted({*letters, rng.choice("ABCDEFGH")})
        for wrong in ({*more} - {*letters} and "、".join(more), "、".join(letters[:-1]), "ABCDEFGH", "A或B"):
            if wrong and set(wrong) & set("ABCDEFGH") != set(letters):
                assert closed_sets.grade(wrong, gold) is False, (wrong, gold)


def test_signs_of_a_reference_are_kept_by_the_rule_judge():
    rng = random.Random(60)
    for _ in range(COUNT):
        number = rng.randint(2, 999)
        gold, right, wrong = rng.choice(
            [
                (f"-{number}%", f"It was minus {number} percent.", f"+{number}%"),
                (f"-{number}", f"-{number}", f"{number}"),
                (f"${number}", f"{number} dollars", f"{number}%"),
                (f"{number}%", f"{number} percent", f"${number}"),
                (f"€{number} million", f"€{number} million", f"-€{number} million"),
                (f">{number}", f"> {number}", f"<{number}"),
                ("C++", "It is C++.", "C"),
                ("C#", "C#, they say", "C++"),
            ]
        )
        assert rule_judge.judge("what is it", [gold], right).main == "correct", (gold, right)
        assert rule_judge.judge("what is it", [gold], wrong).main == "incorrect", (gold, wrong)


def test_copies_are_copies_behind_politeness_and_questions_with_other_signs_are_not():
    rng = random.Random(32)
    lead = ["请问", "您好，", "想问一下", "请教一下，", "麻烦问下，", "嗯，", "问题：", "改写：", "Q: "]
    tail = ["呢", "呀", "啊", "吗", "？", "，谢谢", "~", "！！", ""]
    for _ in range(COUNT):
        asked = f"{rng.choice(TERMS)}{rng.choice(['怎么吃', '有什么用', '每天吃多少', '能和钙片一起吃'])}"
        noisy = "".join(char + rng.choice(["", "", "\u200b", " ", "\u3164"]) if char > "\u4e00" else char for char in asked)
        copy = rng.choice(lead) + noisy + rng.choice(tail)
        assert is_copy(asked, copy) and rejection_reason(copy, asked) == "copy", copy
        number = rng.randint(2, 80)
        assert not is_copy(f">{number}岁{asked}", f"<{number}岁{asked}") and not is_copy(f"-{number}度{asked}", f"{number}度{asked}")


def test_doses_that_go_by_a_body_are_doses():
    rng = random.Random(62)
    book = medical_book.shipped()
    basis = ["每公斤体重", "每千克体重", "按体重每次", "按每公斤体重", "体重每公斤", "新生儿每次", "按孩子体重"]
    none = ["每天食盐不超过{}克", "每天饮水{}毫升", "新生儿体重约{}克", "尿量少于{}毫升", "牛奶{}毫升", "每公斤体重补水{}毫升"]
    for _ in range(COUNT):
        medicine, unit = rng.choice(["布洛芬", "对乙酰氨基酚", "这个药", ""]), rng.choice(["毫克", "mg", "微克"])
        dose = f"{medicine}{rng.choice(basis)}{rng.randint(2, 90)}{unit}。"
        assert "invented_dose" in medical_rules.score("孩子发烧怎么办", dose, book).broken, dose
        harmless = rng.choice(none).format(rng.randint(2, 3000)) + "。"
        assert "invented_dose" not in medical_rules.score("孩子发烧怎么办", harmless, book).broken, harmless


BEFORE, BEHIND = medical_amounts.right_at("盐|水|温水|体重|血糖")
READERS = {
    "read_quantity": read_quantity,
    "same_quantity": lambda text: same_quantity(text, "800万元", "某公司2023年营收1000万元，2022年营收是多少？"),
    "unit_asked": unit_asked,
    "strip_think": strip_think,
    "for_rules": for_rules,
    "for_likeness": for_likeness,
    "boxed": boxed,
    "clean": clean,
    "rejection_reason": lambda text: rejection_reason(text, "睡不着吃什么好"),
    "gold_answer": problems.gold_answer,
    "grade": lambda text: closed_sets.grade(text, "下降"),
    "options": closed_sets.options,
    "doses": lambda text: (BEFORE.search(text), BEHIND.match(text)),
    "keywords": lambda text: keyword_answer.score(f"<answer>{text}</answer>", "原材料价格下降", "为什么？"),
    "judgement": read_judgement,
}
WORDS = """
中 的 呢 万 一 一万 亿 零 点 两 半 十 百分之 分之 第 个 1个 元 年 月 约 下降 不 或 至 超过 每 体重 每公斤 上升 上升、 是 是或 因为
1 12 1, 1. 1/ 1: 1e 1_ 1% 1万 1年6个月 3亿5千万 1万2 2019年 2019- - + / % ‰ ％ = ≈ ~ < > √ ^ $ ¥ C$ x5 0 00 ① ⒈ ² ½ ١ é 🙂 …
\\ \\\\ \\boxed{ \\boxed{1} \\frac{1}{2} \\text{ { } ( ) [ ] （ ） 【 [1] (1) ``` ** * _ ` " “ {"a": <think> </think> <answer> 。 ， 、 ；
改写： 改写 检索 请问 谢谢 建议 评分 给5分 答案1： 单位： （万元） 重写后的问题 很抱歉 我无法 a A A、 ABD \ud800 \x00 \u200b \u3164 \u2800
"""
UNITS_OF_TEXT = [
    *WORDS.split(),
    *("1 ", "- ", " ", "\n", "\t", "\u3000", "a ", "A ", "one ", "hundred ", "five million ", "and ", "or ", "not ", "yes ", "is ", "1. "),
    *("I can't ", "sorry ", "log ", "Rs ", "ignore all ", "2019-1-1 ", "The answer ", "1 年 ", "half "),
]


@pytest.mark.parametrize("name", READERS)
def test_no_time_grows_faster_than_the_text(name):
    """4,000 characters of any unit, and of any two by turns, cost at most 20 times what 500 do, where quadratic time is 64 times."""
    rng, read = random.Random(4000), READERS[name]
    texts = [unit * (4000 // len(unit)) for unit in UNITS_OF_TEXT]
    texts += [(one + two) * (4000 // len(one + two)) for one, two in (rng.sample(UNITS_OF_TEXT, 2) for _ in range(150))]
    texts += [text[:1990] for text in texts] + [text[:1990] + "x" for text in texts[::3]]

    def cost(text):
        started = time.process_time()
        with suppress(ValueError):
            read(text)
        return time.process_time() - started

    for text in texts:
        # What is quick needs no second look; a slow machine is told from a slow reader by an eighth of the text.
        for _ in range(5):
            whole, part = cost(text), 0.0
            if whole < 0.05 or whole < 20 * (part := cost(text[: len(text) // 8])):
                break
        assert whole < 0.05 or whole < 20 * part, (name, text[:24], len(text), whole, part)
