"""Worth of a judge of medical answers: does it give a row's reference more than another row's answer?

A small model as judge always answers in form, and gives nearly everything the same points; a reward from it is noise that is paid for.
"""

from collections.abc import Sequence
from typing import NamedTuple

from overtake import cli
from overtake.doctor.attacks import spread
from overtake.doctor.findings import Finding
from overtake.evaluation.statistics import Interval, bootstrap_mean, paired_p, wins
from overtake.remote import chat
from overtake.remote.gateway import Ok
from overtake.task import Row
from overtake.tasks.medical.columns import REFERENCE
from overtake.tasks.medical.judge import medical_judge_call, medical_verdict
from overtake.tasks.medical.rows import MedicalRow

PILOT = 40
"""Rows of which both answers are judged."""
FEWEST = 20
"""Pairs, below which nothing is said of a judge."""


class Pilot(NamedTuple):
    """Points of the reference and of another row's answer, of each row on which both were judged; and how many rows were asked about."""

    pairs: list[tuple[float, float]]
    rows: int

    @property
    def auc(self) -> Interval:
        """Share of the pairs in which the reference has more, a tie counting half. Raises ValueError without a pair."""
        return bootstrap_mean(wins(self.pairs))


def pilot(rows: Sequence[Row], concurrency: int | None = None) -> Pilot:
    """Ask the judge, as the reward does, about some rows' references and about the reference of another row in their place.

    Raises Abort, SettingsError, and ValueError for a row out of form.
    """
    referenced = [MedicalRow.from_columns(row) for row in spread([row for row in rows if row.get(REFERENCE)], PILOT)]
    to = chat.endpoint("judge")
    answers = [(row, answer) for at, row in enumerate(referenced) for answer in (row.reference, referenced[at - 1].reference)]
    gateway = chat.chat_gateway("judge", concurrency)
    calls = [medical_judge_call(row, answer, to) for row, answer in answers]
    if calls:
        cli.probe(gateway, calls[0])
    points = [
        medical_verdict(result.value, row.criteria).score if isinstance(result, Ok) else None
        for (row, _), result in zip(answers, gateway.run(calls), strict=True)
    ]
    both = zip(points[::2], points[1::2], strict=True)
    return Pilot([(own, other) for own, other in both if own is not None and other is not None], len(referenced))


def faults(found: Pilot) -> list[str]:
    """Return what is wrong with a judge, in words; nothing for one that is worth its price, or that too little is known of.

    >>> faults(Pilot([(0.5, 0.5)] * 30, 30))
    ['all 60 verdicts are 0.50']
    >>> faults(Pilot([(0.8, 0.3), (0.9, 0.1)] * 15, 30)), faults(Pilot([(0.8, 0.3)] * 5, 30))
    ([], ['only 5 of 30 rows got both verdicts'])
    >>> faults(Pilot([(0.8, 0.3), (0.1, 0.9)] * 15, 30))[0][:67]
    "it prefers a row's reference to another row's answer in 0.500 [0.33"
    >>> faults(Pilot([(0.9, 0.8)] * 4 + [(1.0, 1.0)] * 36, 40))
    ["it prefers a row's reference to another row's answer in 0.550 [0.512,0.600] of 40 pairs (36 ties, p 0.125), where 0.5 is chance"]
    """
    if found.rows < FEWEST:  # too few to say anything of a judge
        return []
    if len(found.pairs) < found.rows / 2:
        return [f"only {len(found.pairs)} of {found.rows} rows got both verdicts"]
    values = [value for pair in found.pairs for value in pair]
    if len(set(values)) == 1:
        return [f"all {len(values)} verdicts are {values[0]:.2f}"]
    won, auc = wins(found.pairs), found.auc
    # Where nearly all are ties a bootstrap of the few that are none is too sure of itself: a sign test beside it.
    p = paired_p({str(at): float(win == 1) for at, win in enumerate(won)}, {str(at): float(win == 0) for at, win in enumerate(won)})
    if auc.low <= 0.5 or p >= 0.05:
        of = f"{len(won)} pairs ({won.count(0.5)} ties, p {p:.3f}), where 0.5 is chance"
        return [f"it prefers a row's reference to another row's answer in {auc} of {of}"]
    return []


def findings(rows: Sequence[Row]) -> list[Finding]:
    """Findings of the doctor on the judge, by a pilot on the rows of a run."""
    try:
        found, model = pilot(rows), chat.endpoint("judge").model
    except (cli.Abort, ValueError) as error:
        return [Finding("error", "judge's worth", str(error), "set this right, then run the doctor again")]
    if wrong := faults(found):
        remedy = "set OVERTAKE_MEDICAL_WEIGHT_TEACHER=0 to go by the rules alone, or OVERTAKE_JUDGE_MODEL to a stronger model"
        return [Finding("error", "judge's worth", f"{model} is worthless: {'; '.join(wrong)}", remedy)]
    if found.rows < FEWEST:
        remedy = f"give {FEWEST} rows with references, or see yourself what it says: tools/judge.py --task medical"
        return [Finding("warning", "judge's worth", f"{found.rows} rows have a reference: too few to tell", remedy)]
    said = f"{model} prefers a row's reference to another row's answer in {found.auc} of {len(found.pairs)} pairs"
    return [Finding("ok", "judge's worth", said)]
