"""Alarms in words, from what a run has logged: pure functions, for GRPO's names and PPO's.

| alarm      | is said when                                                                                                      |
|------------|-------------------------------------------------------------------------------------------------------------------|
| reward     | the mean reward of the last 10 logged steps lies 7 standard errors, or that of the last 40 five, and by 0.05 at   |
|            | least under the best such block before. Of the best of many blocks two errors are chance alone.                   |
| clipping   | over 0.5 of the updates are clipped (the specification's bound; 0.1 to 0.3 is usual), mean of 5 or of a round     |
| value      | the value loss, mean of 5 or of a round, is not 10 % lower than the first were, and the critic explains under 0.1 |
|            | of the returns' variance, mean of 5 rounds; where that is not logged, nor at 0.15, where it is to end             |
| abstaining | over 0.2 of the samples had no score, mean of 5: five groups of 8 in six miss somebody, and the run stops at 0.5  |
| copying    | 0.2 more of the rewrites than in the first 10 steps copy the question, mean of 10 (80 rewrites or more: 3 errors) |
| idle       | over 0.5 of the groups have equal rewards throughout, mean of 20: they teach nothing                              |
| cut_off    | over 0.2 of the completions end at the length limit, mean of 10; of a trained model hardly any does               |
| teacher    | the KL from the teacher, mean of 20, has never been 5 % lower than the mean of the first 20, and is over 0.05     |
|            | nats a token; told from the 40th step on                                                                          |
| drift      | the KL from the teacher, mean of 20, is over 1.5 times that of the best 20 before, and over 0.05 nats a token     |
| off_policy | the k3 estimate of the KL from what wrote to what trains, mean of 10, is over 0.02 and over four times that of    |
|            | the first 10, or over 0.1 from the first 10 on: top-p 0.9 alone makes 0.005; 15 steps of a 0.5B in float32 read 0 |
| entropy    | the entropy of a token, mean of 10, is under a tenth of the first 10's: one answer to every question              |

What is said of samples is logged with a rollout, and counted there: PPO has one in a round of many updates, GRPO one in each step. In the
first epoch of a round hardly anything is clipped and in the last most, so that only rounds compare.

Measured on made-up curves with a scatter of 0.2 (pytest -s tests/trainers/test_alarms.py): of 20 flat runs of 1,250 steps none is called
falling; a fall by 0.3 within 60 steps is told after 60, a decline by 0.2 within 500 after 400 (medians of 30 runs). No knobs.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance
from typing import Any

Row = Mapping[str, Any]

_FALLS = ((10, 7.0), (40, 5.0))
_SMALLEST_FALL = 0.05
_FEW, _SOME, _MANY = 5, 10, 20
_OF_ROLLOUT = ("reward", "objective/scores")
_LEAST_TEACHER_KL, _TEACHER_FALL, _DRIFT, _ENTROPY_LEFT = 0.05, 0.95, 1.5, 0.1
_LEAST_K3, _K3_GROWTH, _FAR_FROM_THE_START = 0.02, 4.0, 0.1
_MOST_CLIPPED, _LEARNT_VALUE_LOSS, _LEAST_EXPLAINED, _MOST_ABSTAINED, _MORE_COPIES, _MOST_IDLE, _MOST_CUT_OFF = (
    0.5,
    0.15,
    0.1,
    0.2,
    0.2,
    0.5,
    0.2,
)


def is_training(row: Row) -> bool:
    """Return whether a row of trainer_state's log_history is of training steps: neither an evaluation's nor the summary at the end."""
    return "eval_runtime" not in row and "train_runtime" not in row


def alarms(history: Sequence[Row]) -> dict[str, str]:
    """Alarms that hold now, in words, by name. `history` holds the values of each logged step, oldest first.

    >>> alarms([{"policy/clipfrac_avg": 0.6}] * 5)
    {'clipping': '60 % of the updates are clipped (mean of 5 logged steps; 10 to 30 % is usual): lower --learning_rate'}
    """
    rows = [row for row in history if is_training(row)]
    raised = {
        "reward": _reward(rows),
        "clipping": _clipping(rows),
        "value": _value(rows),
        "abstaining": _abstaining(rows),
        "copying": _copying(rows),
        "idle": _idle(rows),
        "cut_off": _cut_off(rows),
        **_teacher(rows),
        "entropy": _entropy(rows),
        "off_policy": _off_policy(rows),
    }
    return {name: text for name, text in raised.items() if text}


def news(history: Sequence[Row]) -> dict[str, str]:
    """The alarms that hold now and have not held in the 20 logged steps before: each is said once, not at every step."""
    rows = [row for row in history if is_training(row)]
    raised = alarms(rows)
    for back in range(1, min(_MANY, len(rows)) + 1):
        if not raised:
            break
        before = alarms(rows[:-back])
        raised = {name: text for name, text in raised.items() if name not in before}
    return raised


def _reward(rows: Sequence[Row]) -> str:
    values = _values(rows, *_OF_ROLLOUT)
    for size, errors in _FALLS:
        blocks = [values[end - size : end] for end in range(len(values), size - 1, -size)]
        if len(blocks) < 2:
            continue
        last, best = blocks[0], max(blocks[1:], key=fmean)
        fall = fmean(best) - fmean(last)
        if fall > max(_SMALLEST_FALL, errors * math.sqrt((variance(best) + variance(last)) / size)):
            return (
                f"the mean reward is falling: {fmean(last):.3f} over the last {size} logged steps, {fmean(best):.3f} in its best {size}. "
                "The learning rate may be too high: lower --learning_rate and go on from a checkpoint before the fall"
            )
    return ""


def _clipping(rows: Sequence[Row]) -> str:
    size = _round(rows)
    share = _last(rows, size, "clip_ratio/region_mean", "clip_ratio", "policy/clipfrac_avg")
    if share is None or share <= _MOST_CLIPPED:
        return ""
    return f"{share * 100:.0f} % of the updates are clipped (mean of {size} logged steps; 10 to 30 % is usual): lower --learning_rate"


def _value(rows: Sequence[Row]) -> str:
    size = _round(rows)
    losses, explained = _values(rows, "loss/value_avg"), _values(rows, "val/explained_variance")
    if len(losses) < 3 * size or 0 < len(explained) < _FEW:
        return ""
    first, last = fmean(losses[:size]), fmean(losses[-size:])
    learnt = fmean(explained[-_FEW:]) >= _LEAST_EXPLAINED if explained else last < _LEARNT_VALUE_LOSS
    if learnt or last < 0.9 * first:
        return ""
    return (
        f"the value loss does not fall: {first:.3f} in the first {size} logged steps, {last:.3f} in the last. The critic does not learn: "
        "see to its learning rate and to what it starts from"
    )


def _abstaining(rows: Sequence[Row]) -> str:
    rows = [row for row in rows if any(name in _OF_ROLLOUT or name.startswith("abstain/") for name in row)][-_FEW:]
    reasons = sorted({name for row in rows for name in row if name.startswith("abstain/")})
    shares = {name: fmean(row.get(name, 0.0) for row in rows) for name in reasons}
    if len(rows) < _FEW or sum(shares.values()) <= _MOST_ABSTAINED:
        return ""
    most = max(shares, key=lambda name: shares[name]).removeprefix("abstain/")
    return (
        f"{sum(shares.values()) * 100:.0f} % of the samples had no score (mean of {_FEW} logged steps), most often because of: {most}. "
        "trace.jsonl and the ledger of calls say what the service answered"
    )


def _copying(rows: Sequence[Row]) -> str:
    copies = _values(rows, "rewrite/copy")
    if len(copies) < _SOME:
        return ""
    first, last = fmean(copies[:_SOME]), fmean(copies[-_SOME:])
    if last - first <= _MORE_COPIES:
        return ""
    return (
        f"{last * 100:.0f} % of the rewrites copy the question, {first * 100:.0f} % did in the first {_SOME} logged steps: give the reward "
        "rewrite_rules more weight, or train on questions whose own words find less"
    )


def _idle(rows: Sequence[Row]) -> str:
    share = _last(rows, _MANY, "frac_reward_zero_std")
    if share is None or share <= _MOST_IDLE:
        return ""
    return (
        f"in {share * 100:.0f} % of the groups all rewards are equal (mean of {_MANY} logged steps), so they teach nothing: raise "
        "--temperature or --num_generations, or take other questions"
    )


def _cut_off(rows: Sequence[Row]) -> str:
    share = _last(rows, _SOME, "completions/clipped_ratio")
    if share is None or share <= _MOST_CUT_OFF:
        return ""
    return (
        f"{share * 100:.0f} % of the completions are cut off at the length limit (mean of {_SOME} logged steps): raise "
        "--max_completion_length, or see why the model does not end"
    )


def _teacher(rows: Sequence[Row]) -> dict[str, str]:
    """`drift` or `teacher`: too fast a rate looks the same at first as too slow a one, and wants the contrary."""
    if not rows or "teacher_kl" not in rows[-1]:
        return {}
    values = _values(rows, "teacher_kl")
    if len(values) < 2 * _MANY:
        return {}
    before = [fmean(values[at : at + _MANY]) for at in range(0, len(values) - 2 * _MANY + 1, _MANY)]
    first, best, last = before[0], min(before), fmean(values[-_MANY:])
    if last > max(_LEAST_TEACHER_KL, _DRIFT * best):
        return {
            "drift": f"the student moves away from its teacher: KL of a token {last:.3f} nats in the last {_MANY} logged steps, {best:.3f} "
            f"in its best {_MANY}. Lower --learning_rate and go on from a checkpoint before"
        }
    if last <= _LEAST_TEACHER_KL or min(best, last) < _TEACHER_FALL * first:
        return {}
    return {
        "teacher": f"the student comes no nearer to its teacher: KL of a token {first:.3f} nats in the first {_MANY} logged steps, "
        f"{last:.3f} in the last {_MANY}. Raise --learning_rate or --teacher_kl_coef, or begin with SFT on the teacher's texts"
    }


def _entropy(rows: Sequence[Row]) -> str:
    if not rows or not {"policy/entropy_avg", "entropy/mean"} & rows[-1].keys():
        return ""
    entropies = _values(rows, "policy/entropy_avg", "entropy/mean")
    if len(entropies) < 2 * _SOME:
        return ""
    first, last = fmean(entropies[:_SOME]), fmean(entropies[-_SOME:])
    if last >= _ENTROPY_LEFT * first:
        return ""
    return (
        f"the entropy collapses: {last:.4f} nats a token over the last {_SOME} logged steps, {first:.4f} in the first {_SOME}. The model "
        "comes to one answer: lower --learning_rate, raise --temperature, and go on from a checkpoint before"
    )


def _off_policy(rows: Sequence[Row]) -> str:
    distances = _values(rows, "rollout_correction/k3_kl")
    if len(distances) < _SOME:
        return ""
    first, last = fmean(distances[:_SOME]), fmean(distances[-_SOME:])
    grown = max(_LEAST_K3, min(_K3_GROWTH * first, _FAR_FROM_THE_START))
    if last <= (_FAR_FROM_THE_START if len(distances) < 2 * _SOME else grown):
        return ""
    return (
        f"vLLM does not write what is trained: rollout_correction/k3_kl {last:.3f} over the last {_SOME} logged steps, {first:.3f} in the "
        f"first {_SOME}. Its log says whether it took the last weights; else see that both load one precision and --top_p is near 1"
    )


def _values(rows: Sequence[Row], *names: str) -> list[float]:
    """Of each row the value under the first of these names that it holds; rows without are left out."""
    return [float(next(row[name] for name in names if name in row)) for row in rows if any(name in row for name in names)]


def _last(rows: Sequence[Row], count: int, *names: str) -> float | None:
    """The mean of the last `count` values; None while there are fewer."""
    values = _values(rows, *names)[-count:]
    return fmean(values) if len(values) == count else None


def _round(rows: Sequence[Row]) -> int:
    """The steps from one rollout to the next, five at least; of the first round, those that it has had."""
    begins = [at for at, row in enumerate(rows) if any(name in row for name in _OF_ROLLOUT)]
    if not begins:
        return _FEW
    return max(_FEW, begins[-1] - begins[-2] if len(begins) > 1 else len(rows) - begins[0])
