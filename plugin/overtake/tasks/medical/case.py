"""An answer and what is known of its question, ready for the rules of the book: what it is cut into, and how much time is left."""

import re
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from overtake.reading.normal_forms import for_rules, half_width, visible
from overtake.reading.tags import strip_think
from overtake.tasks.medical import amounts

UNIT = re.compile(r"[\u3400-\u9fff]|[A-Za-z0-9]+(?:['’.-][A-Za-z0-9]+)*")
SENTENCE = re.compile(r"[。！？!?；;\n]+|\.(?=\s|$)")
CLAUSE = re.compile(r"[。！？!?；;，,：:\n]+|\.(?=\s|$)")
SECONDS = 2.0
"""Of this thread, for all rules on one answer; the shipped ones take some milliseconds, and half a second to compile at first."""
FAR = 80
"""So many characters before it a denial is looked for: more than one and its filling have."""
TURN = re.compile(
    r"(?<!不)应|(?<![别不])请|由|遵|(?<!相)并(?![不非])|而|但|须|(?<![不无])需|(?<!不)建议|才|也要|都要"
    r"|\b(?:but|instead(?! of)|rather(?! than)|so|and (?=call|dial|go|seek|get|see|ask|talk))\b"
)
"""Behind such a word what was denied before it is denied no longer: 不要自己开车而应打120."""


@dataclass
class Case:
    """An answer and what is known of its question, ready for the rules: as a reader sees them, half-width and in lower case."""

    text: str
    question: str
    keywords: tuple[str, ...]
    reference: str
    spaced: str = ""
    """The answer with its blanks between Chinese characters, which part the items of a list."""
    _end: float = field(default_factory=lambda: time.thread_time() + SECONDS)

    def left(self) -> float:
        """Seconds that are left for the rules. Raises TimeoutError when there are none, which `score` and `holds` take for no verdict."""
        seconds = self._end - time.thread_time()
        if seconds <= 0:
            raise TimeoutError(f"the rules took more than {SECONDS:g} s on an answer of {len(self.text)} characters")
        return seconds

    @cached_property
    def _marks(self) -> list[tuple[int, int]]:
        return [match.span() for match in CLAUSE.finditer(self.text)]

    def clause_start(self, at: int) -> int:
        """Find where the clause begins, between two marks of punctuation, that a place stands in."""
        before = bisect_right(self._marks, at, key=lambda mark: mark[1])
        return self._marks[before - 1][1] if before else 0

    def clause(self, start: int, end: int) -> tuple[int, int]:
        """Find where the clause begins and ends that a match from `start` to `end` stands in."""
        behind = bisect_right(self._marks, end, key=lambda mark: mark[1])
        return self.clause_start(start), max(end, self._marks[behind][0]) if behind < len(self._marks) else len(self.text)


Finding = tuple[float, str]
"""(share of the rule that holds, from 0 to 1; the reason)"""


def ready(question: str, answer: str, keywords: Sequence[str], reference: str) -> Case:
    """Make the case of an answer; its think block is taken off first."""
    said = strip_think(answer)
    words = tuple(_plain(word) for word in keywords if word.strip())
    return Case(_plain(said), _plain(question), words, _plain(reference), half_width(visible(said)).casefold().strip())


def _plain(text: str) -> str:
    return amounts.spelled(half_width(for_rules(text)).casefold()).strip()


def units(text: str) -> int:
    """Chinese characters and words of other scripts."""
    return len(UNIT.findall(text))
