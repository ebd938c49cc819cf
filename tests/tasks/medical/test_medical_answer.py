"""Rules and teacher as one reward: the formula, and what becomes of it when the teacher is silent."""

import pytest
from overtake import settings
from overtake.rewards import reward as rewarding
from overtake.rewards.measuring import Outage
from overtake.tasks.medical import book as medical_book
from overtake.tasks.medical.rewards import medical_answer, medical_rules
from overtake.tasks.medical.rewards.medical_answer import MedicalAnswer

QUESTION = "胃胀怎么办？"
GOOD = "胃胀多与吃得过快、过饱有关。可以少量多餐、细嚼慢咽，饭后散步，少喝碳酸饮料；如果持续两周以上或体重下降，请到消化科检查。"
SHORT = "少吃点。"


@pytest.fixture
def group(batch):
    """group(completions, **columns) -> GRPO's call for one group with the medical columns."""

    def group(completions, **more):
        med = {"med_id": "m1", "med_question": QUESTION, "med_risk": "", "med_reference": "", "med_keywords": "", "med_source": "s"}
        call = batch(completions, **(med | more))
        return {name: value for name, value in call.items() if not name.startswith("rag_")}

    return group


def rules(answer):
    return medical_rules.score(QUESTION, answer, medical_book.shipped()).total


def test_the_formula_and_the_rules_scale_without_the_teacher():
    assert medical_answer.score(0.5, 1.0) == pytest.approx(0.7)
    assert medical_answer.score(0.5, None) == 0.5
    assert medical_answer.score(0.5, None, (3.0, 2.0)) == 2.5, "the scale of the weights' sum, as with the teacher"
    assert medical_answer.score(0.5, None, (0.0, 1.0)) is None
    assert medical_answer.score(0.5, 0.25, (0.0, 1.0)) == 0.25


def test_a_group_is_scored_by_rules_and_teacher(services, group):
    services.points.update({GOOD: 12, SHORT: 6})
    scores = MedicalAnswer()(**group(["<think>\n\n</think>\n\n" + GOOD, SHORT, ""]))
    assert scores == [pytest.approx(0.6 * rules(GOOD) + 0.4), pytest.approx(0.6 * rules(SHORT) + 0.4 * 0.5), 0.0]
    assert services.calls("judge") == 2, "an empty answer is worth nothing without a call"


def test_an_answer_that_could_harm_has_half_of_the_teachers_points(services, group, monkeypatch):
    services.points[GOOD] = 0
    assert MedicalAnswer()(**group([GOOD])) == [pytest.approx(0.6 * rules(GOOD))]
    verdict = medical_answer.MedicalVerdict({"accuracy": [True] * 3, "safety": [False, True, True]}, "", "")
    assert verdict.score == pytest.approx(5 / 6 / 2)


def test_a_silent_teacher_leaves_the_whole_group_on_the_rules_scale(services, group):
    services.points.update({GOOD: 503, SHORT: 503})
    assert MedicalAnswer()(**group([GOOD, SHORT, ""])) == [pytest.approx(rules(GOOD)), pytest.approx(rules(SHORT)), 0.0]


def test_members_without_a_verdict_abstain_when_others_have_one(services, group):
    services.points.update({GOOD: 12, SHORT: 503})
    assert MedicalAnswer()(**group([GOOD, SHORT])) == [pytest.approx(0.6 * rules(GOOD) + 0.4), None]


def test_a_group_split_over_ranks_abstains_when_this_rank_has_no_verdict(services, group):
    services.points.update({GOOD: 503, SHORT: 503})

    class Args:
        num_generations = 4

    assert MedicalAnswer(Args())(**group([GOOD, SHORT])) == [None, None]


def test_ppo_calls_without_groups(services, group):
    services.points.update({GOOD: 12, SHORT: 503})
    call = group([GOOD, SHORT])
    del call["prompt_id"], call["trainer_state"]
    assert MedicalAnswer()(**call) == [pytest.approx(0.6 * rules(GOOD) + 0.4), pytest.approx(rules(SHORT))]


def test_whole_groups_are_judged_by_share(services, group, monkeypatch):
    monkeypatch.setenv("OVERTAKE_MEDICAL_JUDGE_SHARE", "0.5")
    settings.load.cache_clear()
    services.points[GOOD] = 6
    ids = [f"m{number // 4}" for number in range(80)]
    scores = MedicalAnswer()(**group([GOOD] * 80, med_id=ids, prompt_id=ids))
    judged = {med_id: {round(score, 6) for one, score in zip(ids, scores, strict=True) if one == med_id} for med_id in ids}
    assert all(len(values) == 1 for values in judged.values()), "no group is judged in part"
    assert {round(0.6 * rules(GOOD) + 0.2, 6), round(rules(GOOD), 6)} == set.union(*judged.values())


def test_share_zero_asks_nobody_and_needs_no_endpoint(services, group, monkeypatch):
    monkeypatch.setenv("OVERTAKE_MEDICAL_JUDGE_SHARE", "0")
    monkeypatch.delenv("OVERTAKE_TEACHER_BASE_URL")
    settings.load.cache_clear()
    assert MedicalAnswer()(**group([GOOD])) == [pytest.approx(rules(GOOD))]
    assert services.calls("judge") == 0


def test_weights_are_settings(services, group, monkeypatch):
    monkeypatch.setenv("OVERTAKE_MEDICAL_WEIGHT_RULES", "0")
    monkeypatch.setenv("OVERTAKE_MEDICAL_WEIGHT_TEACHER", "1")
    settings.load.cache_clear()
    services.points.update({GOOD: 9, SHORT: 503})
    assert MedicalAnswer()(**group([GOOD])) == [0.75]
    assert MedicalAnswer()(**group([SHORT])) == [None], "nothing that weighs was measured"


def test_a_teacher_that_refuses_every_call_stops_the_run(services, group):
    answers = [f"{GOOD}第{number}。" for number in range(8)]
    services.points.update(dict.fromkeys(answers, 503))
    with pytest.raises(Outage, match="OVERTAKE_MEDICAL_JUDGE_SHARE=0 to go on with the rules alone"):
        MedicalAnswer()(**group(answers))


def test_what_was_started_early_is_not_asked_again(services, group):
    services.points.update({GOOD: 12, SHORT: 503})
    reward, call = MedicalAnswer(), group([GOOD, SHORT])
    reward.start(**call)
    assert reward(**call) == [pytest.approx(0.6 * rules(GOOD) + 0.4), None]
    assert services.calls("judge") == 2, "the failed call is not waited for again in this step"


def test_the_parts_are_logged(services, group, monkeypatch):
    logged = {}
    monkeypatch.setattr(rewarding, "log_metrics", logged.update)
    services.points.update({GOOD: 9, SHORT: 503})
    MedicalAnswer()(**group([GOOD, SHORT]))
    assert logged["medical/teacher"] == [0.75]
    assert (logged["medical/judged"], logged["medical/abstained"]) == ([1.0, 0.0], [0.0, 1.0])
    assert logged["medical/teacher/clarity"] == [0.0] and logged["medical/teacher/safety"] == [1.0]
    assert logged["abstain/http_5xx"] == [0.0, 1.0]


RUBRICS = (
    '[{"criterion": "让患者少量多餐", "points": 5}, {"criterion": "说明何时就医", "points": 3}, {"criterion": "给出剂量", "points": -4}]'
)


def test_the_teacher_goes_by_the_rows_own_rubrics_where_it_has_any(services, group, monkeypatch):
    logged = {}
    monkeypatch.setattr(rewarding, "log_metrics", logged.update)
    services.met.update({GOOD: [True, True, False], SHORT: [True, False, True]})
    services.points.update({GOOD: 12, SHORT: 6})
    rubrics = [RUBRICS, RUBRICS, RUBRICS, "", ""]
    call = group([GOOD, SHORT, "", GOOD, SHORT], med_rubrics=rubrics, med_history="", prompt_id=["a", "a", "a", "b", "b"])
    scores = MedicalAnswer()(**call)
    assert scores[:3] == [pytest.approx(0.6 * rules(GOOD) + 0.4), pytest.approx(0.6 * rules(SHORT) + 0.4 * 1 / 8), 0.0]
    assert scores[3:] == [pytest.approx(0.6 * rules(GOOD) + 0.4), pytest.approx(0.6 * rules(SHORT) + 0.4 * 0.5)], "a mixed file works"
    assert services.calls("judge") == 4, "one call an answer, and none for an empty one"
    assert logged["medical/teacher/rubrics"] == [1.0, 0.125, 0.0] and len(logged["medical/teacher/safety"]) == 2


def test_an_answer_without_a_verdict_on_every_item_abstains(services, group):
    services.met.update({GOOD: [True, True], SHORT: [True, True, False]})
    assert MedicalAnswer()(**group([GOOD, SHORT], med_rubrics=RUBRICS)) == [None, pytest.approx(0.6 * rules(SHORT) + 0.4)]


def test_rubrics_without_points_to_earn_are_an_error_before_anybody_is_asked(services, group):
    with pytest.raises(ValueError, match="med_rubrics of 'm1': no item has points above 0"):
        MedicalAnswer()(**group([GOOD], med_rubrics='[{"criterion": "给出剂量", "points": -4}]'))
    assert services.calls("judge") == 0


def test_a_question_is_at_risk_for_what_was_said_before_it(group):
    history = '[{"role": "user", "content": "我爸胸口剧痛出冷汗"}, {"role": "assistant", "content": "多久了？"}]'
    call = group(
        ["二十分钟不算久，先在家休息，多喝温水，注意保暖，慢慢就会好起来的，不用担心。"], med_question="二十分钟了", med_history=history
    )
    (scored,) = medical_rules.MedicalRules().measure(**call)
    assert scored.metrics["medical/broken/urgent_care"] == 1.0


def test_rewards_are_registered():
    import overtake

    assert overtake.load(overtake.REWARDS["medical_answer"]) is MedicalAnswer
    assert overtake.load(overtake.REWARDS["medical_rules"]).__name__ == "MedicalRules"
