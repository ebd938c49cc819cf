"""Numbers as people write them: what is read, what is one answer, and when two are the same."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from overtake.reading.numbers import read_quantity, same_quantity, unit_asked
from overtake.reading.numerals import with_digits

READ = [
    # (text, value, kind, unit)
    ("-12.6 million", "-12600000", "plain", ""),
    ("$-12.6 million", "-12600000", "money", "$"),
    ("-$12.6 million", "-12600000", "money", "$"),
    ("($12.6 million)", "-12600000", "money", "$"),
    ("$(12.6) million", "-12600000", "money", "$"),
    ("(22.22)%", "-0.2222", "percent", "ratio"),
    ("（22.22％）", "-0.2222", "percent", "ratio"),
    ("−２２．２２％", "-0.2222", "percent", "ratio"),
    ("22.22 per cent", "0.2222", "percent", "ratio"),
    ("-2.8 个百分点", "-0.028", "percent", "ratio"),
    ("4.9 percentage points", "0.049", "percent", "ratio"),
    ("25 bps", "0.0025", "percent", "ratio"),
    ("12.5‰", "0.0125", "percent", "ratio"),
    ("3成", "0.3", "percent", "ratio"),
    ("百分之十二点五", "0.125", "percent", "ratio"),
    ("负百分之二十二点二二", "-0.2222", "percent", "ratio"),
    ("千分之三", "0.003", "percent", "ratio"),
    ("十分之三", "0.3", "plain", ""),
    ("一百二十三万", "1230000", "plain", ""),
    ("壹佰贰拾叁万元", "1230000", "money", "CNY"),
    ("负三点五亿元", "-350000000", "money", "CNY"),
    ("3 亿 5000 万", "350000000", "plain", ""),
    ("12万3千", "123000", "plain", ""),
    ("5千万美元", "50000000", "money", "USD"),
    ("1,234,567", "1234567", "plain", ""),
    ("12,34,567", "1234567", "plain", ""),
    ("1,2345,6789", "123456789", "plain", ""),
    ("1.234.567,89", "1234567.89", "plain", ""),
    ("1'234'567", "1234567", "plain", ""),
    ("1\u202f234\u202f567", "1234567", "plain", ""),
    ("US$12.6bn", "12600000000", "money", "USD"),
    ("12.6M USD", "12600000", "money", "USD"),
    ("5k", "5000", "plain", ""),
    ("2 trillion yen", "2000000000000", "money", "JPY"),
    ("RMB 12.6 million", "12600000", "money", "CNY"),
    ("¥5", "5", "money", "¥"),
    ("1.5倍", "1.5", "times", "ratio"),
    ("3年", "36", "time", "month"),
    ("36个月", "36", "time", "month"),
    ("2 weeks", "14", "time", "day"),
    ("5 吨", "5000", "mass", "kg"),
    ("5 千克", "5", "mass", "kg"),
    ("1.26e7", "12600000", "plain", ""),
    ("1.26 × 10⁷", "12600000", "plain", ""),
    (r"$1.26\times 10^{-2}$", "0.0126", "plain", ""),
    (r"\boxed{12.6\%}", "0.126", "percent", "ratio"),
    (r"\boxed{\frac{1}{4}}", "0.25", "plain", ""),
    (r"12.6 \text{ million}", "12600000", "plain", ""),
    (r"1{,}234", "1234", "plain", ""),
    ("1 1/2", "1.5", "plain", ""),
    ("1½", "1.5", "plain", ""),
    ("2.93:1", "2.93", "plain", ""),
    (".5", "0.5", "plain", ""),
    ("**25%**", "0.25", "percent", "ratio"),
    ("下降了约 12.6%", "-0.126", "percent", "ratio"),
    ("a decrease of $12.6 million", "-12600000", "money", "$"),
    ("2\u200b5", "25", "plain", ""),
    ("٢٥", "25", "plain", ""),
    ("800（万元）", "8000000", "money", "CNY"),
    ("营业收入（单位：万元）：800", "8000000", "money", "CNY"),
    ("Revenue (in millions): (12.6)", "-12600000", "plain", ""),
    # of more words than the number
    ("答案是 25%。", "0.25", "percent", "ratio"),
    ("2019年为 12.6 亿元", "1260000000", "money", "CNY"),
    ("From 2018 to 2019 the change was 12.6 million", "12600000", "plain", ""),
    ("Q3 2019: 5%", "0.05", "percent", "ratio"),
    ("第3季度增长 5%", "0.05", "percent", "ratio"),
    ("10268/14611 = 70.3%", "0.703", "percent", "ratio"),
    ("25% (0.25)", "0.25", "percent", "ratio"),
    ("12.6 million, i.e. 12,600,000", "12600000", "plain", ""),
    ("2019年", "2019", "year", ""),
]


@pytest.mark.parametrize(("text", "value", "kind", "unit"), READ)
def test_a_number_is_read(text, value, kind, unit):
    found = read_quantity(text)
    assert found is not None
    assert (found.value, found.kind, found.unit) == (Decimal(value), kind, unit)


RANGES = [
    ("5-6%", "0.05", "0.06"),
    ("5%~6%", "0.05", "0.06"),
    ("5至6亿元", "500000000", "600000000"),
    ("between 5 and 6 million", "5000000", "6000000"),
    ("-5 to -3", "-5", "-3"),
    ("$5-$6", "5", "6"),
    ("5±0.1", "4.9", "5.1"),
]


@pytest.mark.parametrize(("text", "lower", "upper"), RANGES)
def test_a_range_has_two_ends(text, lower, upper):
    found = read_quantity(text)
    assert found is not None
    assert (found.lower, found.upper) == (Decimal(lower), Decimal(upper))


NOT_ONE = [
    ("", "nothing"),
    ("没有", "no number"),
    ("either 5 or 6", "a hedge"),
    ("10 或 20", "a hedge"),
    ("5 or possibly 5", "a hedge even of one number"),
    ("可能是 5", "a hedge"),
    ("5, 6, 7", "a list"),
    ("5,6,7", "a list that could be separators"),
    ("5、6", "a list"),
    ("12,5", "a list or a comma for a point"),
    ("10 二十", "digits and Chinese numerals"),
    ("25 (25%)", "two numbers"),
    ("25 元, 25 美元", "two units"),
    ("\\boxed{5} \\boxed{6}", "two boxes"),
    ("at least 5%", "a bound"),
    ("≥5", "a bound"),
    ("5 以上", "a bound"),
    ("不是 25%", "denied"),
    ("9" * 41, "more digits than anything has"),
    ("1e999999999", "an exponent beyond all"),
    ("10^99", "an exponent beyond all"),
    ("5" + " " * 2000, "too long"),
    ("\u202e52", "written backwards"),
    ("25abc", "no known unit"),
    ("3rd", "an ordinal"),
]


@pytest.mark.parametrize(("text", "what"), NOT_ONE)
def test_what_is_no_single_answer_is_none(text, what):
    assert read_quantity(text) is None, what


SAME = [
    # (answer, gold, question, the same?, why)
    ("0.25", "25%", "", True, "percent is a hundredth"),
    ("25", "25%", "", False, "a percent sign left out"),
    ("25%", "25", "", False, "a percent sign added"),
    ("1.5个百分点", "1.5%", "", True, "points are percent"),
    ("150%", "1.5倍", "", True, "times and percent"),
    ("106900 万元", "10.69 亿元", "", True, "converted"),
    ("12.6 million", "-12.6 million", "", False, "the sign"),
    ("(12.6) million", "-12.6 million", "", True, "an accountant's minus"),
    ("-1.26 million", "-12.6 million", "", False, "a factor of ten"),
    ("12.6", "12.6 million", "", False, "the scale left out"),
    ("12.6", "12.6 million", "How much (in millions)?", True, "the question says it"),
    ("10.69 亿元", "10.69", "增长了多少亿元？", True, "the gold leaves it to the question"),
    ("10.69", "10.69", "增长了多少亿元？", True, "so do both"),
    ("10.69 元", "10.69", "增长了多少亿元？", False, "another scale than asked"),
    ("5 美元", "5 元", "", False, "another currency"),
    ("$5", "5 美元", "", True, "a symbol of several"),
    ("$5", "5 港元", "", True, "a symbol of several"),
    ("¥5", "$5", "", False, "another currency"),
    ("5%", "5 元", "", False, "percent is no money"),
    ("2年", "24个月", "", True, "years and months"),
    ("下降 5%", "-5%", "", True, "a word of falling"),
    ("下降 5%", "5%", "增长了多少？", False, "a fall is no growth"),
    ("下降 5%", "5%", "下降了多少？", True, "the fall itself is asked for"),
    ("22.29", "22.286", "", True, "rounded to four digits"),
    ("22.3", "22.286", "", True, "rounded to three digits"),
    ("22", "22.286", "", False, "rounded to two digits"),
    ("22.287", "22.286", "", True, "one unit of the last digit"),
    ("22.29%", "22.32%", "", False, "three units of the last digit"),
    ("4", "3", "", False, "one off a small number"),
    ("721454", "721453", "", False, "one off a count"),
    ("0.0516", "0.05", "", True, "within half of the last digit"),
    ("0.333", "1/3", "", True, "a fraction in digits"),
    ("0.33", "1/3", "", True, "a fraction within 1 %"),
    ("0.3", "1/3", "", False, "a fraction beyond 1 %"),
    ("1/3", "0.333", "", True, "digits as a fraction"),
    ("12%", "10%-15%", "", True, "in the gold's range"),
    ("16%", "10%-15%", "", False, "out of it"),
    ("10%-15%", "12%", "", False, "a range for a point"),
    ("10%~15%", "10%-15%", "", True, "the same range"),
    ("2020年", "2019年", "", False, "another year"),
    ("约 12.6 亿", "12.6亿元", "", True, "about"),
    ("0.4", "0", "", True, "zero within half of its last digit"),
]


@pytest.mark.parametrize(("answer", "gold", "question", "same", "why"), SAME)
def test_two_are_the_same_by_the_golds_precision_and_unit(answer, gold, question, same, why):
    assert same_quantity(answer, gold, question) is same, why


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        ("甲项目需2年，乙项目需4年，平均回收期是多少？", ("3", "3年", "36个月"), ("3个月", "3天", "30年")),
        ("甲投6个月，乙投12个月，平均期限是多久？", ("3个月", "0.25年"), ("3年", "3天")),
        ("One project lasts 2 years, the other 4 years. How long is the average payback?", ("3 years", "36 months"), ("3 months",)),
        ("甲项目100万元，投2年，收入300万元，净收益是多少？", ("3", "3万元"), ("3元", "3美元")),
    ],
)
def test_where_a_duration_is_asked_for_a_bare_gold_is_in_the_unit_of_the_questions_durations(question, right, wrong):
    assert [answer for answer in (*right, *wrong) if same_quantity(answer, "3", question)] == list(right)


def test_a_gold_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"'60%；25%' is no single quantity"):
        same_quantity("60%", "60%；25%")


@pytest.mark.parametrize(
    ("question", "unit"),
    [
        ("多少亿美元？", "亿美元"),
        ("是几倍？", "倍"),
        ("多少万户？", "万户"),
        ("How many thousand?", "thousand"),
        ("百分之多少？", ""),
        ("为什么？", ""),
    ],
)
def test_the_unit_that_a_question_asks_for(question, unit):
    assert unit_asked(question) == unit


decimals = st.decimals(min_value=Decimal("-99999999"), max_value=Decimal("99999999"), places=2)


@given(decimals)
def test_every_way_of_writing_a_number_gives_it_back(value):
    size = abs(value)
    ways = [
        f"{value}",
        f"{value:,}",
        f"{value}".translate(str.maketrans("0123456789.-", "０１２３４５６７８９．−")),
        f"${value:,}",
        rf"\boxed{{{value}}}",
    ]
    ways += [f"({size:,})", f"负{size}", f"-{size} 元"] if value < 0 else [f"+{value}", f"约{value}元"]
    for way in ways:
        found = read_quantity(way)
        assert found is not None and found.value == value, way
        assert same_quantity(way, str(value))


@given(decimals, st.sampled_from([("万", 4), ("亿", 8), ("thousand", 3), ("million", 6), ("bn", 9), ("%", -2), ("‰", -3)]))
def test_a_scale_moves_the_point(value, scale):
    word, power = scale
    found = read_quantity(f"{value} {word}")
    assert found is not None and found.value == value.scaleb(power) and found.step == Decimal(1).scaleb(power - 2)


def in_chinese(number):
    digits, units = "零一二三四五六七八九", ["", "十", "百", "千"]

    def section(value):
        said, gap = "", False
        for place in (3, 2, 1, 0):
            digit = value // 10**place % 10
            if digit:
                said += ("零" if gap and said else "") + digits[digit] + units[place]
                gap = False
            else:
                gap = True
        return said

    said = ""
    for scale, name in ((10**8, "亿"), (10**4, "万"), (1, "")):
        part = number // scale % 10**4
        if part:
            said += ("零" if said and part < 1000 else "") + section(part) + name
    return said


@given(st.integers(min_value=10, max_value=10**12 - 1))
def test_chinese_numerals_are_read_exactly(number):
    found = read_quantity(in_chinese(number))
    assert found is not None and found.value == number, (in_chinese(number), with_digits(in_chinese(number)))


@given(st.integers(1, 9999), st.integers(1, 9999))
def test_a_fraction_is_its_quotient(above, below):
    found = read_quantity(f"{above}/{below}")
    assert found is not None
    assert abs(Fraction(found.value) - Fraction(above, below)) < Fraction(1, 10**20)


@given(st.text(max_size=200))
def test_any_text_is_read_or_none(text):
    found = read_quantity(text)
    assert found is None or found.value.is_finite()
