"""What there is to see of a medical answer: the answer with what rules found in it marked, every rule that applies, the row's rubrics."""

import re

from overtake.cli import Abort
from overtake.reading.normal_forms import half_width
from overtake.reading.tags import split_think
from overtake.remote import chat
from overtake.remote.gateway import Ok
from overtake.task import Line, Part, Row
from overtake.tasks.medical import book as medical_book
from overtake.tasks.medical.book import Book, Rule
from overtake.tasks.medical.columns import ID
from overtake.tasks.medical.judge import CRITERIA, MEDICAL_PARTS, medical_judge_call, medical_verdict
from overtake.tasks.medical.rewards import medical_rules
from overtake.tasks.medical.rewards.medical_rules import Point
from overtake.tasks.medical.rows import MedicalRow
from overtake.tasks.medical.rubrics import Criterion

_QUOTED = re.compile(r"'((?:[^'\\]|\\.)+)'|\"((?:[^\"\\]|\\.)+)\"")


def parts(row: Row, answer: str) -> list[Part]:
    """Answer, rule findings, score and thought."""
    thought, text = (part.strip() for part in split_think(answer))
    of_row = MedicalRow.from_columns({ID: "page", **row})
    verdict = medical_rules.verdict(of_row, answer)
    if verdict is None:
        told = (Line("", "the rules took too long on this answer: no verdict", "规则在这条回答上超时：没有结论"),)
        return [Part("Answer", "回答", text), Part("Rules", "规则", lines=told), Part("Thought", "思考过程", thought, folded=True)]
    book = medical_book.shipped()
    rules = {rule.id: rule for rule in book.rules}
    broken, kept = ([_line(point, rules[point.rule], book) for point in verdict.points if point.broken == of] for of in (True, False))
    score = Line("", f"rule score {verdict.total:.2f} of 1", f"规则得分 {verdict.total:.2f} / 1")
    return [
        Part("Answer", "回答", text, places(text, [point for point in verdict.points if point.broken])),
        Part("Broken rules", "违反的规则", lines=(score, *broken)),
        Part("Rules that hold", "符合的规则", lines=tuple(kept), folded=True),
        Part("Rubric items, which the judge marks", "评分项（请评审打分后标出）", lines=tuple(map(_item, of_row.criteria)), folded=True),
        Part("Thought", "思考过程", thought, folded=True),
    ]


def _line(point: Point, rule: Rule, book: Book) -> Line:
    notes = [f"{point.points:+.2f}"] if point.points else []
    en = "; ".join([rule.en.rstrip("."), *(["safety"] if point.rule in book.safety else []), *notes])
    zh = "；".join([rule.zh.rstrip("。"), *(["安全"] if point.rule in book.safety else []), *notes])
    return Line(point.reason, en, zh, not point.broken, in_chinese(point.reason))


def _item(criterion: Criterion, met: bool | None = None) -> Line:
    """A criterion with its points and, where the judge was asked, whether it is met; one that is a fault speaks against the answer."""
    en, zh = {None: ("", ""), True: (", met", "，做到"), False: (", not met", "，没有做到")}[met]
    if criterion.points < 0 and met is not None:
        en, zh = (", the fault is made", "，犯了此过错") if met else (", the fault is not made", "，没有犯此过错")
    points = f"{criterion.points:+g}"
    return Line(criterion.text, points + en, f"{points} 分{zh}", good=None if met is None else met == (criterion.points > 0))


_REASONS = (
    (r"holds (.+)", "含有{0}"),
    (r"finished and clean", "写得完整、干净"),
    (r"the last sentence has no end", "最后一句没有写完"),
    (r"(\d+) characters or words, fewer than (\d+)", "{0} 字，少于 {1} 字"),
    (r"(\d+) characters or words, more than (\d+)", "{0} 字，多于 {1} 字"),
    (r"(\d+) characters or words", "{0} 字"),
    (r"says the opposite of the reference: (.*)", "与参考答案说反了：{0}"),
    (r"speaks of (\d+) of (\d+), not of (.*)", "{1} 个要点讲到 {0} 个，没有讲到：{2}"),
    (r"speaks of (\d+) of (\d+)", "{1} 个要点讲到 {0} 个"),
    (r"says only (.+)", "只说了{0}"),
    (r"says (.+), which neither the question nor the reference does", "写了{0}，问题和参考答案里都没有"),
    (r"says (.+) and (\d+) characters of anything else", "说了{0}，此外只有 {1} 字"),
    (r"says (.+) alone", "只有一处{0}，不算"),
    (r"says nothing of the kind", "没有这类话"),
    (r"says more than twice: (.*)", "说了两遍以上：{0}"),
    (r"says twice: (.*)", "说了两遍：{0}"),
    (r"says (.+)", "说了{0}"),
    (r"is silent", "没有说到"),
    (r"no amount from nowhere", "没有来历不明的剂量"),
    (r"as the reference does", "与参考答案的说法一致"),
    (r"neither refused nor put off nor made conditional", "没有拒绝、拖延，也没有设条件"),
    (r"puts off (.+) by (.+)", "用{1}推迟了{0}"),
    (r"puts off (.+)", "推迟了{0}"),
    (r"asks for help only (.+)", "求助设了条件：{0}"),
    (r"lists more than (\d+) items", "一句里列了 {0} 项以上"),
    (r"no padding", "没有凑字数"),
    (r"only (\S+) of it is new", "只有 {0} 不是重复"),
    (r"answers", "回答了问题"),
    (r"no answer", "没有回答"),
)
"""Reasons of rewards/medical_rules.py -> the same in Chinese."""


def in_chinese(reason: str) -> str:
    """A rule's reason in Chinese, its quotations as they are.

    >>> in_chinese("puts off '打120' by '明天'"), in_chinese("says '保证根治'")
    ('用“明天”推迟了“打120”', '说了“保证根治”')
    """
    for english, chinese in _REASONS:
        if match := re.fullmatch(english, reason, re.DOTALL):
            return chinese.format(*(_QUOTED.sub(lambda quoted: f"“{quoted[1] or quoted[2]}”", words) for words in match.groups()))
    return reason


def judge(row: Row, answer: str) -> list[Part]:
    """The teacher's verdict: each of the row's rubric items marked, else the checklist. Raises Abort, SettingsError."""
    text, of_row = split_think(answer)[1].strip(), MedicalRow.from_columns({ID: "page", **row})
    (result,) = chat.chat_gateway("judge").run([medical_judge_call(of_row, text)])
    if not isinstance(result, Ok):
        raise Abort(result.reason)
    verdict = medical_verdict(result.value, of_row.criteria)
    lines = (
        [*map(_item, of_row.criteria, verdict.items[CRITERIA])]
        if of_row.criteria
        else [
            Line("", f"{part}: {sum(items)} of {len(items)}", f"{MEDICAL_PARTS[part]}：{sum(items)} / {len(items)}", good=all(items))
            for part, items in verdict.items.items()
        ]
    )
    return [Part("Judge", "评审", lines=(Line(verdict.reason, f"{verdict.score:.2f} of 1", f"{verdict.score:.2f} / 1"), *lines))]


def places(text: str, points: list[Point]) -> tuple[tuple[int, int], ...]:
    """Where the words stand that broken rules quote; in order, none within another.

    >>> places("保证根治，放心", [Point("promises_cure", -0.5, "says '保证根治'", True)])
    ((0, 4),)
    """
    plain = half_width(text).casefold()
    quoted = {(first or second).strip() for point in points for first, second in _QUOTED.findall(point.reason)} - {""}
    if len(plain) != len(text) or not quoted:
        return ()
    pattern = "|".join(map(re.escape, sorted(quoted, key=len, reverse=True)))
    return tuple(match.span() for match in re.finditer(pattern, plain))
