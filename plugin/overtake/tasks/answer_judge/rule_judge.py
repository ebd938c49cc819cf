"""The rule judge: whether a generated answer states the reference answer, told by normalising both; no model, no call.

What is normalised: case, accents, width, possessives, articles; numbers in words, ordinals, thousands' commas, millions; names of
months, the order of day and month, full hours; abbreviations, units, endings; citation marks, and words glued together before them.
Then, in this order, for each reference answer:

| match   | an answer that                                                                                                     |
|---------|--------------------------------------------------------------------------------------------------------------------|
| exact   | holds all of the reference's words in a row                                                                        |
| list    | holds all parts of an enumeration, in any order                                                                    |
| name    | holds a name's first and last word with two others between at most; or all of the name that the question lacks     |
| place   | holds what stands before the comma, where the question asks for a place                                            |
| words   | holds, in two sentences in a row, half of the words that the question lacks, with all numbers and parts of dates   |
| part    | is itself nothing but a part of the reference; of a name, its last word too; never of a date                       |
| letters | holds the reference's letters, where spaces were lost                                                              |
| choice  | chooses what the reference does, which is an option's letter or 是, 否, yes, no; then nothing else is looked at      |

Signs that carry meaning are words: a minus, a currency before a number, % behind it, the ends of C++ and C#.
A match that is denied ("not Paris", "rather than Paris") or is one of several guesses does not count. Chinese is matched in a row only, and
Chinese numerals are not read. The rules know no synonyms and no facts: they are a floor that a judge has to beat and a check on labels.
Nothing is trained on them: a student would learn to hold words.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from overtake.reading import closed_sets

MOST = 0.5
"""Least share of the words; chosen, as all rules, on one half of 360 questions with human verdicts and confirmed on the other."""

Words = list[str]


class RuleVerdict(NamedTuple):
    """Verdict of the rules on the main answer."""

    main: Literal["correct", "incorrect", "none"]
    """"none": the answer names nothing: it is empty, evades or only guesses."""
    reason: str
    """The kind of match in the table above, or why there is none."""
    confidence: float
    """How often this reason was right on the half of the human verdicts that the rules were made on: (right + 1) / (all + 2)."""


_CONFIDENCE = {
    **{"exact": 0.99, "name": 0.95, "words": 0.89, "letters": 0.86, "place": 0.83, "part": 0.8, "list": 0.75},
    **{"no match": 0.83, "evades": 0.83},
}
_UNTRIED = 0.5

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_FIRST = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth"
_RANKS = {word: rank for rank, word in enumerate([*_FIRST.split(), "seventeenth", "eighteenth", "nineteenth", "twentieth"], 1)}
_NUMBERS = {word: value for value, word in enumerate(_ONES.split())} | {word: 10 * value for value, word in enumerate(_TENS.split(), 2)}
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_LARGE = 10_000  # from here on a number is written as so many thousands or millions; below it may be a year
_ALL_MONTHS = "january february march april may june july august september october november december"
_MONTHS = tuple(_ALL_MONTHS.split())
# One spelling for words that are written in several ways.
_SAME = {
    **{month[:3]: month for month in _MONTHS},
    **{"sept": "september", "once": "1", "twice": "2", "thrice": "3", "single": "1"},
    **{"st": "saint", "mt": "mount", "dr": "doctor", "jr": "junior", "sr": "senior", "vs": "versus", "tv": "television"},
    **{"usa": "us", "america": "us", "american": "us", "uk": "britain", "british": "britain"},
    **{"km": "kilometer", "kilometre": "kilometer", "kg": "kilogram", "ft": "foot", "feet": "foot", "metre": "meter", "percent": "%"},
    **{"theatre": "theater", "centre": "center", "colour": "color"},
}
_ARTICLES = frozenset(("a", "an", "the"))
_LITTLE = (
    "of in on at to for from by with and or as is was were are be been it its their his her this that these those during about around "
    "approximately into which who whom when where what how"
)
_EMPTY = _ARTICLES.union(_LITTLE.split())
_YES_NO = frozenset(
    ["是", "否", "对", "错", "正确", "错误", "不正确", "yes", "no", "Yes", "No", "YES", "NO", "true", "false", "True", "False"]
)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_TOKEN = re.compile(r"\d+s\b|\d+(?:[.:]\d+)*|[a-z](?:\+{1,2}|#)(?![a-z\d])|[a-z]+\d*|[%‰]|[<>≤≥](?=\s*\d)|[^\W_]")
_CURRENCIES = {"$": " dollar ", "€": " euro ", "£": " pound ", "¥": " yuan "}
_MINUS = re.compile(rf"(?<![\w)\]])[-−–]\s?(?=[$€£¥]?\s?\d)|\b(?:minus|negative)(?=\s+(?:[$€£¥]?\d|{_ONES.replace(' ', '|')}))")
_LETTERLESS = re.compile(r"(?!(?<=\d)[-–:/.](?=\d)|(?<!\w)[-−](?=[$€£¥]?\d)|[+#%‰$€£¥<>≤≥])[\W_]")
_TURNS = frozenset(("minus", "<", ">", "≤", "≥"))
"""Words that make another number of the one behind them."""
_ENDS = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“])|(?<=[。！？])|\n+")
_PLACE = re.compile(r"\b(where|city|town|state|country|county|province|place|locat\w+|located)\b")
_DENIED = re.compile(
    r"(\b(not|never|nor|neither|isnt|wasnt|arent|werent|except|without|unlike)|\b(rather|other) than|\binstead of|不是|并非|而非)"
    r"( (in|at|on|by|to|from))?$"
)
_GUESSES = "might|may|could|perhaps|possibly|maybe"
_GUESS = re.compile(rf"\b({_GUESSES}|either)\b[^.]*\bor\b[^.]*\b({_GUESSES}|not sure|cannot|cant)\b|可能是.*也可能是|或许是.*或许是")
_EVADES = re.compile(
    r"\b(sorry|unable to|not able to|((can|could|do|does|did) ?not|cant|couldnt|dont|didnt|doesnt) (find|know|have|provide|tell|determine|"
    r"confirm)|not sure|unknown|no (specific )?(information|answer|idea)|unclear)\b|不知道|不清楚|无法|没有找到|不确定"
)


def judge(question: str, gold: Sequence[str], answer: str) -> RuleVerdict:
    """The verdict on `answer`, where each of `gold` is a reference answer of its own.

    Raises ValueError without a reference answer that holds a word: there is nothing to judge by.

    >>> judge("who found the comet", ["Ana Lucía Müller"], "Ana Muller found it in 1907.")[:2]
    ('correct', 'name')
    >>> judge("when did it open", ["9 October 2003"], "On October 9th, 2003.").main
    'correct'
    >>> judge("capital of France", ["Paris"], "It is Lyon, not Paris.")[:2]
    ('incorrect', 'denied')
    >>> judge("capital of France", ["Paris"], "I could not find that.").main
    'none'
    """
    references = [reference for reference in gold if _words(reference)]
    if not references:
        raise ValueError(f"no reference answer holds a word: {list(gold)!r}")
    stated = _Answer(question, answer)
    if not stated.words:
        return _verdict("none", "empty")
    if all(_is_choice(reference) for reference in references) and (verdict := _chosen(question, references, answer, stated)):
        return verdict
    denied = False
    for reference in references:
        for form in _forms(reference):
            denied_here = False
            for kind, start in _matches(form, stated):
                if start is not None and stated.denies(start):
                    denied = denied_here = True
                elif start is not None or not denied_here:  # what has no place is no second mention
                    return _verdict("none", "guesses") if stated.guesses else _verdict("correct", kind)
    if denied:
        return _verdict("incorrect", "denied")
    return _verdict("none", "evades") if _EVADES.search(stated.folded) else _verdict("incorrect", "no match")


def holds(text: str, fact: str) -> bool:
    """Return whether `text` names `fact`, all of its words in a row in any spelling, denied or not.

    >>> holds("It says January 4th, not the fifth.", "5"), holds("It says January 4th.", "January 5")
    (True, False)
    """
    words, letters = _words(fact), _letters(_fold(fact))
    return any(True for _ in _places(words, _words(text))) if words else bool(letters) and letters in _letters(_fold(text))


def _is_choice(reference: str) -> bool:
    """Whether a reference answer is the letters of options, or one of 是, 否, yes, no, true, false and nothing else."""
    bare = reference.strip(" .。()（）")
    return closed_sets.is_closed(reference) and (bare in _YES_NO or bool(re.fullmatch(r"[A-H](?:[\s,，、;；]*[A-H])*", bare)))


def _chosen(question: str, references: Sequence[str], answer: str, stated: "_Answer") -> RuleVerdict | None:
    """The verdict on a choice; None where an answer names no option, though the reference's letter may be a word in it."""
    if any(closed_sets.grade(answer, reference, question) for reference in references):
        return _verdict("correct", "choice")
    lettered = any(closed_sets.options(reference) for reference in references)
    if lettered and len(closed_sets.letters_in(answer)) < 2 and not closed_sets.options(answer):
        return None
    return _verdict("none" if _EVADES.search(stated.folded) else "incorrect", "choice")


def _verdict(main: Literal["correct", "incorrect", "none"], reason: str) -> RuleVerdict:
    return RuleVerdict(main, reason, _CONFIDENCE.get(reason, _UNTRIED))


class _Answer:
    """An answer as the matches need it."""

    def __init__(self, question: str, text: str) -> None:
        self.asked = _words(question)
        self.for_place = bool(_PLACE.search(_fold(question)))
        self.sentences = [words for sentence in _ENDS.split(text) if (words := _words(sentence))]
        self.words = [word for sentence in self.sentences for word in sentence]
        self.folded = _fold(text)
        self.letters = _letters(self.folded)
        self.guesses = bool(_GUESS.search(self.folded))
        self.windows = [sentence + following for sentence, following in zip(self.sentences, [*self.sentences[1:], []], strict=False)]

    def denies(self, start: int) -> bool:
        """Return whether the words right before word `start` take it back."""
        before = self.words[max(0, start - 3) : start]
        return bool(_DENIED.search(("" if before and _CJK.match(before[-1]) else " ").join(before)))


def _forms(reference: str) -> Iterator[str]:
    """The reference as it is, and without what stands in brackets."""
    yield reference
    bare = re.sub(r"\([^)]*\)|（[^）]*）", " ", reference)
    if bare != reference and _words(bare):
        yield bare


def _matches(reference: str, stated: _Answer) -> Iterator[tuple[str, int | None]]:
    """(kind, number of the first matching word or None) of each match of one reference, in the order of the table."""
    words = _words(reference)
    for start in _places(words, stated.words):
        counts = words[0][0].isdigit() or f" {words[0]} " in _CURRENCIES.values()
        if not (counts and start and stated.words[start - 1] in _TURNS):
            yield "exact", start
    if _CJK.search(reference):
        return  # a character is no word: half of them say nothing
    own = [word for word in words if word not in _EMPTY] or words
    parts = [part for text in re.split(r",|;|\band\b|&", reference) if (part := _words(text))]
    if len(parts) > 1 and all(any(True for _ in _places(part, stated.words)) for part in parts):
        yield "list", None
    new = [word for word in own if not _held(word, stated.asked)] or own
    content = [word for word in stated.words if word not in _EMPTY and not _held(word, stated.asked)]
    if _is_name(reference):
        yield from _names(own, stated)
        if len(new) < len(own):
            yield from (("name", start) for start in _places(new, stated.words))
        if stated.for_place and len(parts) > 1:
            yield from (("place", start) for start in _places(parts[0], stated.words))
    else:
        exact = [word for word in new if _is_fixed(word)]
        for window in (_without_other_signs(window, words) for window in stated.windows):
            share = sum(_held(word, window) for word in new) / len(new)
            if share >= MOST and all(word in window for word in exact):
                yield "words", None
    needed = own[-1:] if _is_name(reference) else [word for word in own if word in _TURNS]
    if (
        content
        and not any(map(_is_dated, own))
        and all(_held(word, own) for word in content)
        and all(_held(word, content) for word in needed)
    ):
        yield "part", None
    letters = _letters(_fold(reference))
    turned = "(?<![-−<>≤≥])" if re.match(r"[$€£¥\d]", letters) else ""
    if len(letters) >= 4 and re.search(turned + re.escape(letters), stated.letters):
        yield "letters", None


def _without_other_signs(window: Words, reference: Words) -> Words:
    """A window without its numbers of another kind: percents where the reference is money, negative ones where it has no minus."""
    money = {word for word in reference if _currency(word)}
    percent = "%" in reference
    turned = any(word in _TURNS for word in reference)
    rest = []
    for place, word in enumerate(window):
        around = [_currency(other) for other in (*window[max(0, place - 1) : place], *_behind(window, place))]
        signs = {sign for sign in around if sign}
        is_percent = window[place + 1 : place + 2] == ["%"]
        lead = place - 1 - bool(place and _currency(window[place - 1]))
        is_turned = lead >= 0 and window[lead] in _TURNS
        other_kind = (money and not percent and is_percent) or (percent and not money and signs and not is_percent)
        other_money = money and signs and not signs & {_currency(sign) for sign in money}
        if not (word[0].isdigit() and (other_kind or other_money or (is_turned and not turned))):
            rest.append(word)
    return rest


def _currency(word: str) -> str:
    """The currency that a word names, "" for none."""
    return next((name for symbol in _CURRENCIES.values() if (name := symbol.strip()) in (word, word.removesuffix("s"))), "")


def _behind(window: Words, place: int) -> Words:
    """The word behind a number, scales aside."""
    after = place + 1
    while after < len(window) and window[after] in _SCALES:
        after += 1
    return window[after : after + 1]


def _names(own: Words, stated: _Answer) -> Iterator[tuple[str, int | None]]:
    for start, word in enumerate(stated.words):
        if _alike(own[0], word) and any(_alike(own[-1], other) for other in stated.words[start + 1 : start + 4]):
            yield "name", start


def _places(words: Words, inside: Words) -> Iterator[int]:
    for start in range(len(inside) - len(words) + 1):
        if all(_alike(left, right) for left, right in zip(words, inside[start : start + len(words)], strict=True)):
            yield start


def _is_name(reference: str) -> bool:
    """Whether it is written like a name: two words and more, each with a capital, none a month, no number."""
    spelled = [word for word in re.findall(r"[^\W\d_][\w.'’-]*", reference) if word.casefold() not in _EMPTY]
    dated = any(_SAME.get(word.casefold(), word.casefold()) in _MONTHS for word in spelled)
    return len(spelled) > 1 and all(word[0].isupper() for word in spelled) and not dated and not re.search(r"\d", reference)


def _is_fixed(word: str) -> bool:
    """Whether another word of its kind says something else: a number, a sign, or a part of a date."""
    return word[0].isdigit() or word in _TURNS or word[-1] in "+#" or _is_dated(word)


def _is_dated(word: str) -> bool:
    return word in _MONTHS or word in ("early", "mid", "late")


def _held(word: str, inside: Words) -> bool:
    return any(_alike(word, other) for other in inside)


@lru_cache(maxsize=1 << 16)
def _alike(first: str, second: str) -> bool:
    """Whether two words are one apart from their endings: river and rivers, Carpathians and Carpathian."""
    if first == second:
        return True
    if first[0].isdigit() or second[0].isdigit() or min(len(first), len(second)) < 4:
        return False
    same = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
    longest = max(len(first), len(second))
    return same >= 4 and longest - same <= 3 and same >= 0.6 * longest


def _fold(text: str) -> str:
    """Lower case without accents, width, apostrophes and raised citation marks."""
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹]+", "", text)
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text))
    text = "".join(char for char in text if not unicodedata.combining(char)).casefold()
    return re.sub(r"['’‘`´](s\b)?", "", text.translate(_LETTERS))


_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe"})


def _letters(folded: str) -> str:
    """The letters, digits and signs that carry meaning, without what else stands between them."""
    return _LETTERLESS.sub("", folded)


def _words(text: str) -> Words:
    """The words of a text in one spelling, without articles.

    >>> _words("The twenty-first of Sept., 7:00 a.m.; 3,500,000 cells")
    ['21', 'of', 'september', '7', 'am', '3.5', 'million', 'cells']
    """
    text = re.sub(r"(?<=[a-z]{2})(?=[A-Z][a-z])", " ", text)  # wasAna
    text = _fold(text).replace("&", " and ")
    text = _MINUS.sub(" minus ", text)
    text = re.sub(r"[$€£¥](?=\s?\d)", lambda match: _CURRENCIES[match[0]], text)
    text = re.sub(r"\b(?:[a-z]\.\s*){2,}", lambda match: re.sub(r"[.\s]", "", match[0]) + " ", text)  # u. s.
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"(\d):00\b", r"\1", text)
    text = re.sub(r"\b(\d+)(?:st|nd|rd|th)\b", r"\1", text)
    text = re.sub(r"(?<=[a-z]{3})\d{1,2}\b", "", text)  # a citation mark: Styria1
    text = re.sub(r"(?<=\d)(?=(?:am|pm|km|kg|cm|mm|m|ft)\b)", " ", text)
    tokens = list(_numbered(_TOKEN.findall(text)))
    # Of a reference such as "A" or "The The" the articles are all there is.
    return [word for word in tokens if word not in _ARTICLES] or tokens


def _numbered(words: Words) -> Iterator[str]:
    """Words with every number in digits."""
    index = 0
    while index < len(words):
        word, index = words[index], index + 1
        value = _value(word)
        if value is None:
            yield "19" + word if re.fullmatch(r"[1-9]0s", word) else str(_RANKS[word]) if word in _RANKS else _SAME.get(word, word)
            continue
        if word in _NUMBERS and value >= 20 and index < len(words):
            unit = _NUMBERS.get(words[index], _RANKS.get(words[index], 10))
            if 0 < unit < 10:
                value, index = value + unit, index + 1
        while index < len(words) and words[index] in _SCALES:
            value, index = value * _SCALES[words[index]], index + 1
        scale = next((name for name in reversed(_SCALES) if value >= max(_LARGE, _SCALES[name])), "")
        yield f"{value / _SCALES[scale]:.12g}" if scale else f"{value:.12g}"
        if scale:
            yield scale


def _value(word: str) -> float | None:
    if word in _NUMBERS:
        return float(_NUMBERS[word])
    return float(word) if re.fullmatch(r"\d+(\.\d+)?", word) and not re.fullmatch(r"0\d+", word) else None
