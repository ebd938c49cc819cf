"""The watch for a cheated reward: what in a finished run's log says that the policy learnt the reward and not the task.

| sign     | is told when                                                                                                       |
|----------|--------------------------------------------------------------------------------------------------------------------|
| held_out | the held-out reward, mean of two evaluations, ends under its best by 0.05 and by four times the scatter at least,  |
|          | or a held-out loss by a tenth of itself; five evaluations are needed                                               |
| table    | the trained system is worse than the one it came from on the held-out rows: the paired interval excludes 0         |
| cheats   | copies, stuffing, talk to the grader, ... of the samples rise by 0.1                                               |
| lengths  | completions end twice as long as they began, or half, or a tenth more of them end at the length limit              |
| opinions | one judge of an answer is won over while what is counted falls, each by 0.05                                       |

Rise and fall are of the mean of the last fifth over that of the first, and count from four standard errors on; ten logged values are
needed. The scatter is that of second differences (a trend has none), their median, so that a turn does not count as scatter. On made-up
curves of 5 to 20 evaluations (pytest -s tests/evaluation/test_watch.py) with a scatter of 0.02 at most 1 flat one in 100 is called a fall,
with 0.05 some 3; a fall by 0.15 is told at 0.02 in 22 of 100 by 5 evaluations, in 76 by 10, in 97 by 20: evaluate often.
Words come in English and Chinese. alarms.py speaks during the run, of its last steps; this reads the whole of it.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from overtake.evaluation.curves import first_and_last_fifth
from overtake.evaluation.statistics import Interval
from overtake.task import Cheat, Opinion, Task

Row = Mapping[str, Any]

SIGNS = {
    "held_out": ("held-out score during training", "训练中的留出集得分"),
    "table": ("held-out table", "留出对比表"),
    "cheats": ("copies and other tricks", "照抄等取巧手法"),
    "lengths": ("lengths", "长度"),
    "opinions": ("judge against what is counted", "评审与可计量指标"),
}
"""What is looked at, in words."""

_LEAST, _ERRORS = 10, 4.0
_LEAST_EVALUATIONS = 5
_FALL, _LOSS_RISE, _MORE_CHEATS, _LONGER, _MORE_CUT_OFF, _OPINION = 0.05, 0.1, 0.1, 2.0, 0.1, 0.05


class Said(NamedTuple):
    """One finding, in both languages."""

    english: str
    chinese: str


class Change(NamedTuple):
    """A curve's mean over its first and over its last fifth, and the standard error of their difference."""

    first: float
    last: float
    error: float

    @property
    def rise(self) -> float:
        """Amount by which it rose; 0.0 where that may be chance."""
        return self.last - self.first if abs(self.last - self.first) > _ERRORS * self.error else 0.0


def watch(rows: Sequence[Row], tasks: Sequence[Task], against: Mapping[str, Interval] | None = None) -> dict[str, Said | None]:
    """Findings of the watch, one a sign: a finding, or None for nothing wrong; a sign that the run gives no means to tell is left out.

    rows: those of logging.jsonl. tasks: those whose cheats and opinions are looked for. against: the paired difference on the held-out
    rows of the trained candidate to each that it came from, by that one's name.

    >>> watch([{"completions/mean_length": 10.0 + step} for step in range(50)], [])["lengths"].english[:42]
    'completions went from 14 to 54 tokens: see'
    """
    signs = {
        "held_out": _held_out(rows),
        "table": _table(rows, against),
        "cheats": _cheats(rows, [cheat for task in tasks for cheat in task.cheats]),
        "lengths": _lengths(rows),
        "opinions": _opinions(rows, [opinion for task in tasks for opinion in task.opinions]),
    }
    return {name: sign if sign.english else None for name, sign in signs.items() if sign is not None}


_CLEAR = Said("", "")


def scatter(values: Sequence[float]) -> float:
    """Standard deviation of a curve around its own course, by the median of its second differences.

    >>> scatter([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    0.0
    """
    bends = [a - 2 * b + c for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    # Of normal scatter a second difference has 6 times the variance, and the median of its square is 0.455 of that.
    return round(math.sqrt(median(bend * bend for bend in bends) / (6 * 0.455)), 9)


def change(rows: Sequence[Row], name: str) -> Change | None:
    """Change of a curve, its end over its beginning; None for fewer than ten values."""
    values = _values(rows, name)
    if len(values) < _LEAST:
        return None
    return Change(*first_and_last_fifth(values), error=scatter(values) * math.sqrt(2 / (len(values) // 5)))


def _held_out(rows: Sequence[Row]) -> Said | None:
    for name, sign in (("eval_reward", 1.0), ("eval_loss", -1.0)):
        values = [sign * value for value in _values(rows, name)]
        # ms-swift's RL logs a loss of evaluation too, which says nothing.
        if len(values) < _LEAST_EVALUATIONS or (sign < 0 and _values(rows, "reward")):
            continue
        pairs = [(a + b) / 2 for a, b in pairwise(values)]
        best = max(range(len(pairs)), key=pairs.__getitem__)
        least = _FALL if sign > 0 else _LOSS_RISE * abs(pairs[best])
        if pairs[best] - pairs[-1] <= max(least, _ERRORS * scatter(values)):
            return _CLEAR
        steps = [row["global_step/max_steps"].split("/")[0] for row in rows if name in row and "global_step/max_steps" in row]
        at, at_chinese = (f" (near step {steps[best + 1]})", f"（约第 {steps[best + 1]} 步）") if len(steps) == len(values) else ("", "")
        top, end = abs(pairs[best]), abs(pairs[-1])
        if sign < 0:
            return Said(
                f"the held-out loss rose from its lowest, {top:.3f}{at}, to {end:.3f}: the model learns its training rows by heart",
                f"留出集损失从最低的 {top:.3f}{at_chinese}升到 {end:.3f}：模型在死记训练数据",
            )
        reward = change(rows, "reward")
        if reward and reward.rise > 0:
            return Said(
                f"the training reward rose from {reward.first:.3f} to {reward.last:.3f} while the held-out reward fell from its best, "
                f"{top:.3f}{at}, to {end:.3f}: take the checkpoint nearest to the best",
                f"训练奖励从 {reward.first:.3f} 升到 {reward.last:.3f}，而留出集奖励从最高的 {top:.3f}{at_chinese}降到 {end:.3f}："
                "请用离最高点最近的检查点",
            )
        return Said(
            f"the held-out reward fell from its best, {top:.3f}{at}, to {end:.3f}, and the training reward did not rise",
            f"留出集奖励从最高的 {top:.3f}{at_chinese}降到 {end:.3f}，训练奖励也没有上升",
        )
    return None


def _table(rows: Sequence[Row], against: Mapping[str, Interval] | None) -> Said | None:
    if not against:
        return None
    reward = change(rows, "reward")
    rose = reward is not None and reward.rise > 0
    worse = {name: difference for name, difference in against.items() if difference.high < 0}
    if not worse:
        return _CLEAR
    numbers = ", ".join(f"{name}: {interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]" for name, interval in worse.items())
    return Said(
        f"on the held-out rows it is worse than what it came from ({numbers}){', though the training reward rose' if rose else ''}",
        f"在留出数据上比训练前更差（{numbers}）{'，尽管训练奖励上升了' if rose else ''}",
    )


def _cheats(rows: Sequence[Row], cheats: Sequence[Cheat]) -> Said | None:
    moving = [(cheat, moved) for cheat in cheats if (moved := change(rows, cheat.name))]
    if not moving:
        return None
    more = [(cheat, shift) for cheat, shift in moving if shift.rise > _MORE_CHEATS]
    return Said(
        "; ".join(f"{cheat.en} rose from {shift.first:.2f} to {shift.last:.2f} of the samples" for cheat, shift in more),
        "；".join(f"{cheat.zh}的占比从 {shift.first:.2f} 升到 {shift.last:.2f}" for cheat, shift in more),
    )


def _lengths(rows: Sequence[Row]) -> Said | None:
    length, cut_off = change(rows, "completions/mean_length"), change(rows, "completions/clipped_ratio")
    if length and length.rise and not 1 / _LONGER < length.last / max(length.first, 1e-9) < _LONGER:
        more, more_chinese = ("added", "多了") if length.last > length.first else ("left out", "少了")
        return Said(
            f"completions went from {length.first:.0f} to {length.last:.0f} tokens: see in the examples what was {more}",
            f"回答长度从 {length.first:.0f} 变到 {length.last:.0f} 个 token：请看示例中{more_chinese}什么",
        )
    if cut_off and cut_off.rise > _MORE_CUT_OFF:
        return Said(
            f"the share of completions that end at the length limit rose from {cut_off.first:.2f} to {cut_off.last:.2f}",
            f"到达长度上限的回答比例从 {cut_off.first:.2f} 升到 {cut_off.last:.2f}",
        )
    return _CLEAR if length else None


def _opinions(rows: Sequence[Row], opinions: Sequence[Opinion]) -> Said | None:
    compared = False
    for opinion in opinions:
        pleased, measured = change(rows, opinion.judge), change(rows, opinion.counted)
        compared = compared or bool(pleased and measured)
        if pleased and measured and pleased.rise > _OPINION and measured.rise < -_OPINION:
            return Said(
                f"{opinion.judge_en} rose from {pleased.first:.2f} to {pleased.last:.2f} while {opinion.counted_en} fell from "
                f"{measured.first:.2f} to {measured.last:.2f}: the reward is won without the task",
                f"{opinion.judge_zh}从 {pleased.first:.2f} 升到 {pleased.last:.2f}，而{opinion.counted_zh}从 {measured.first:.2f} 降到 "
                f"{measured.last:.2f}：奖励升了，任务却没有做得更好",
            )
    return _CLEAR if compared else None


def _values(rows: Sequence[Row], name: str) -> list[float]:
    return [float(row[name]) for row in rows if name in row and not math.isnan(float(row[name]))]
