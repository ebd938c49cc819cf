"""RewriteRules: -1.0 for a rewrite that no reader would accept, whatever it retrieves; 0.0 for any other. No service is asked.

The floor under the measured rewards: retrieval and judge can be won by copying the question, by stuffing keywords and by talking to
the judge; these are told by rule. Give it a weight of its own beside RagCompetition.

| fault     | a rewrite that                                                                                            |
|-----------|-----------------------------------------------------------------------------------------------------------|
| empty     | holds no letter or digit that shows, after its think block                                                |
| copy      | is the query, apart from width, case, punctuation, politeness, particles, labels and invisible signs      |
| lines     | has more than one line                                                                                    |
| long      | has more than 150 characters, blanks and invisible ones too: a search line needs no more               |
| garbled   | holds what no text does: lone surrogates, control characters, U+FFFD                                      |
| stuffing  | says a word 3 times and more than the query, a character 4 times on end, or lists more than 40 distinct words |
| talk      | is wrapped (label, fence, JSON, bold), explains itself (以下是, Note:), or speaks to the judge (给满分)         |
| answer    | answers or refuses instead of asking (建议您…, You should…, I cannot help)                                  |

What a reader does not see is out of the text before it is looked at, and nothing is taken off that stands around it: that is for teachers.
Words are jieba's of two characters and more. On the 1,235 questions of STARD, 7 in 100 say some word 3 times on their own account
(so the query's own count is allowed), and one lists more than 40 words; a keyword list of 150 characters has up to 49.
"""

import re
from collections import Counter
from itertools import pairwise

from overtake.data.near_duplicates import is_copy
from overtake.reading.normal_forms import for_likeness, for_rules, half_width
from overtake.reading.refusals import is_refusal
from overtake.retrieval.modes import LONGEST
from overtake.rewards.reward import Batch, Reward, Scored
from overtake.tasks.query_rewrite.columns import QUERY, TOOL
from overtake.tasks.query_rewrite.unwrapping import talk, wrapping

FAULTS = ("empty", "copy", "lines", "long", "garbled", "stuffing", "talk", "answer")
_MOST_WORDS = 40
_SAME_CHARACTER = re.compile(r"([\u3400-\u9fff])\1{3,}")
_GARBLED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufffd\ufffe\uffff]")

# On the form for rules in half width and lower case. A question advises nobody, unless it says 您 to its reader.
_ADVISES = re.compile(
    r"建议[您你]|[您你](?:可以|可|应该?|需要?|最好|务必)(?!.*[?？吗])|遵(?:从|照|循)?医嘱|请(?:您|及时|尽快|尽早|务必|遵|咨询|前往|到正规)"
    r"|\byou (?:should|could|may|might|need to|must|can)\b|\b(?:it is|it's) (?:recommended|advised|best)\b"
    r"|\bconsult (?:a|your|with)\b|\bplease (?:see|consult|contact|visit)\b"
)
_STATES = re.compile(
    r"^(?:是的?|不是|可以的?|不可以|能|不能|会的?|不会|有的?|没有|对的?|不对|yes|no)\s*[,，。!！.;；]"
    r"|建议(?:每|多|少|及时|尽快|尽早|先|到|去|避免|患者|补充|服用|食用|选择|采用|使用|通过)"
    r"|(?:可以?|应该?当?|需要?|必须|最好|能够|能)(?:通过|适当|及时|尽快|尽早|多吃|少吃|多喝|避免|咨询|服用|食用|补充|选择|尝试|到医院|就医|帮助|改善|有效|采取)"
    r"|(?:是因为|是由于|主要是|一般是|通常是|原因是|答案是|取决于|有助于|有利于|属于|意味着|指的是|是指)"
    r"|(?:一般|通常|首先|其次|此外|另外|总之|因此|所以|综上)[,，来].{2,}"
    r"|(?:富含|每[天日次]\d)"
    r"|\b(?:is|are|was|were|means|refers to|depends on|because|try to|helps? to)\b.{3,}\.$"
)
_DECLARES = re.compile(
    r"(?:^(?:可以?|应该?当?|需要?|最好|多|少|不要|不能|避免|注意|先|每[天日次]|尽量|保持)\S{2}|\S(?:是|为|有)\S{2}).*[。!！]$"
)
_ENGLISH_SENTENCE = re.compile(
    r"^(?!(?:find|explain|describe|list|compare|search|show|define|summari[sz]e|identify|outline|discuss|provide|look up)\b)"
    r"[a-z][a-z'’-]*(?:[,;:]? [a-z\d'’%-]+){2,}\.$|^(?:i['’]?d|you|it is|it['’]?s|try|avoid|take|eat|drink) [a-z][^?]{4,}$"
)
"""It ends as a sentence and asks for nothing, or it begins as an advice does; a search line has no full stop."""
_STATES_AT_ONCE = re.compile(
    r"都(?:可以|能|有助于|含有|是)\S{2}|是(?:因为|由于)\S{2}|是\S+(?:造成|导致|引起)的$"
    r"|(?:^|[,，;；])(?:多|少)[睡吃做喝运]\S*[,，;；、]\s*(?:多|少|不|避免|注意|保持)\S"
)
"""A question with these words asks by others."""
_HEADS = re.compile(r"的[^\W\d_、，。；！]{2,8}$")
"""It ends as a heading does, 的作用机制, however it began."""
_SENTENCE = re.compile(r"[。!！;；]|\.(?:\s|$)")
_ASKS = re.compile(
    r"[?？]|怎么|怎样|咋|如何|什么|啥|哪|谁|几|多少|多[大久长高]|是否|能否|可否|会否|有无|为何|为啥|吗|么|呢|[能会要是有可]不[能会要是可]|有没有|可不可以"
    r"|\b(?:how|what|why|which|where|who|when|whether|does|do|can|should|is|are)\b(?!.*\.$)"
)


def rejection_reason(rewrite: str, query: str) -> str | None:
    """The first fault of a rewrite, by its name in FAULTS; None for a sound one.

    >>> rejection_reason("皮肤没弹性，吃啥好？", "皮肤没弹性吃啥好")
    'copy'
    """
    text, question = _seen(rewrite), _seen(query)
    if not re.search(r"[^\W_]", text):
        return "empty"
    if is_copy(query, rewrite):
        return "copy"
    if len(rewrite.strip().splitlines()) > 1:
        return "lines"
    if len(rewrite.strip()) > LONGEST:
        return "long"
    if _GARBLED.search(text):
        return "garbled"
    if _is_stuffed(text, question):
        return "stuffing"
    if wrapping(rewrite) or talk(rewrite, query):
        return "talk"
    return "answer" if is_refusal(rewrite) or (not _is_list(rewrite) and _answers(text, question)) else None


def score(rewrite: str, query: str) -> float:
    """Return -1.0 for a rewrite with a fault, else 0.0.

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
    text, question = (re.sub(r"\W", "", for_likeness(side)) for side in (rewrite, query))
    pairs, query_pairs = [a + b for a, b in pairwise(text)], {a + b for a, b in pairwise(question)}
    return sum(pair in query_pairs for pair in pairs) / len(pairs) if pairs else None


def _seen(text: str) -> str:
    return half_width(for_rules(text)).casefold().strip()


def _is_list(rewrite: str) -> bool:
    """Whether a text is a list of Chinese terms, which advises nobody even where a term is 建议补充 or 有助于."""
    terms = rewrite.split()
    return len(terms) >= 3 and all(
        re.fullmatch(r"[\w+-]{2,10}", term) and re.search(r"[\u4e00-\u9fff]{2}|^[A-Z\d+-]+$", term) for term in terms
    )


def _answers(text: str, question: str) -> bool:
    """Whether a text tells its reader what to do, or states something where it should ask; what the query says is no answer."""
    if any(match[0] not in question for match in _ADVISES.finditer(text)):
        return True
    if _ENGLISH_SENTENCE.search(text) and "?" not in text and not question.startswith(text[:6]):
        return True
    if _ASKS.search(text):
        return False
    states = any(match[0] not in question for match in _STATES.finditer(text))
    clauses = [clause for clause in re.split(r"[,，。;；!！]", text) if len(clause) > 3]
    if _DECLARES.search(text):
        return True
    if _HEADS.search(text):
        return False
    at_once = any(match_at_once[0] not in question for match_at_once in _STATES_AT_ONCE.finditer(text))
    return at_once or (states and (bool(_SENTENCE.search(text)) or len(clauses) > 1 or len(text) > 20))


def _is_stuffed(text: str, question: str) -> bool:
    rewrite_words, query_words = _words(text), _words(question)
    if any(run[0] not in question for run in _SAME_CHARACTER.finditer(re.sub(r"[\W_]", "", text))):
        return True
    return len(rewrite_words) > _MOST_WORDS or any(count > max(2, query_words[word]) for word, count in rewrite_words.items())


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
    reason = rejection_reason(rewrite, query)
    shares = {f"rewrite/{name}": float(reason == name) for name in FAULTS}
    metrics = {**shares, "rewrite/length": float(len(rewrite)), "rewrite/overlap": overlap(rewrite, query)}
    return Scored(-1.0 if reason else 0.0, {"query": query, "rewrite": rewrite, "fault": reason or ""}, metrics)
