"""RagWin: +0.5 when the student's rewrite retrieves better than the teacher's, -0.3 when worse, 0.0 on a tie."""

from overtake.tasks.query_rewrite.rewards.rag_retrieval import RagRetrieval

_TIE = 1e-9


def score(student: float, teacher: float) -> float:
    """Say who wins, from two retrieval qualities. Equal up to the noise of floating point is a tie.

    >>> score(0.8, 0.6), score(0.6, 0.8), score(0.1 + 0.2, 0.3)
    (0.5, -0.3, 0.0)
    """
    if abs(student - teacher) <= _TIE:
        return 0.0
    return 0.5 if student > teacher else -0.3


class RagWin(RagRetrieval):
    """The win part alone; None where a recall list could not be had."""

    score = staticmethod(score)
