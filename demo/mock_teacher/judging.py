"""Verdicts by rules on a rewrite, and profiles by rules: in the form the prompts ask for, with none of a model's understanding.

    score = 5 * sqrt(kept * terms) - penalties, from 0 to 5 with one decimal

    kept       share of the question's points that the rewrite holds (Rewriter.points: lexicon phrases, words with associated terms, rare
               words; each may be said in its own words or in the documents'); a question without points gives 0.5
    terms      share of the rewrite's words that are rare words of the knowledge base
    penalties  long:     0.5 for every 30 characters begun beyond 60
               lines:    1.0 when there is more than one
               repeated: 0.5 for every word said again
    at most 3.0 for a copy of the question; 0 for a rewrite without a word

The rewrite is text to be counted, so nothing written in it is obeyed. A verdict looks up no gold label and retrieves nothing; associated
terms are counted over all labelled training questions, so the judge knows what the teacher knows and no more.
"""

import json
import math
import re
from collections.abc import Mapping

import rjieba
from overtake.data.near_duplicates import is_copy
from overtake.reading.normal_forms import for_likeness
from overtake.retrieval.index import normalise

from demo.mock_teacher.rewriting import Rewriter, split

SHORT = 60
COPY_AT_MOST = 3.0
_ABOUT = re.compile(r"\d{1,3}\s*岁|孕妇|哺乳期|[高大初研][一二三四]|[一二三四五六]年级")
_BEFORE = re.compile(r"(?:上次|之前)[^，。？！,?!\n]+")


def verdict(rewriter: Rewriter, question: str, rewrite: str) -> str:
    """The JSON that prompts/judge_rewrite.txt asks for."""
    score, reason = judge(rewriter, question, rewrite)
    return json.dumps({"综合得分": score, "评分理由": reason}, ensure_ascii=False)


def verdicts(rewriter: Rewriter, question: str, rewrites: Mapping[int, str]) -> str:
    """The JSON that prompts/judge_group.txt asks for: each rewrite as if it stood alone."""
    each = []
    for number, rewrite in rewrites.items():
        score, reason = judge(rewriter, question, rewrite)
        each.append({"编号": number, "综合得分": score, "评分理由": reason})
    return json.dumps({"评分": each}, ensure_ascii=False)


def judge(rewriter: Rewriter, question: str, rewrite: str) -> tuple[float, str]:
    """(score from 0 to 5, reason) by the formula at the top of this file."""
    words = split(rewrite)
    if not for_likeness(rewrite) or not words:
        return 0.0, "改写为空。"
    text = normalise(rewrite)
    points = rewriter.points(question)
    held = sum(any(name in text for name in point) for point in points)
    kept = held / len(points) if points else 0.5
    terms = len(rewriter.rare(words)) / len(words)
    score = 5 * math.sqrt(kept * terms)
    reasons = [f"保留要点{held}/{len(points)}", f"术语占比{terms:.0%}"]
    again = sum(len(word) > 1 for word in rjieba.cut(text)) - sum(len(word) > 1 for word in words)
    for fault, loss in (
        ("过长", 0.5 * -(-max(0, len(rewrite.strip()) - SHORT) // 30)),
        ("不止一行", 1.0 * (len(rewrite.strip().splitlines()) > 1)),
        ("重复用词", 0.5 * max(0, again)),
    ):
        if loss:
            score -= loss
            reasons.append(f"{fault}扣{loss:g}分")
    if is_copy(question, rewrite):
        score = min(score, COPY_AT_MOST)
        reasons.append("照抄原问题")
    return round(min(5.0, max(0.0, score)), 1), "，".join(reasons) + "。"


def profile(question: str) -> str:
    """The JSON that prompts/extract_profile.txt asks for: an age, a stage of life or school, a clause about an earlier time; else empty."""
    profile_and_history = {"用户画像": "，".join(dict.fromkeys(_ABOUT.findall(question))), "历史摘要": "，".join(_BEFORE.findall(question))}
    return json.dumps(profile_and_history, ensure_ascii=False)
