"""Rewrites without a model: several cheap candidates for a question, of which retrieval picks one where labels tell the right document.

| kind       | the candidate                                                                                            |
|------------|----------------------------------------------------------------------------------------------------------|
| `lexicon`  | the lexicon's terms, then the question's remaining rare words                                            |
| `terms`    | the lexicon's terms alone                                                                                |
| `learned1` | `plain`, then one term that labelled questions with the same words were answered by (`learned3`: three)  |
| `plain`    | the question's words without frame words: those that labelled questions hold and their documents do not  |
| `rare`     | the question's words that the documents know and that are not frequent there                             |
| `rm3`      | `rare`, then terms of the first stage's best documents (pseudo-relevance feedback)                       |

No word list is built in: everything is counted from the knowledge base, its lexicon and the labelled training questions.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import rjieba
from overtake.data.near_duplicates import is_copy
from overtake.reading.normal_forms import for_likeness
from overtake.retrieval.corpus import read_qrels, read_queries
from overtake.retrieval.index import normalise
from overtake.retrieval.metrics import quality
from overtake.retrieval.service import KnowledgeBase

LONGEST = 150
"""Characters of a rewrite at most."""
FREQUENT = 0.3
"""A word in more than this share of the documents is no rare word; below 0.2 the candidate `rare` loses on STARD."""
RM3_SETTINGS = ((3, 2), (10, 3))
"""(documents read, terms added)."""

_OF_LEXICON = ("lexicon", "terms")


def read_labels(folder: Path, hold_out: Collection[str] = ()) -> dict[str, set[str]]:
    """{question: ids of the documents that answer it} of a BEIR folder's training questions: of qrels/train.tsv, never of another split.

    A folder with one qrels.tsv has no training split: it gives labels only when `hold_out` names the question ids to leave out, and a
    question that asks the same as one of these is left out too. Empty when there are no such labels.
    """
    folder = Path(folder)
    if (folder / "qrels" / "train.tsv").is_file():
        qrels = read_qrels(folder, "train")
    elif (folder / "qrels.tsv").is_file() and hold_out:
        qrels = read_qrels(folder)
    else:
        return {}
    queries = {key: row["text"] for key, row in read_queries(folder).items()}
    if unknown := sorted(qrels.keys() - queries.keys()):
        raise ValueError(f"{folder}: question {unknown[0]!r} of the labels stands in no line of queries.jsonl: add it or delete its labels")
    kept_out = {for_likeness(queries[key]) for key in hold_out if key in queries}
    rows = [(queries[key], gold) for key, gold in qrels.items() if for_likeness(queries[key]) not in kept_out]
    return {question: {document for document, score in gold.items() if score > 0} for question, gold in rows}


def split(text: str) -> list[str]:
    """The distinct words of a text, in order.

    >>> split("虾青素，怎么吃？怎么吃")
    ['虾', '青素', '怎么', '吃']
    """
    return list(dict.fromkeys(word for word in rjieba.cut(normalise(text)) if any(sign.isalnum() for sign in word)))


class Rewriter:
    """Rewrites of the mock for one knowledge base; `labels` are training questions with the ids of the documents that answer them."""

    def __init__(self, kb: KnowledgeBase, labels: Mapping[str, Collection[str]] | None = None) -> None:
        self.kb = kb
        self._labels: dict[str, set[str]] = {}
        documents = kb.documents()
        for question, gold in (labels or {}).items():
            self._labels.setdefault(for_likeness(question), set()).update(set(gold) & documents.keys())
        # Longest first, so that a phrase inside a longer one is not found again.
        self._lexicon = sorted(((normalise(lay), terms) for lay, terms in kb.lexicon.items()), key=lambda pair: (-len(pair[0]), pair[0]))
        self._words = {key: split(f"{document.title} {document.text}") for key, document in documents.items()}
        self._frequency = Counter(word for words in self._words.values() for word in words)
        self._learned = _Associations(
            self._words, self._frequency, {q: gold for q in labels or {} if (gold := self._labels[for_likeness(q)])}
        )

    @property
    def labelled(self) -> int:
        """Labelled questions in use."""
        return sum(map(bool, self._labels.values()))

    def rewrite(self, question: str, context: str = "") -> str:
        """One line of words. `context` (profile, history) counts only where it holds a phrase of the lexicon and the question none."""
        gold = self._labels.get(for_likeness(question))
        default, by_kind = "", {}
        for kind, text in self.candidates(question, context):
            default = default or text
            if not gold:
                break
            by_kind[kind] = text
        if not default:
            return " ".join(question.split())[:LONGEST]
        if not gold:
            return default
        # Of equally good ones the lexicon's, then the shortest. A right document below the third counts in no quality, but is better.
        scored = [(*self._found(question, text, gold), kind in _OF_LEXICON, -len(text), text) for kind, text in by_kind.items()]
        best = max(scored)
        return best[-1] if best[1] else default

    def candidates(self, question: str, context: str = "") -> Iterator[tuple[str, str]]:
        """(kind, rewrite) of every candidate that is no copy of the question; the first is what an unlabelled question gets."""
        for kind, words in self._candidates(question, context):
            line = _line(words)
            if line and not is_copy(question, line):
                yield kind, line

    def _candidates(self, question: str, context: str) -> Iterator[tuple[str, list[str]]]:
        phrases, rest = self.replace(normalise(question))
        phrases = phrases or self.replace(normalise(context))[0]
        terms = [term for _, line in phrases for term in line.split()]
        words, left = split(question), split(rest)
        plain = [word for word in words if not self._learned.is_frame(word)]
        rare = self.rare(words)
        # The best default first, by the measurement in demo/README.md. Where there is a lexicon it is all the teacher knows: terms learned
        # from labelled questions on top of it would recite these questions and make rewrites of new ones worse.
        if terms:
            yield "lexicon", terms + self.rare(left)
            yield "terms", terms
        if not self.kb.lexicon:
            for count in (1, 3):
                if learned := self._learned.terms(plain, count):
                    yield f"learned{count}", plain + learned
        yield "plain", plain
        yield "rare", rare
        for documents, count in RM3_SETTINGS:
            yield f"rm3-{documents}-{count}", rare + self._feedback(rare, documents, count)

    def _found(self, question: str, rewrite: str, gold: set[str]) -> tuple[float, bool]:
        """(retrieval quality of gold relevance, whether any right document was found)."""
        relevant = [float(hit.doc_id in gold) for hit in self.kb.retrieve(question, rewrite, top_k=10, score_threshold=0)]
        # Filled up, or finding fewer documents would be better than finding more.
        return quality([*relevant, 0.0, 0.0, 0.0][:3]), any(relevant)

    def replace(self, text: str) -> tuple[list[tuple[str, str]], str]:
        """((phrase, terms) of the lexicon's phrases that stand in a normalised text, in its order; the text without them)."""
        places = []
        for phrase, terms in self._lexicon:
            place = text.find(phrase)
            if place >= 0:
                places.append((place, phrase, terms))
                text = text.replace(phrase, " " * len(phrase))
        return [(phrase, terms) for _, phrase, terms in sorted(places)], text

    def points(self, question: str) -> list[set[str]]:
        """Return what a rewrite of the question should hold: for each point the words that express it.

        A point is a lexicon phrase (that, or one of its terms), a word with associated terms (that, or one of its 8 strongest), or
        another rare word. Frame words are none.
        """
        phrases, rest = self.replace(normalise(question))
        points = [{phrase, *split(terms)} for phrase, terms in phrases]
        for word in split(rest):
            if not self._learned.is_frame(word):
                terms = self._learned.strongest(word)
                points += [{word, *terms}] if terms or self.rare([word]) else []
        return points

    def rare(self, words: Iterable[str]) -> list[str]:
        """Those words of two characters or more that some documents hold, but not many."""
        most = max(1.0, FREQUENT * len(self._words))
        return [word for word in words if len(word) > 1 and 0 < self._frequency[word] <= most]

    def knows(self, question: str) -> int:
        """Share in which this knowledge base knows a question's words: characters of lexicon phrases and rare words in it."""
        phrases, rest = self.replace(normalise(question))
        return sum(len(phrase) for phrase, _ in phrases) + sum(len(word) for word in self.rare(split(rest)))

    def _feedback(self, words: Sequence[str], documents: int, count: int) -> list[str]:
        weight: Counter[str] = Counter()
        for document, score in self.kb.index.find(" ".join(words), documents):
            key = document.id
            terms = self._words[key]
            for term in terms:
                if len(term) > 1:
                    weight[term] += score / len(terms) * math.log(len(self._words) / self._frequency[term])  # type: ignore[assignment]
        for word in words:
            del weight[word]
        return [term for term, _ in sorted(weight.items(), key=lambda pair: (-pair[1], pair[0]))[:count]]


class _Associations:
    """What labelled questions teach: which words are frame, and which terms their documents use for the other words."""

    def __init__(self, words: Mapping[str, list[str]], frequency: Counter[str], labels: Mapping[str, set[str]]) -> None:
        asked: Counter[str] = Counter()  # questions with the word
        kept: dict[str, float] = defaultdict(float)  # share of their documents that hold it too, summed
        answered: Counter[str] = Counter()  # questions whose documents hold the term
        both: dict[str, Counter[str]] = defaultdict(Counter)
        sets = {key: set(words[key]) for gold in labels.values() for key in gold}
        for question, gold in labels.items():
            terms = set[str]().union(*(sets[key] for key in gold))
            answered.update(terms)
            for word in split(question):
                asked[word] += 1
                kept[word] += sum(word in sets[key] for key in gold) / len(gold)
                both[word].update(terms)
        self._frame = {word for word, n in asked.items() if n >= 10 and kept[word] / n < 1.5 * max(frequency[word], 1) / len(words)}
        self._terms: dict[str, dict[str, float]] = {}
        for word, times in both.items():
            if not 2 <= asked[word] <= max(2.0, 0.06 * len(labels)):
                continue
            self._terms[word] = {}
            for term, n in times.items():
                gain = n / (asked[word] + 1) * math.log(n / (asked[word] + 1) / (answered[term] / len(labels)))
                if gain > 0 and n > 1 and len(term) > 1 and frequency[term] <= max(1.0, 0.1 * len(words)):
                    self._terms[word][term] = gain

        self._strongest = {word: sorted(gain, key=lambda term: (-gain[term], term))[:8] for word, gain in self._terms.items()}

    def is_frame(self, word: str) -> bool:
        """Return whether 10 labelled questions or more hold the word and their documents hardly more often than any document."""
        return word in self._frame

    def strongest(self, word: str) -> list[str]:
        """At most 8 terms associated with a word, the strongest first."""
        return self._strongest.get(word, [])

    def terms(self, words: Sequence[str], count: int) -> list[str]:
        """The terms most associated with the words: sum of p * log(p / p0), p the share of a word's questions answered by the term.

        p0 is that share of all questions. A word of one question or of more than 6 in 100, a term that answers one question only and a
        term of more than one document in ten teach nothing; one question more in p's denominator damps what two questions say.
        """
        gain: dict[str, float] = defaultdict(float)
        for word in words:
            for term, value in self._terms.get(word, {}).items():
                gain[term] += value
        best = sorted(
            ((term, value) for term, value in gain.items() if value > 0.5 and term not in words), key=lambda pair: (-pair[1], pair[0])
        )
        return [term for term, _ in best[:count]]


def _line(words: Iterable[str]) -> str:
    """Distinct words in one line of at most LONGEST characters, cut between words."""
    line = ""
    for word in dict.fromkeys(words):
        longer = f"{line} {word}" if line else word
        if len(longer) > LONGEST:
            break
        line = longer
    return line
