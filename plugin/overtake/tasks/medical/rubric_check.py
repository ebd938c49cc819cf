"""Criteria of a rubric that cannot be used as they are: they contradict each other, or no judge can tell them from an answer."""

import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from rapidfuzz import fuzz

from overtake.reading.normal_forms import for_likeness, half_width
from overtake.tasks.medical.rubrics import Criterion

_ALIKE = 90
"""Similarity, of 100, from which two criteria speak of the same thing."""
_OPPOSITES = (
    ("立即|马上|尽快|立刻", "延后|推迟|先观察|过几天"),
    ("增加|加大|升高|提高|加量", "减少|减小|降低|减量"),
    ("多(?=[吃喝做动休])", "少(?=[吃喝做动休])"),
    ("允许|鼓励|支持|赞成", "禁止|劝阻|反对"),
    ("继续", "停止|停用"),
    ("高于|超过|多于", "低于|少于"),
    (r"\b(?:immediately|at once|now)\b", r"\b(?:later|delays?|waits?)\b"),
    (r"\b(?:increases?|raises?|more)\b", r"\b(?:decreases?|reduces?|lowers?|less|fewer)\b"),
    (r"\b(?:continues?|starts?)\b", r"\b(?:stops?|discontinues?)\b"),
    (r"\b(?:recommends?|encourages?|advises?)\b", r"\b(?:discourages?|forbids?|warns? against)\b"),
)
_NEGATION = re.compile(
    r"(?<!是)不(?:要|能|得|应该?|应当|可以?|必|需要?|用|会|宜)?|没有?|未能?|无(?=[须需])|(?<![特分个区告级性])别(?!人)|勿|避免"
    r"|\b(?:does not|do not|doesn't|don't|not|never|no|without|avoids?|fails to)\b"
)
_FILLING = re.compile(
    r"可以|回答|内容|应该?|应当|需要?|必须|明确|要求|要|须|能|的|了|地|得|把|让|请|会|\b(?:the|a|an|response|answer|should|must|that|to)\b|\s"
)
_UNIT = r"\s*([\u4e00-\u9fff]|[a-z]+)?"
_LEAST = re.compile(rf"(?:至少|不少于|不低于|不得少于|≥|>=|at least|no fewer than|no less than)\s*(\d+){_UNIT}")
_MOST = re.compile(rf"(?:至多|最多|不超过|不多于|不高于|不得超过|≤|<=|at most|no more than)\s*(\d+){_UNIT}|(\d+)\s*([\u4e00-\u9fff])以内")
_UNSEEN = re.compile(
    r"(?:服药|用药|治疗|随访|复诊|手术|干预)后[^，。；]{0,8}(?:好转|痊愈|缓解|满意)"
    r"|患者(?:会|应|要|最终)?(?:感到?|觉得|表示)?满意|患者(?:病情)?(?:好转|痊愈)"
    r"|(?:响应|回复|生成|回答|推理)(?:的)?(?:时间|速度|耗时)|比(?:其他|别的|另一个|上一个|前一个)(?:模型|回答|答案)"
    r"|(?:见|如|参照)(?:附件|附图|附表|下图|上图|下表)|文件名|语音|语调|表情|点击|链接可以?打开"
    r"|\bsee (?:the )?(?:attachment|appendix|figure|image)\b|\b(?:response|generation) time\b"
    r"|\b(?:the )?patient (?:is satisfied|recovers|gets better|feels better)\b"
    r"|\bbetter than (?:the )?(?:other|another|previous) (?:answers?|responses?|models?)\b"
)
"""What does not stand in an answer: how it went with the patient, how long it took, other answers, pictures."""
_SAYS = re.compile(
    r"说明|解释|告诉|告知|提醒|建议|指出|强调|介绍|描述|提到|询问|警告|\b(?:explain|mention|ask|tell|warn|state|say|advise|recommend|describe)s?\b"
)
"""Behind such a word it is what an answer says of how it goes with a patient."""
_VAGUE = re.compile(
    r"很|较|更|比较|非常|足够|十分|尽量|总体|整体|质量|水平|表达|语言|信息|程度|[和与、且并，。,.;；]"
    r"|好|优秀|良好|不错|合理|恰当|适当|合适|到位|专业|全面|完整|正确|准确|有用|有帮助|高质量|令人满意|满意|清楚|清晰"
    r"|\b(?:is|are|be|good|great|excellent|appropriate|reasonable|professional|comprehensive|complete|correct|accurate|helpful|useful)\b"
    r"|\b(?:high|quality|very|and|of|overall|clear)\b"
)
_OPEN = re.compile(r"待补充|待定|待完善|TODO|TBD|XX+$|_{3,}|\.{4,}|…$")
_JOINTS = re.compile(
    r"\s*[；;]\s*|[，,]\s*(?:并且?|同时也?|而且|以及|还要?|且)(?=[^，,；;]{3,})"
    r"|,? and (?=(?:also |it )?(?:advises?|recommends?|explains?|states?|mentions?|asks?|tells?|warns?|says?)\b)"
)
"""What joins two demands of one criterion."""
_SHORT = 4


class Fault(NamedTuple):
    """A criterion, by its number from 1 on, and why it cannot be used as it is, with the remedy."""

    number: int
    why: str


def faults(criteria: Sequence[Criterion]) -> list[Fault]:
    """Everything that is wrong with the criteria of one row.

    >>> faults([Criterion("建议立即拨打120", 5), Criterion("建议过几天拨打120", 5)])[0].why
    'contradicts item 1: no answer can meet both; delete one, or give it points below 0'
    >>> [fault.why.partition(":")[0] for fault in faults([Criterion("回答专业全面", 2), Criterion("说明病因", 2)])]
    ['no answer can be held against it']
    """
    alone = [Fault(number, why) for number, criterion in enumerate(criteria, 1) if (why := _unjudged(criterion.text))]
    return sorted([*alone, *_between(criteria)])


def split(criterion: Criterion) -> list[Criterion]:
    """A criterion's demands, each by itself, which share its points.

    >>> split(Criterion("说明病因；建议两周后复查", 4))
    [Criterion(text='说明病因', points=2.0), Criterion(text='建议两周后复查', points=2.0)]
    """
    parts = [part for part in (text.strip(" ，,；;。") for text in _JOINTS.split(criterion.text)) if len(for_likeness(part)) >= _SHORT]
    if len(parts) < 2:
        return [criterion]
    return [Criterion(part, round(criterion.points / len(parts), 2)) for part in parts]


def _unjudged(text: str) -> str:
    plain = half_width(text).casefold()
    if _OPEN.search(text):
        return "it is not finished: write what an answer has to hold, or delete it"
    found = _UNSEEN.search(plain)
    if found and not _SAYS.search(plain, 0, found.start()):
        return f"{found[0]!r} does not stand in an answer, so no judge can tell: ask for what the answer says"
    if len(for_likeness(_FILLING.sub("", _VAGUE.sub("", plain)))) < 2:
        return "no answer can be held against it: name the fact, the advice or the question that it has to hold"
    return ""


def _between(criteria: Sequence[Criterion]) -> Iterator[Fault]:
    """Pairs that contradict each other, or pay for the same thing twice."""
    read = [(*_stance(criterion.text), criterion) for criterion in criteria]
    for (earlier, (stem, turned, first)), (number, (other, other_turned, second)) in combinations(enumerate(read, 1), 2):
        same_sign = (first.points > 0) == (second.points > 0)
        if amounts := _amounts(first.text, second.text) if same_sign else "":
            yield Fault(number, f"contradicts item {earlier}: {amounts}; correct one of the two")
        elif fuzz.ratio(stem, other) >= _ALIKE and _numbers(first.text) == _numbers(second.text):
            if same_sign == (turned != other_turned):
                why = "no answer can meet both" if first.points > 0 < second.points else "an answer earns and loses by the same words"
                why = why if first.points > 0 < second.points or not same_sign else "every answer has one of the two faults"
                yield Fault(number, f"contradicts item {earlier}: {why}; delete one, or give it points below 0")
            else:
                yield Fault(number, f"says the same as item {earlier}, so that one thing counts twice: delete one of the two")


def _stance(text: str) -> tuple[str, bool]:
    """What a criterion is about, without the words that turn it round; and whether an odd number of them does."""
    stem, turns = half_width(text).casefold(), 0
    for at, (yes, no) in enumerate(_OPPOSITES):
        stem = re.sub(yes, f"±{at}", stem)
        stem, count = re.subn(no, f"±{at}", stem)
        turns += count
    stem, count = _NEGATION.subn("", stem)
    return for_likeness(_FILLING.sub("", stem)), (turns + count) % 2 == 1


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d+(?:\.\d+)?", half_width(text))


def _amounts(text: str, other: str) -> str:
    """At least so much in one and at most less in the other, of the same thing; "" where both can be."""
    for first, second in ((text, other), (other, text)):
        least, most = _LEAST.search(half_width(first).casefold()), _MOST.search(half_width(second).casefold())
        if least and most:
            number, unit = (most[1], most[2]) if most[1] else (most[3], most[4])
            if int(least[1]) > int(number) and (least[2] or "") == (unit or ""):
                return f"at least {least[1]} and at most {number}"
    return ""
