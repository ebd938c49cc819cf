"""Answers that are one, or some, of a closed set: options, yes and no, up and down, right and wrong; graded as sets and never by words.

Who names all members of a set, or guesses at two, has chosen none; part of a multiple choice is not the whole.
"""

import re
from functools import lru_cache

import regex

from overtake.reading.boxed import boxed
from overtake.reading.normal_forms import for_rules, half_width

# Each family: its members, each the ways to say it. What stands in no family is no closed set.
_FAMILIES: tuple[tuple[str, ...], ...] = (
    (
        "是的?|对的?|正确的?|可以的?|能够?|会的?|应该?当?|需要|必须|有的?|成立|属实|真的?|合规|合法|符合|同意|yes|yeah|yep|true|correct|right|agreed?|valid",
        "否|不是的?|不对|不正确|错误?的?|不可以|不能够?|不会|不应该?当?|不需要|不必须?|没有|不成立|不属实|假的?|不合规|违规|不合法|违法|非法|不符合|不同意|"
        "no|nope|false|incorrect|wrong|not correct|not true|untrue|disagreed?|invalid",
    ),
    (
        "上升|上涨|上行|上调|上扬|增加|增长|增多|增大|提高|提升|升高|升值|扩大|走高|变大|变高|变多|升|涨|"
        "increas(?:e|es|ed|ing)|ris(?:e|es|en|ing)|rose|grow(?:s|th|n|ing)?|grew|up|upwards?|higher|gain(?:s|ed)?|appreciat(?:e|es|ed|ion)|expand(?:s|ed)?",
        "下降|下跌|下行|下调|下滑|减少|减小|降低|缩小|贬值|走低|变小|变低|变少|回落|降|跌|"
        "decreas(?:e|es|ed|ing)|fall(?:s|en|ing)?|fell|declin(?:e|es|ed|ing)|drop(?:s|ped)?|down|downwards?|lower|reduc(?:e|es|ed|tion)|"
        "depreciat(?:e|es|ed|ion)|shr[aiu]nk(?:s)?|contract(?:s|ed)?",
        "不变|没有变化|无变化|持平|稳定不变|保持不变|unchanged|no change|stable|the same|constant|flat",
    ),
    (
        "正面的?|积极的?|利好|看多|看涨|乐观|positive|bullish|favou?rable|optimistic",
        "负面的?|消极的?|利空|看空|看跌|悲观|negative|bearish|unfavou?rable|pessimistic",
        "中性的?|中立|neutral",
    ),
    ("买入|买进|购买|增持|做多|buy|long", "卖出|卖掉|出售|减持|做空|sell|short", "持有|观望|hold"),
    (
        "高于|大于|多于|超过|更高|更大|更多|greater|higher than|above|more",
        "低于|小于|少于|不及|更低|更小|更少|less|lower than|below|fewer",
        "等于|相等|相同|一样|equal",
    ),
    ("盈利|赚钱?|获利|盈余|profit(?:able)?|gain|surplus", "亏损|亏钱?|赔钱?|赤字|loss(?:es)?|deficit"),
    ("高估|溢价|overvalued|overpriced|premium", "低估|折价|undervalued|underpriced|discount"),
    ("流入|顺差|净流入|inflows?", "流出|逆差|净流出|outflows?"),
    ("宽松|扩张性?|expansionary|loose|easing", "紧缩性?|收紧|contractionary|tight(?:ening)?"),
    ("借方|借记|debit", "贷方|贷记|credit"),
    ("高|high", "中等?|medium|moderate", "低|low"),
    ("强|强势|strong", "弱|弱势|weak"),
    ("大|large|big", "小|small"),
    ("多|many", "少|few"),
    ("有|存在|exists?", "无|没有?|不存在|none"),
    ("支持|赞成|support(?:s|ed)?", "反对|oppos(?:e|es|ed)"),
)
_YES_NO = 0
_FREE = re.compile(
    "是否|能否|可否|会否|有无|是不是|对不对|能不能|会不会|可不可以|有没有|涨跌|升降|增减|高低|大小|多少|强弱|盈亏|买卖|"
    r"\bno doubt\b|\bof course\b|\bno matter\b|\bno longer\b|\bno more than\b"
)
"""Words that hold members of a family and say none."""
_HEDGE = re.compile(
    r"[?？]|或|要么|抑或|还是|也许|可能|不一定|未必|不确定|取决于|depends|\b(?:or|either|maybe|perhaps|possibly|might|unsure|not sure)\b"
)
_DENIES = re.compile(r"(?:[不没未非无]|不[会能是]|没有|并非|并不|而非|排除|\b(?:not|isn't|never|no|without|rather than|instead of))\s*$")
_REASON = re.compile(r"^\s*(?:因为?|由于|鉴于|随着|如果|若|当|原因|because|since|as|due to|given|if|when)(?![a-z])")
_PIECE = re.compile(r"[,，。;；!！\n:：]|\.(?!\d)|(?=因为|由于|because\b|due to\b|since\b)")
_BARE_PIECE = re.compile(r"[,，。;；!！\n:：、/|&+]|\.(?!\d)|\b(?:and|or|but)\b|或者?|以及|[和与及也又但]|而且|同时")
_LEAD = regex.compile(
    r"(?>(?:最终|正确|参考|标准|本题|该题|我)?的?(?:答案|结论|判断|选择|回答|结果)(?:应当?)?(?:[为选:\s]|是(?=\s*[^\s。.!]))*"
    r"|(?:应|故|我|本题)?选项?(?:[是为:]|\s)*|"
    r"(?:the |my )?(?:final |correct |right )?(?:answer|choice|option|conclusion)s?(?: is| are)?[:\s]*|"
    r"(?:因此|所以|故|综上所述?|综上)[,:\s]*|"
    r"(?:thus|therefore|so|hence|it is|it's)[,:\s]+|应?判断为|[(\[{*_`\"'“‘「【<>\s]+)*+"
)
_LATIN = re.compile(r"[a-z]")

_JOIN = r"[\s,，、;；/&+·.]*(?:(?:和|与|及|以及|还有|and\b)[\s,，、]*)?(?:选项?|options? ?)?"
_LETTERS = rf"[A-H](?:{_JOIN}[A-H])*"
_NO_WORD = r"(?![A-Za-z0-9])(?!\s+(?!(?:is|are|or|and|but|not)\b)[a-z])(?![股级类轮型座照])"
"""Behind a letter that is an option: not A dividend, not A股."""
_RIGHT = r"(?:选?项)?\s*(?:是|都|均|is|are)?\s*(?:正确的?|对的?|correct|right|true)?"
_ONLY_LETTERS = re.compile(rf"({_LETTERS}){_RIGHT}[\s.。,，、;；!！)\]）】}}*_`\"'”’」>]*", re.IGNORECASE)
_FIRST_LETTERS = re.compile(rf"({_LETTERS}){_NO_WORD}(?=\s*[.、:：,，;；)\]）】(（]|选?项|正确|对|\s+[\u4e00-\u9fff])")
_MARKED = re.compile(
    r"(?:选择?项?|应选|故选|仅|只有|(?<!不)[是为]|答案[:：]?|[Oo]ptions?|[Cc]hoices?|[Aa]nswers?(?:\s+is|:)?)\s*"
    rf"[(\[（\"'“*]*([A-H](?:[\s,，、和与及]*[A-H])*){_NO_WORD}"
    r"|[(\[（]([A-H]{1,8})[)\]）]|(?<![A-Za-z0-9])([A-H])(?=选?项|\s*(?:是|is|are)?\s*(?:正确|对(?!错)|right|correct|true))"
)
_STANDING = re.compile(rf"(?<![A-Za-z0-9])([A-H]{{1,8}}){_NO_WORD}")
_REJECTED = re.compile(
    r"\s*(?:选?项)?\s*(?:[是都均为则]|明显|显然|is|are|was)?\s*(?:错|不对|不正确|不选|排除|不符|有误|wrong|incorrect|not |false)",
    re.IGNORECASE,
)
_NOT_CHOSEN = re.compile(r"(?:不选|排除|而非|不是|并非|除了?|\bnot\b|\bnor\b|rather than|instead of|except)\s*[(\[（]?$", re.IGNORECASE)
_RULED_OUT = re.compile(r"(?<=[^\s])(?:不选|排除|而非|除去|rather than|instead of|ruling out)[^。；;.\n]*", re.IGNORECASE)
"""What is named only to be ruled out."""
_WITH_TEXT = re.compile(r"([A-H])\s*[.、:：)）．]\s*(\S.*)", re.DOTALL)
_LISTED = re.compile("[,、;]")
_CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩"

Set = frozenset[str]


def is_closed(gold: str) -> bool:
    """Return whether a gold answer is one, or some, of a closed set: the letters of options, or a word such as 是, 下降, negative.

    >>> [is_closed(gold) for gold in ("A,B,D", "否", "下降", "Neutral", "净现值", "利率下降")]
    [True, True, True, True, False, False]
    """
    return bool(_gold_options(gold)[0]) or _member(gold) is not None


def grade(answer: str, gold: str, question: str = "") -> bool | None:
    """Return whether an answer chooses exactly what the gold does; None for a gold that is of no closed set.

    >>> grade("ABD", "A,B,D"), grade("A、B、C、D", "A"), grade("It pays a dividend.", "A"), grade("选B，因为A错误", "B")
    (True, False, False, True)
    >>> grade("No, it does not.", "否"), grade("Yes, no doubt", "No"), grade("上升或下降", "下降"), grade("下降，因为供给增加", "下降")
    (True, False, False, True)
    """
    letters, text = _gold_options(gold)
    if letters:
        return options(answer) == letters or (bool(text) and _seen(answer).strip(" .。") == text)
    member = _member(gold)
    if member is None:
        return None
    family, number = member
    return chosen(answer, family, question) == number


def options(text: str) -> Set:
    """The options that a text chooses, as letters (or circled numbers); none where it guesses.

    >>> sorted(options("选A和C")), sorted(options("The answer is (B).")), sorted(options("A dividend is paid")), sorted(options("A或B"))
    (['A', 'C'], ['B'], [], [])
    """
    boxes = boxed(text)
    plain = half_width(for_rules(" ".join(dict.fromkeys(boxes)) if boxes else text)).strip()
    plain = _RULED_OUT.sub("", re.sub(r"</?[a-z]{1,8}>", "", plain))
    if circled := [sign for sign in plain if sign in _CIRCLED]:
        return frozenset(circled) if not re.search(r"[A-H]", plain) else frozenset()
    lead = _LEAD.match(plain.casefold())
    rest = plain[lead.end() if lead else 0 :]
    if only := _ONLY_LETTERS.fullmatch(rest):
        return frozenset(_letters(only[1]))
    if first := _FIRST_LETTERS.match(rest):
        chosen_letters = [(first[1], 0, first.end(1))] + [
            (match[1], match.start(1), match.end(1)) for match in _STANDING.finditer(rest, first.end())
        ]
    else:
        chosen_letters = [
            (letters, match.start(), match.end()) for match in _MARKED.finditer(rest) if (letters := match[1] or match[2] or match[3])
        ]
    affirmed = [
        letters
        for letters, start, end in chosen_letters
        if not _REJECTED.match(rest, end) and not _NOT_CHOSEN.search(rest[max(0, start - 16) : start])
    ]
    guessing = _HEDGE.search(rest.casefold()[: max((end for _, _, end in chosen_letters), default=0) + 2])
    return frozenset() if guessing else frozenset(_letters("".join(affirmed)))


def letters_in(text: str) -> Set:
    """The letters that stand in a text as options may, chosen or not.

    >>> sorted(letters_in("A, B or C; not a dividend")), sorted(letters_in("A股 and the GDP"))
    (['A', 'B', 'C'], [])
    """
    return frozenset(_letters("".join(match[1] for match in _STANDING.finditer(half_width(for_rules(text))))))


def _letters(listed: str) -> list[str]:
    return re.findall("[A-H]", re.sub(r"options?|and", "", listed, flags=re.IGNORECASE).upper())


def chosen(text: str, family: int, question: str = "") -> int | None:
    """The number of the one member of a family that a text says; None where it says none, several, or guesses.

    Reasons do not count (因为供给增加), nor what is denied. Short words (是, 高, up) count where they stand alone or at the beginning.
    """
    plain = _FREE.sub(" ~ ", _seen(text))
    lead = _LEAD.match(plain)
    rest = plain[lead.end() if lead else 0 :]
    bare = {number for piece in _BARE_PIECE.split(rest) if (number := _whole(piece.strip(_QUOTES), family)) is not None}
    if len(bare) > 1:
        return None
    mentions: list[tuple[str, int]] = []
    for piece in _PIECE.split(rest):
        if piece and not _REASON.match(piece):
            numbers = {number for number, _ in _mentions(piece, family)}
            if len(numbers) > 1 or (numbers and _HEDGE.search(piece)):
                return None
            mentions += [(_WORDS[family].sub("", piece).strip(), number) for number in numbers]
    if bare:
        (number,) = bare
        same = all(other == number for about, other in mentions if not about)
        at_start = family == _YES_NO or not mentions or {other for _, other in mentions} == {number} or _starts(rest, family) == number
        return number if same and at_start and not _HEDGE.search(_PIECE.split(rest)[0]) else None
    if (number := _starts(rest, family)) is not None:
        return number
    numbers = {number for _, number in mentions}
    if len(numbers) > 1:
        about: dict[str, set[int]] = {}
        for subject, number in mentions:
            about.setdefault(subject, set()).add(number)
        if "" in about or any(len(members) > 1 for members in about.values()):
            return None
        of_question = [number for subject, number in mentions if _shares(subject, question)]
        numbers = set(of_question) if len(set(of_question)) == 1 else {mentions[-1][1]}
    return next(iter(numbers)) if len(numbers) == 1 else None


def contradicted(phrase: str, text: str) -> bool:
    """Return whether a text says the opposite of a phrase too, so that the phrase in it is no answer: 利率上升或下降. Both in lower case.

    >>> [contradicted("利率上升", text) for text in ("利率上升或下降", "利率上升，利率下降", "利率上升，债券价格下降")]
    [True, True, False]
    """
    for family in range(1, len(_FAMILIES)):
        for number, match in _mentions(phrase, family):
            others = "|".join(pattern for other, pattern in enumerate(_FAMILIES[family]) if other != number)
            join = r"\s*(?:还是|或者?|和|与|及|、|/|,|\bor\b|\band\b)\s*"
            word, stem, tail = (re.escape(part) for part in (match[0], phrase[: match.start()], phrase[match.end() :]))
            same = rf"|{stem}(?:{others}){tail}" if stem + tail else ""
            if re.search(rf"{word}{join}(?:{others})|(?:{others}){join}{word}{same}", text):
                return True
    return False


_QUOTES = " \t.。!！?\"'“”‘’*_`()（）[]【】~"
_WORDS = tuple(re.compile("|".join(f"(?:{words})" for words in family)) for family in _FAMILIES)


@lru_cache(maxsize=64)
def _patterns(family: int) -> tuple[re.Pattern[str], ...]:
    begins, ends = r"(?:(?<![a-z])(?=[a-z])|(?![a-z]))", r"(?:(?<=[a-z])(?![a-z])|(?<![a-z]))"  # of a Latin word, where it is one
    return tuple(re.compile(rf"{begins}(?:{pattern}){ends}") for pattern in _FAMILIES[family])


def _whole(piece: str, family: int) -> int | None:
    """The member that a piece is and nothing beside."""
    return next((number for number, pattern in enumerate(_patterns(family)) if pattern.fullmatch(piece)), None)


def _mentions(piece: str, family: int) -> list[tuple[int, re.Match[str]]]:
    """(member, where) for the longer words of a family that a piece affirms; an only short word is too often part of another."""
    if family == _YES_NO:
        return []
    matches = [(number, match) for number, pattern in enumerate(_patterns(family)) for match in pattern.finditer(piece)]
    end, affirmed = 0, []
    for number, match in sorted(matches, key=lambda pair: (pair[1].start(), -pair[1].end())):
        if match.end() > end:  # not within a longer word
            end = match.end()
            if len(match[0]) > (2 if _LATIN.match(match[0]) else 1) and not _DENIES.search(
                piece[max(0, match.start() - 16) : match.start()]
            ):
                affirmed.append((number, match))
    return affirmed


_YES_WORD = re.compile(
    r"(?P<no>否|不是|不对|不正确|错误?|不[可应]以?|不能|不会|不需要?|不必|没有|不属于|不符合|不成立|无需|不同意|"
    r"(?:no|nope|not|false|incorrect|wrong)\b)"
    r"|(?P<yes>是的?(?=\W|$)|对的?(?=\W|$)|正确|可以|能够?|会|应该?当?|需要|必须|属于|符合|成立|同意|有的?(?=\W|$)|"
    r"(?:yes|true|correct|right)\b)"
)


def _starts(text: str, family: int) -> int | None:
    """The member that a text begins with; of yes and no, which most texts hold somewhere, only this counts."""
    if family == _YES_NO:
        match = _YES_WORD.match(text)
        return None if not match or _HEDGE.search(_PIECE.split(text)[0]) else int(bool(match["no"]))
    first = _BARE_PIECE.split(text)[0].strip(_QUOTES)
    return _whole(first, family)


def _shares(subject: str, question: str) -> bool:
    return any(subject[place : place + 2] in question for place in range(len(subject) - 1))


@lru_cache(maxsize=4096)
def _gold_options(gold: str) -> tuple[Set, str]:
    """(the options that a gold consists of, the text of the one it spells out)."""
    plain = half_width(for_rules(gold)).strip()
    if all(sign in _CIRCLED + " ,，、" for sign in plain):
        return frozenset(sign for sign in plain if sign in _CIRCLED), ""
    lead = _LEAD.match(plain.casefold())
    rest = plain[lead.end() if lead else 0 :]
    # In small letters, and out of their order, only what stands between them tells options from a word: add, CFA.
    if (only := _ONLY_LETTERS.fullmatch(rest)) and (only[1].isupper() or len(only[1]) == 1 or _LISTED.search(only[1])):
        letters = _letters(only[1])
        if len(letters) == len(set(letters)) and (letters == sorted(letters) or _LISTED.search(only[1])):
            return frozenset(letters), ""
    if spelled := _WITH_TEXT.fullmatch(rest):
        return frozenset(spelled[1]), _seen(spelled[2]).strip(" .。")
    return frozenset(), ""


@lru_cache(maxsize=4096)
def _member(gold: str) -> tuple[int, int] | None:
    """(family, member) of a gold that is one word of a closed set; None for any other."""
    word = _seen(gold)
    lead = _LEAD.match(word)
    word = word[lead.end() if lead else 0 :].strip(_QUOTES)
    return next(((family, number) for family in range(len(_FAMILIES)) if (number := _whole(word, family)) is not None), None)


def _seen(text: str) -> str:
    boxes = boxed(text)
    return half_width(for_rules(boxes[-1] if len(set(boxes)) == 1 else text)).casefold().strip()
