"""What there is to see of a solution: the answer and how it was read, whether it is right where that is known, the reasoning folded."""

from overtake.cli import Abort
from overtake.data.tables import BadInput
from overtake.reading.numbers import read_quantity
from overtake.reading.tags import last_answer, split_think
from overtake.remote import chat
from overtake.remote.gateway import Ok
from overtake.task import Line, Part, Row
from overtake.tasks.finance.judge import reasoning_call
from overtake.tasks.finance.rewards import answer_format, finance_accuracy


def parts(row: Row, answer: str) -> list[Part]:
    """Answer, how it was read, form, and the reasoning."""
    given = last_answer(answer)
    reasoning, rest = split_think(answer)
    lines = [_read(given)]
    if row.get("gold_answer", "").strip() and given is not None:
        lines.append(_right(answer, row))
    if fault := answer_format.rejection_reason(answer):
        lines.append(Line(fault, "out of form", "格式不符", False))
    shown = rest.strip() if given is None else given
    return [
        Part("Answer", "答案", shown),
        Part("How it was read", "如何读取", lines=tuple(lines)),
        Part("Reasoning", "推理过程", reasoning.strip(), folded=True),
    ]


def judge(row: Row, answer: str) -> list[Part]:
    """The four criteria of the reasoning, and the weakest step. Raises Abort, BadInput without a right answer, SettingsError."""
    gold = row.get("gold_answer", "").strip()
    if not gold:
        raise BadInput("the judge compares with the right answer: write it down first")
    (result,) = chat.chat_gateway("judge").run([reasoning_call(row["question"], gold, answer)])
    if not isinstance(result, Ok):
        raise Abort(result.reason)
    criteria = [Line("", f"{name}: {share:.2f}", f"{name}：{share:.2f}") for name, share in result.value["criteria"].items()]
    return [Part("Judge", "评审", lines=(*criteria, Line(str(result.value["weakest"]))))]


def _read(given: str | None) -> Line:
    if given is None:
        return Line("", "there is no answer tag", "没有答案标签", False)
    quantity = read_quantity(given)
    if quantity is None:
        return Line("", "read as words", "按文字读取")
    number = f"{quantity.value.normalize():f}"
    return Line(f"{number} {quantity.unit}".strip(), "read as a number", "按数值读取")


def _right(answer: str, row: Row) -> Line:
    kind = "calculation" if read_quantity(row["gold_answer"]) is not None else "analysis"
    share = finance_accuracy.score(answer, row["gold_answer"], row.get("type") or kind, row["question"])
    if share is None:
        return Line("", "that right answer cannot be graded by the rules", "该标准答案无法按规则判分")
    return Line("", f"right: {share:.0%}", f"正确：{share:.0%}", share == 1)
