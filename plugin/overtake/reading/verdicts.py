"""Reading the JSON that a judge or an extractor was told to answer with: exactly one object, or an error."""

import json
import re
from collections.abc import Sequence
from typing import Any

CRITERIA = ("logic", "accuracy", "completeness", "concision")
"""Of a verdict on a reasoned answer: logical clarity, professional accuracy, completeness, concision."""
_CHECKS = 3
_FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)


def read_rewrite_verdict(text: str) -> tuple[float, str]:
    """(score in 0..5, reason) of a judge's verdict on a rewrite. Raises ValueError for anything else than one strict object.

    >>> read_rewrite_verdict('{"综合得分": 4.5, "评分理由": "术语准确"}')
    (4.5, '术语准确')
    """
    verdict = _one_object(text, "综合得分", "评分理由")
    score, reason = verdict["综合得分"], verdict["评分理由"]
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 5:
        raise ValueError(f"综合得分 is {score!r}, no number from 0 to 5")
    if not isinstance(reason, str):
        raise ValueError(f"评分理由 is {str(reason)[:60]!r}, no text")
    return float(score), reason.strip()


def read_reasoning_verdict(text: str) -> tuple[dict[str, float], str]:
    """(share of each criterion's three checks that hold, the weakest step in words) as prompts/judge_reasoning.txt asks for them.

    Raises ValueError for anything else than one strict object.

    >>> read_reasoning_verdict(
    ...     '{"logic": [true, true, true], "accuracy": [true, false, true], "completeness": [true, true, true],'
    ...     ' "concision": [false, false, true], "weakest": "增长率除错了基数"}'
    ... )
    ({'logic': 1.0, 'accuracy': 0.667, 'completeness': 1.0, 'concision': 0.333}, '增长率除错了基数')
    """
    verdict = _one_object(text, *CRITERIA, "weakest")
    for name in CRITERIA:
        checks = verdict[name]
        if not isinstance(checks, list) or len(checks) != _CHECKS or not all(isinstance(check, bool) for check in checks):
            raise ValueError(f"{name} is {str(checks)[:60]!r}, not {_CHECKS} times true or false")
    if not isinstance(verdict["weakest"], str):
        raise ValueError(f"weakest is {str(verdict['weakest'])[:60]!r}, no text")
    return {name: round(sum(verdict[name]) / _CHECKS, 3) for name in CRITERIA}, verdict["weakest"].strip()


def read_choice(text: str, name: str, choices: Sequence[str]) -> str:
    """Which of `choices` the object says under `name`. Raises ValueError for any other.

    >>> read_choice('{"type": "concept"}', "type", ("calculation", "concept"))
    'concept'
    """
    chosen = _one_object(text, name)[name]
    if chosen not in choices:
        raise ValueError(f"{name} is {str(chosen)[:60]!r}, none of {', '.join(choices)}")
    return str(chosen)


def read_profile(text: str) -> tuple[str, str]:
    """(profile, history) as prompts/extract_profile.txt asks for them; either may be "". Raises ValueError otherwise.

    >>> read_profile('{"用户画像": "孕妇", "历史摘要": ""}')
    ('孕妇', '')
    """
    found = _one_object(text, "用户画像", "历史摘要")
    profile, history = found["用户画像"], found["历史摘要"]
    if not isinstance(profile, str) or not isinstance(history, str):
        raise ValueError(f"用户画像 and 历史摘要 must be text: {text.strip()[:200]}")
    return profile.strip(), history.strip()


def read_finance_verdict(text: str) -> tuple[bool, str]:
    """(whether the answer is right, reason) as prompts/judge_finance.txt asks for them. Raises ValueError for anything else.

    >>> read_finance_verdict('{"判定": "错误", "理由": "遗漏折现率"}')
    (False, '遗漏折现率')
    """
    verdict = _one_object(text, "判定", "理由")
    if verdict["判定"] not in ("正确", "错误"):
        raise ValueError(f"判定 is {str(verdict['判定'])[:60]!r}, neither 正确 nor 错误")
    if not isinstance(verdict["理由"], str):
        raise ValueError(f"理由 is {str(verdict['理由'])[:60]!r}, no text")
    return verdict["判定"] == "正确", verdict["理由"].strip()


MEDICAL_PARTS = {"accuracy": "准确性", "safety": "安全性", "completeness": "完整性", "clarity": "清晰度"}
"""Part of a medical verdict -> its key in the answer; each part has three items."""
_ITEMS = 3


def read_medical_verdict(text: str) -> tuple[dict[str, list[bool]], str]:
    """({part: its three items}, remark) of a verdict as prompts/judge_medical.txt asks for it. Raises ValueError for anything else.

    >>> items, remark = read_medical_verdict(
    ...     '{"准确性": [true, true, false], "安全性": [true, true, true], "完整性": [true, true, true], '
    ...     '"清晰度": [true, true, true], "评语": "好"}'
    ... )
    >>> items["accuracy"], remark
    ([True, True, False], '好')
    """
    found = _one_object(text, *MEDICAL_PARTS.values(), "评语")
    for key in MEDICAL_PARTS.values():
        items = found[key]
        if not isinstance(items, list) or len(items) != _ITEMS or not all(isinstance(item, bool) for item in items):
            raise ValueError(f"{key} is {str(items)[:60]!r}, no list of {_ITEMS} times true or false")
    if not isinstance(found["评语"], str):
        raise ValueError(f"评语 is {str(found['评语'])[:60]!r}, no text")
    return {part: found[key] for part, key in MEDICAL_PARTS.items()}, found["评语"].strip()


def _one_object(text: str, *names: str) -> dict[str, Any]:
    bare = text.strip()
    fenced = _FENCE.fullmatch(bare)
    try:
        value = json.loads(fenced[1] if fenced else bare, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no single JSON object ({error}): {bare[:200]}") from None
    if not isinstance(value, dict) or not value.keys() >= set(names):
        raise ValueError(f"not an object with {' and '.join(names)}: {bare[:200]}")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)
