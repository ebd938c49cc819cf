"""When what was measured is too little to go on: by questions, not by calls; and who is judged."""

import pytest
from overtake.remote.gateway import Failed, Ok
from overtake.rewards.measuring import Outage, abstain_metrics, send, stop_on_outage, verdict_needed

GOOD = Ok({})


def refused(kind="http_400"):
    return Failed(f"HTTP {kind[-3:]}", kind, outage=False)


def down(kind="http_503"):
    return Failed(f"HTTP {kind[-3:]}", kind)


def stops(results, questions, most=1.0):
    try:
        stop_on_outage(results, questions, "verdicts", "See to it", most=most)
    except Outage:
        return True
    return False


ONE, TWO = ["q1"] * 8, ["q1"] * 4 + ["q2"] * 4


@pytest.mark.parametrize(
    ("results", "questions", "stop", "what"),
    [
        ([refused()] * 8, ONE, False, "one question that is refused, however many its answers"),
        ([refused("unusable")] * 8, ONE, False, "one question on which no verdict can be read"),
        ([refused()] * 8, TWO, True, "several questions"),
        ([refused()] * 7, [f"q{at}" for at in range(7)], False, "so few calls tell nothing"),
        *(([refused(f"http_{code}")] * 8, ONE, True, "key or address are wrong") for code in (401, 403, 404)),
        ([refused("http_401")] * 7 + [GOOD], ONE, False, "it does answer"),
        ([down()] * 8, ONE, True, "the service is down, whatever is asked"),
        ([down(), *[refused()] * 7], ONE, False, "a stray failure beside refusals of one question"),
        ([refused()] * 8 + [GOOD] * 8, [*ONE, *["q2"] * 8], False, "the others' questions are answered"),
        ([None] * 20 + [refused()] * 8, ["q0"] * 20 + ONE, False, "what was not asked does not count"),
        ([GOOD] * 7 + [down("circuit")], ONE, True, "the service was given up"),
        ([refused("budget")], ["q1"], True, "the budget is spent"),
    ],
)
def test_questions_are_counted_and_not_calls(results, questions, stop, what):
    assert stops(results, questions) == stop, what


def test_the_share_that_may_be_down_is_the_callers():
    results = [down()] * 5 + [GOOD] * 3
    assert stops(results, TWO, most=0.5) and not stops(results, TWO)


def test_what_stops_a_run_says_what_failed_and_what_to_do():
    with pytest.raises(Outage, match=r"8 of 8 verdicts of this batch failed, e\.g\.: HTTP 401\. .*See to it, then go on"):
        stop_on_outage([refused("http_401")] * 8, ONE, "verdicts", "See to it")


def test_nothing_to_send_needs_no_gateway_and_keeps_its_places():
    def unset():
        raise AssertionError("no service is set")

    assert send(unset, [None, None], 1.0)() == [None, None]


def test_a_group_of_which_nothing_was_judged_needs_no_verdict():
    groups, asked = ["a", "a", "b", "b"], [True, True, True, True]
    found = [down(), down(), GOOD, down()]
    assert verdict_needed(groups, asked, [True] * 4, found, 2) == [False, False, True, True]
    assert verdict_needed(groups, asked, [True] * 4, found, 4) == [True] * 4, "the rest of the group is on another rank"


def test_why_a_sample_has_no_value_is_one_reason_of_a_fixed_list():
    assert [name for name, share in abstain_metrics(None, GOOD, refused("http_422")).items() if share] == ["abstain/http_4xx"]
    assert not any(abstain_metrics(0.5, down()).values())
    assert [name for name, share in abstain_metrics(None).items() if share] == ["abstain/no_weight"]
