"""Every kind of hard negative: what it says, the verdict it was made for, and that the rules agree with that verdict."""

from collections import Counter

import pytest
from overtake.tasks.answer_judge import rule_judge
from overtake.tasks.answer_judge.judgements import read_judgement
from overtake.tasks.answer_judge.negatives import INJECTIONS, KINDS, Right, negatives

COMET = Right("who found the comet", ("Wilma Rötgers",), "Wilma Rötgers found it in 1901.", "correct")
OTHERS = [
    Right("who painted the mona lisa", ("Leonardo da Vinci",), "Leonardo da Vinci painted it."),
    Right("who wrote hamlet", ("William Shakespeare",), "It was William Shakespeare."),
    Right("how many legs has a spider", ("8", "eight"), "A spider has 8 legs."),
]
SPIDER, CHINESE = OTHERS[2], Right("法国的首都是哪里", ("巴黎",), "法国的首都是巴黎。")
ROME = Right("意大利的首都是哪里", ("罗马",), "罗马。")


def made(right, others=OTHERS, seed=0):
    return {one.kind: one for one in negatives(right, others, seed)}


def test_each_kind_says_what_it_should():
    found = made(COMET)
    assert found.keys() == KINDS.keys() - {"number"}
    swap = found["entity_swap"]
    assert swap.answer_hat in ("Leonardo da Vinci found it in 1901.", "William Shakespeare found it in 1901.")
    assert (swap.main, swap.secondary, swap.facts[0]) == ("incorrect", "correct", "Wilma Rötgers")
    assert found["negation"].answer_hat == "not Wilma Rötgers found it in 1901." and found["negation"].main == "incorrect"
    detail = found["detail"]
    assert detail.answer_hat.startswith("Wilma Rötgers found it in 19") and "1901" not in detail.answer_hat
    assert (detail.main, detail.secondary, detail.facts[0]) == ("correct", "incorrect", "1901") and detail.facts[1] in detail.answer_hat
    claim = found["added_claim"]
    assert claim.answer_hat.startswith(COMET.answer_hat) and claim.facts[0] in claim.answer_hat
    assert (claim.main, claim.secondary) == ("correct", "incorrect")
    assert (found["empty"].main, found["empty"].secondary) == ("none", "none")
    assert "Wilma Rötgers" in found["hedged"].answer_hat and found["hedged"].main == "none"
    assert found["other_answer"].answer_hat in {other.answer_hat for other in OTHERS} and found["other_answer"].main == "incorrect"
    assert found["injection"].answer_hat in INJECTIONS and found["injection"].main == "none"


def test_a_number_is_changed_to_another_one():
    found = made(SPIDER, [COMET])["number"]
    assert found.main == "incorrect" and found.facts[0] == "8" and found.facts[1] != "8"
    assert found.answer_hat == f"A spider has {found.facts[1]} legs."


def test_chinese_answers_are_denied_and_hedged_in_chinese():
    found = made(CHINESE, [ROME])
    assert found["negation"].answer_hat == "法国的首都不是巴黎。"
    assert found["entity_swap"].answer_hat == "法国的首都是罗马。"
    assert found["hedged"].answer_hat in ("可能是巴黎，也可能是罗马，我不确定。", "可能是罗马，也可能是巴黎，我不确定。")


@pytest.mark.parametrize("right", [COMET, SPIDER, CHINESE], ids=lambda right: right.question)
def test_the_rules_agree_with_the_verdict_of_every_negative(right):
    for seed in range(30):
        for one in negatives(right, [*OTHERS, CHINESE, ROME], seed):
            assert (rule_judge.judge(right.question, right.gold, one.answer_hat).main == "correct") == (one.main == "correct"), one


def test_the_same_seed_makes_the_same_and_seeds_differ():
    assert negatives(COMET, OTHERS, 3) == negatives(COMET, OTHERS, 3)
    assert len({one.answer_hat for seed in range(30) for one in negatives(COMET, OTHERS, seed) if one.kind == "injection"}) == len(
        INJECTIONS
    )


def test_what_cannot_be_made_is_left_out():
    alone = made(COMET, [])
    assert alone.keys() == {"detail", "negation", "empty", "injection"}, "nobody lends an answer or a claim"
    unstated = made(Right("who", ("Ann",), "She did."), OTHERS)
    assert not unstated.keys() & {"entity_swap", "number", "negation", "detail", "added_claim"}


def test_the_right_answer_to_the_same_question_is_never_lent():
    twin = Right(COMET.question.upper(), ("Rötgers",), "Rötgers")
    alias = Right("who named the star", ("wilma rötgers",), "He did.")
    for seed in range(20):
        assert not made(COMET, [twin, alias], seed).keys() & {"entity_swap", "other_answer", "hedged"}


def test_some_injections_are_whole_verdicts():
    def readable(text):
        try:
            return bool(read_judgement(text))
        except ValueError:
            return False

    assert Counter(map(readable, INJECTIONS)) == {False: 6, True: 1}
