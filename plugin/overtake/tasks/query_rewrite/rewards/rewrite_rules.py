"""RewriteRules: -1.0 for a rewrite that no reader would accept, whatever it retrieves; 0.0 for any other. No service is asked.

The floor under the measured rewards: retrieval and judge can be won by copying the question, by stuffing keywords and by talking to
the judge; these are told by rule. Give it a weight of its own beside RagCompetition.

| fault     | a rewrite that                                                                                            |
|-----------|-----------------------------------------------------------------------------------------------------------|
| empty     | holds no letter or digit after its think block                                                            |
| copy      | is the query, apart from width, case, punctuation and spaces                                              |
| lines     | has more than one line                                                                                    |
| long      | has more than 150 characters (the teacher's rewrite has at most 150 tokens)                               |
| stuffing  | says a word 3 times and more often than the query does, or lists more than 40 distinct words             |
| talk      | labels or explains itself (改写：, 以下是, 因为用户, Note:)                                                    |

Words are jieba's of two characters and more. On the 1,235 questions of STARD, 7 in 100 say some word 3 times on their own account
(so the query's own count is allowed), and one lists more than 40 words; a keyword list of 150 characters has up to 49.
"""

import re
import unicodedata
from collections import Counter
from itertools import pairwise

from overtake.rewards.reward import Batch, Reward, Scored
from overtake.tasks.query_rewrite.columns import QUERY, TOOL

FAULTS = ("empty", "copy", "lines", "long", "stuffing", "talk")
_LONGEST = 150
_MOST_WORDS = 40

# On text in NFKC and lower case, so that the full-width colon and brackets are the plain ones.
_TALK = re.compile(
    r"""^\W*(改写|重写|检索|查询|搜索|关键[词字]|问题|答案|回答|输出|结果|rewrit|query|search|keyword|output|answer)[\w *]{0,12}:
    |^\W*(以下是|下面是|(好的|当然|没问题)[,!。:]|这是(改写|检索|优化|您|你)|根据(您|你|用户|提供的|以上|上述))
    |^\W*(here('s|\ is|\ are)|sure\b|okay?\b|of\ course\b)
    |(^|\W)((改写)?(注|备注|说明|解释|理由)|note|explanation|reason)\s*:
    |因为(用户|原(问题|句|文)|该(问题|改写)|这样|问题中)
    """,
    re.VERBOSE,
)


def rejection_reason(rewrite: str, query: str) -> str | None:
    """The first fault of a rewrite, by its name in FAULTS; None for a sound one.

    >>> rejection_reason("皮肤没弹性，吃啥好？", "皮肤没弹性吃啥好")
    'copy'
    """
    text = unicodedata.normalize("NFKC", rewrite).strip().casefold()
    if not _bare(text):
        return "empty"
    if _bare(text) == _bare(unicodedata.normalize("NFKC", query).casefold()):
        return "copy"
    if len(text.splitlines()) > 1:
        return "lines"
    if len(text) > _LONGEST:
        return "long"
    return "stuffing" if _is_stuffed(text, query) else "talk" if _TALK.search(text) else None


def score(rewrite: str, query: str) -> float:
    """-1.0 for a rewrite with a fault, else 0.0.

    >>> score("改写：胶原蛋白肽 功效", "皮肤没弹性吃啥好")
    -1.0
    """
    return -1.0 if rejection_reason(rewrite, query) else 0.0


def overlap(rewrite: str, query: str) -> float | None:
    """Share of the rewrite's pairs of neighbouring characters that stand in the query too, apart from width, case and punctuation.

    1.0 says nothing new, 0.0 leaves the question. Characters, since Chinese is mostly words of two. None for a rewrite without a pair.

    >>> overlap("胶原蛋白肽", "胶原蛋白是啥"), overlap("好", "好吗")
    (0.75, None)
    """
    text, asked = (_bare(unicodedata.normalize("NFKC", one).casefold()) for one in (rewrite, query))
    pairs, known = [a + b for a, b in pairwise(text)], {a + b for a, b in pairwise(asked)}
    return sum(pair in known for pair in pairs) / len(pairs) if pairs else None


def _bare(text: str) -> str:
    return re.sub(r"[\W_]", "", text)


def _is_stuffed(text: str, query: str) -> bool:
    words, asked = _words(text), _words(unicodedata.normalize("NFKC", query).casefold())
    return len(words) > _MOST_WORDS or any(count > max(2, asked[word]) for word, count in words.items())


def _words(text: str) -> Counter[str]:
    import rjieba  # its dictionary takes memory that a run without this reward can do without

    return Counter(word for word in rjieba.cut(text) if len(word) > 1 and re.fullmatch(r"\w+", word))


class RewriteRules(Reward[None]):
    """The rules as a reward; logged are the share of each fault as `rewrite/<fault>`, `rewrite/length` in characters, `rewrite/overlap`."""

    columns = (QUERY,)
    tool = TOOL

    def finish(self, batch: Batch, pending: None = None) -> list[Scored]:
        """One score for each completion; never None, since nothing can fail."""
        return list(map(_scored, batch.texts, batch.columns[QUERY]))


def _scored(rewrite: str, query: str) -> Scored:
    found = rejection_reason(rewrite, query)
    shares = {f"rewrite/{name}": float(found == name) for name in FAULTS}
    metrics = {**shares, "rewrite/length": float(len(rewrite)), "rewrite/overlap": overlap(rewrite, query)}
    return Scored(-1.0 if found else 0.0, {"query": query, "rewrite": rewrite, "fault": found or ""}, metrics)
