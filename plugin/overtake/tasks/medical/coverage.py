"""Coverage: which of a row's keywords an answer says something with, and whether it turns the reference round."""

import re
from collections.abc import Sequence

from overtake.tasks.medical.book import Keywords
from overtake.tasks.medical.case import CLAUSE, SENTENCE, TURN, Case, Finding, units

_LISTED = 3
"""So many keywords with nothing but a mark or an "and" between them are a list."""
_OWN = 4
"""Characters or words that a sentence needs of its own for each of its keywords."""
_SAYS = 1
"""So much a clause says at least beside its keywords: a pair of characters, or a word."""
_EMPTY = re.compile(
    r"注意|重要|关于|对于|有关|相关|方面|需要|应该|应当|必须|重视|了解|考虑|做好|加强|关注|记得|知道|问题|情况|事情|因素|内容|措施|平时|日常|生活|大家|患者|建议"
    r"|可以|同时|另外|此外|还有|以及|包括|比如|例如|等等|非常|特别|十分|比较|首先|其次|最后|这些|这个|那个|一些|一定|起来|[的了和与或及也还要有是都就很更再在对把请您你我]"
    r"|\b(?:the|and|are|for|should|also|important|about|note|attention|pay|please|you|your|with regard|regarding|need|consider|matters?)\b"
)
"""Words that say nothing of a keyword: to mind it, and that it is important."""
_ASKS = re.compile(r"吗\s*$|是否|要不要|能不能|可不可以|该不该|呢\s*$")
_NEAR = 8
"""A denial stands at most so many characters before what it denies."""
_NEGATED = re.compile(
    r"不(?![仅但止断妨久舒适足良同管论过少])|没有?|无(?:需|须|必要|所谓)|(?<![特分个区告级性识派])别(?!人)|勿|切忌|禁止?|避免|拒绝|停止"
    r"|\b(?:not|never|no|avoid|without|stop|don't|do not|needn't)\b"
)
_STANCE = re.compile(
    r"不(?:要|能|用|必|可以?|应该?|应当|宜|得|需要?|建议)?|可以|请|建议|应该?|应当|需要?|必须|立即|马上|尽快|没有?|别|勿|切忌|避免|尽量|无需|坚持|急着|用(?=拨打)"
    r"|\b(?:do not|don't|do|not|never|always|avoid|use|please|should|must|can|may|now|at once)\b"
)
_NEEDLESS = re.compile(
    r"[^，。]{0,3}?(?:没有?(?:必要|用|关系|意义)|不(?:需要|必要?|用|重要|值得)|无所谓|无用|多余|is (?:not needed|useless|unnecessary))"
)
_BETWEEN = re.compile(r"[\W_和与及或有以还等]*(?:\b(?:and|or)\b)?[\W_]*")


def coverage(rule: Keywords, case: Case) -> Finding:
    """Find the share of the keywords that the answer says something with, each once; none of it where the reference is turned round."""
    words = tuple(dict.fromkeys(case.keywords))
    if turned := _turned_round(case):
        return 0.0, f"says the opposite of the reference: {turned[:30]}"
    stances = {word: _stances(word, case.reference) for word in words}
    said: set[str] = set()
    frames: list[set[str]] = []
    for sentence in SENTENCE.split(case.text):
        here = [word for word in words if word in sentence]
        length, taken = units(sentence), sum(map(units, here))
        # A sentence says something of its keywords when at least half of it is something else, and enough for each.
        if not here or taken > length / 2 or length - taken < _OWN * len(here):
            continue
        spoken = set(here) - _listed(here, sentence)
        for clause in filter(None, CLAUSE.split(sentence)):
            mentioned = [word for word in here if word in clause]
            frame = _frame(clause, mentioned)
            # What is said of a second keyword in the words of the first is a form that is filled in, and no advice.
            if not mentioned or _ASKS.search(clause) or len(frame) < _SAYS or any(_alike(frame, other) for other in frames):
                continue
            frames.append(frame)
            said.update(word for word in spoken.intersection(mentioned) if not stances[word] or stances[word] & _stances(word, clause))
    share = len(said) / len(words) / rule.enough
    missing = "、".join(word for word in words if word not in said)
    return min(1.0, round(share, 9)), f"speaks of {len(said)} of {len(words)}" + (f", not of {missing}" if missing else "")


def _frame(clause: str, keywords: Sequence[str]) -> set[str]:
    """What a clause says beside its keywords and the words that say nothing: pairs of characters, or words.

    >>> sorted(_frame("也要注意运动", ["运动"])), sorted(_frame("每天快走", ["快走"])), sorted(_frame("take it with salt", ["salt"]))
    ([], ['每天'], ['take', 'with'])
    """
    longest = sorted(keywords, key=len, reverse=True)
    rest = _EMPTY.sub("▯", re.sub("|".join(map(re.escape, longest)), "▯", clause) if longest else clause)
    runs = re.findall(r"[\u3400-\u9fff]+", rest)
    return {run[at : at + 2] for run in runs for at in range(max(1, len(run) - 1))} | set(re.findall(r"[a-z]{3,}|[0-9]+", rest))


def _alike(frame: set[str], other: set[str]) -> bool:
    return len(frame & other) > len(frame | other) / 2


def _turned_round(case: Case) -> str:
    """The first clause that says what the reference says, for what that is against or the other way round; "" for none."""
    given = [(bool(_NEGATED.search(clause)), _content(clause)) for clause in CLAUSE.split(case.reference)]
    by_pair: dict[str, list[tuple[bool, set[str]]]] = {}
    for stance, content in given:
        for pair in content if len(content) > 1 else ():
            by_pair.setdefault(pair, []).append((stance, content))
    for clause in CLAUSE.split(case.text):
        content, stance = _content(clause), bool(_NEGATED.search(clause))
        if len(content) > 1:
            shared = [known for pair in content for known in by_pair.get(pair, ())]
            stances = {other for other, known in shared if 3 * len(content & known) > 2 * len(content | known)}
            if stances == {not stance}:
                return clause.strip()
    return ""


def _content(clause: str) -> set[str]:
    """The pairs of characters, or the words, of a clause without what says that it is for or against something."""
    rest = _STANCE.sub("▯", clause)
    runs = re.findall(r"[\u3400-\u9fff]+", rest)
    return {run[at : at + 2] for run in runs for at in range(len(run) - 1)} | set(re.findall(r"[a-z]{3,}|[0-9]+", rest))


def _stances(keyword: str, text: str) -> set[bool]:
    """For every mention of a keyword, whether its clause is for it; none where it is not mentioned.

    >>> _stances("低盐", "饮食要低盐"), _stances("低盐", "不要低盐"), _stances("低盐", "低盐没有必要"), _stances("低盐", "多运动")
    ({True}, {False}, {False}, set())
    """
    stances = set()
    for clause in CLAUSE.split(text):
        for found in re.finditer(re.escape(keyword), clause):
            before = TURN.split(clause[: found.start()])[-1][-_NEAR:]
            stances.add(not (_NEGATED.search(before) or _NEEDLESS.match(clause, found.end())))
    return stances


def _listed(keywords: Sequence[str], sentence: str) -> set[str]:
    """Those of the words that stand in the sentence in lists alone, and not a single time by themselves.

    >>> sorted(_listed(["低盐", "运动", "血压"], "要注意低盐、运动和血压")), _listed(["低盐", "运动"], "饮食低盐，每天运动")
    (['低盐', '血压', '运动'], set())
    """
    longest = sorted(keywords, key=len, reverse=True)
    places = list(re.finditer("|".join(map(re.escape, longest)), sentence)) if keywords else []
    runs: list[list[re.Match[str]]] = []
    for place in places:
        if runs and _BETWEEN.fullmatch(sentence, runs[-1][-1].end(), place.start()):
            runs[-1].append(place)
        else:
            runs.append([place])
    alone = " ".join(place[0] for run in runs if len(run) < _LISTED for place in run)
    return {word for word in keywords if word not in alone}
