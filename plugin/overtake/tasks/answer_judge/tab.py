"""What there is to see of a verdict: both parts of it, the reasons, and the reference's key facts in the answer that was judged."""

import re

from overtake.task import Line, Part, Row
from overtake.tasks.answer_judge.judgements import Value, read_judgement
from overtake.tasks.answer_judge.rows import alternatives

_WORDS: dict[Value, tuple[str, str, bool | None]] = {
    "correct": ("correct", "正确", True),
    "incorrect": ("incorrect", "错误", False),
    "none": ("none", "无", None),
}


def parts(row: Row, answer: str) -> list[Part]:
    """Verdict, reasons, and the judged answer with its key facts marked; of what is no verdict, why it is none and the text."""
    judged = row["answer_hat"]
    facts = Part("The judged answer, with the reference's facts", "待判答案（标出参考答案中的事实）", judged, places(judged, row["answer"]))
    try:
        judgement = read_judgement(answer)
    except ValueError as error:
        return [Part("No verdict", "没有可读的判断", lines=(Line(str(error), good=False),)), Part("Text", "原文", answer), facts]
    lines = []
    for (en, zh), value in ((("main answer", "主要答案"), judgement.main), (("everything else", "其余内容"), judgement.secondary)):
        said_en, said_zh, good = _WORDS[value]
        lines.append(Line("", f"{en}: {said_en}", f"{zh}：{said_zh}", good))
    reason = Part("Reasons", "理由", judgement.reason, places(judgement.reason, row["answer"]))
    return [Part("Verdict", "判断", lines=tuple(lines)), reason, facts]


def places(text: str, reference: str) -> tuple[tuple[int, int], ...]:
    """Where the reference answers, and their numbers, stand in a text; in order, none within another.

    >>> places("It was Ann in 1901.", "Ann, 1901")
    ((7, 10), (14, 18))
    """
    words = [word for spelling in alternatives(reference) for word in (spelling, *re.split(r"[\s,，。;；、]+", spelling))]
    wanted = sorted({word for word in words if len(word) > 1 or word.isdigit()}, key=len, reverse=True)
    if not wanted:
        return ()
    pattern = "|".join(rf"(?<![0-9a-z]){re.escape(word)}(?![0-9a-z])" if word.isascii() else re.escape(word) for word in wanted)
    return tuple(match.span() for match in re.finditer(pattern, text, re.IGNORECASE))
