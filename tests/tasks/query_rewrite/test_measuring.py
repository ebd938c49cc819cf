"""Rewards over HTTP: what is asked, what is shared, and what becomes of failures."""

import pytest
from overtake import settings
from overtake.remote import chat, rag
from overtake.rewards import reward as rewarding
from overtake.rewards import trace
from overtake.rewards.measuring import ABSTAINED, Outage
from overtake.tasks.query_rewrite import measuring
from overtake.tasks.query_rewrite.rewards import rag_competition, rag_retrieval, rag_win, teacher_judge
from overtake.tasks.query_rewrite.rewards.rag_competition import RagCompetition
from overtake.tasks.query_rewrite.rewards.rag_retrieval import RagRetrieval
from overtake.tasks.query_rewrite.rewards.rag_win import RagWin
from overtake.tasks.query_rewrite.rewards.teacher_judge import TeacherJudge
from overtake.tasks.query_rewrite.rows import RewriteRow

T = 0.6  # the teacher recalls one document of 0.6 in the columns: 0.6 * 0.6 + 0.4 * 0.6 = 0.6


def expected(student, points=None, teacher_points=4):
    """The composite reward of a student of this retrieval quality and these points."""
    judge = None if points is None else teacher_judge.score(points, teacher_points)
    return pytest.approx(rag_competition.score(judge, rag_retrieval.score(student, T), rag_win.score(student, T)))


def test_a_group_is_scored_by_retrieval_judge_and_win(services, batch):
    services.recalls.update({"好": [("a", 0.9), ("b", 0.6), ("c", 0.3)], "差": [("a", 0.5)], "无": []})
    services.points.update({"好": 5, "差": 3, "无": 1})
    completions = ["<think>\n\n</think>\n\n好", "差", "无", ""]
    # 好: .6 * .9 + .4 * .6 = .78. An empty completion recalls nothing and has 0 points, without a call.
    scores = RagCompetition()(**batch(completions))
    assert scores == [expected(0.78, 5), expected(0.5, 3), expected(0, 1), expected(0, 0)]
    assert (services.calls("rag"), services.calls("judge")) == (3, 3)


def test_the_judge_of_the_reward_sees_profile_and_history(services, batch):
    services.points["孕妇 胶原蛋白"] = 5
    TeacherJudge()(**batch(["孕妇 胶原蛋白"], rag_profile="孕妇", rag_history="上次问过叶酸"))
    assert services.shown == ["原始问题：皮肤没弹性吃啥\n用户画像：孕妇\n历史摘要：上次问过叶酸\n改写：孕妇 胶原蛋白"]


def test_the_rewards_of_a_step_share_one_measurement(services, batch):
    services.recalls.update({"好": [("a", 0.9)], "差": 503})
    services.points.update({"好": 5, "差": 3})
    call = batch(["好", "差"])
    assert RagRetrieval()(**call) == [pytest.approx(rag_retrieval.score(0.9, T)), None]
    assert RagWin()(**call) == [0.5, None]
    assert TeacherJudge()(**call) == [pytest.approx(teacher_judge.score(5, 4)), pytest.approx(teacher_judge.score(3, 4))]
    RagCompetition()(**call)
    assert (services.calls("rag"), services.calls("judge")) == (2, 2), "the failed call is not waited for again in this step"
    assert RagWin()(**batch(["好", "差"], step=2)) == [0.5, None]
    assert services.calls("rag") == 3, "the next step asks again for what failed, and only for that"


@pytest.mark.parametrize("reward", [RagCompetition, RagRetrieval, RagWin, TeacherJudge])
def test_what_was_started_is_waited_for_and_not_asked_again(services, batch, reward):
    """Not even what failed, which no cache holds."""
    services.recalls.update({"好": [("a", 0.9)], "差": [("b", 0.5)], "断": 503})
    services.points.update({"好": 5, "差": 3, "断": 503})
    call = batch(["好", "差", "断"])
    made = reward()
    made.start(**call)
    good, bad, lost = made(**call)
    assert good > bad and lost is None
    assert set(services.asked.values()) == {1}


def test_gold_labels_are_the_measure_where_there_are_any(services, batch):
    services.recalls["好"] = [("a", 0.9), ("g", 0.6)]
    # Student: [0, 1] filled up to [0, 1, 0], .6 * 0 + .4 * 1 / 3; teacher recalled t alone: [0, 0, 0], 0.
    scores = RagRetrieval()(**batch(["好"], rag_gold='["g"]'))
    assert scores == [pytest.approx(rag_retrieval.score(0.4 / 3, 0.0))]


def test_the_teacher_is_asked_live_only_where_the_data_lacks_its_recall(services, batch):
    services.recalls.update({"好": [("a", 0.9)], "胶原蛋白肽": [("t", 0.7)]})
    assert RagRetrieval()(**batch(["好"] * 2, rag_teacher_recall="")) == [pytest.approx(rag_retrieval.score(0.9, 0.7))] * 2
    assert services.asked["rag", "胶原蛋白肽"] == 1
    assert RagRetrieval()(**batch(["好"], rag_teacher_recall="[]")) == [pytest.approx(rag_retrieval.score(0.9, 0.0))]
    assert services.asked["rag", "胶原蛋白肽"] == 1, "an empty recall in the data is a measurement"
    services.recalls["胶原蛋白肽"] = 500
    assert RagRetrieval()(**batch(["好"], rag_teacher_recall="", rag_query="别的")) == [None]
    assert RagRetrieval()(**batch(["好"], rag_teacher_recall="", rag_teacher_rewrite="")) == [None], "no baseline at all"


def test_a_failed_retrieval_abstains_and_is_no_zero(services, batch):
    services.recalls.update({"好": [("a", 0.9)], "断": 503, "拒": 422})
    services.points.update({"好": 5, "断": 5, "拒": 5})
    assert RagCompetition()(**batch(["好", "断", "拒"])) == [expected(0.9, 5), None, None]


def test_members_without_a_verdict_abstain_when_others_have_one(services, batch):
    services.recalls.update({"好": [("a", 0.9)], "差": [("a", 0.5)]})
    services.points.update({"好": 5, "差": 503})
    assert RagCompetition()(**batch(["好", "差"])) == [expected(0.9, 5), None]


def test_a_group_without_any_verdict_is_scored_without_the_judge(services, batch):
    services.recalls.update({"好": [("a", 0.9)], "差": [("a", 0.5)]})
    services.points.update({"好": 503, "差": 503})
    assert RagCompetition()(**batch(["好", "差", ""])) == [expected(0.9), expected(0.5), expected(0)]
    # The teacher's own score is unknown: nobody is asked.
    assert RagCompetition()(**batch(["好", "差"], step=2, rag_teacher_judge="")) == [expected(0.9), expected(0.5)]
    assert services.calls("judge") == 2


def test_a_group_split_over_ranks_abstains_when_this_rank_has_no_verdict(services, batch):
    """The other rank may have verdicts, and two formulas in one group would be compared with each other."""
    services.recalls.update({"好": [("a", 0.9)], "差": [("a", 0.5)]})
    services.points.update({"好": 503, "差": 503})

    class Args:
        num_generations = 4

    assert RagCompetition(Args())(**batch(["好", "差"])) == [None, None]
    assert RagCompetition(Args())(**batch(["好", "差"] * 2, step=2)) == [expected(0.9), expected(0.5)] * 2


def test_groups_are_apart(services, batch):
    services.recalls.update({"好": [("a", 0.9)], "差": [("a", 0.5)]})
    services.points.update({"好": 5, "差": 503})
    call = batch(["好", "差", "差", "差"], prompt_id=["p0", "p0", "p1", "p1"])
    assert RagCompetition()(**call) == [expected(0.9, 5), None, expected(0.5), expected(0.5)]


def test_ppo_calls_without_groups(services, batch):
    services.recalls.update({"好": [("a", 0.9)], "差": [("a", 0.5)]})
    services.points.update({"好": 5, "差": 503})
    call = batch(["好", "差"])
    del call["prompt_id"], call["trainer_state"]
    assert RagCompetition()(**call) == [expected(0.9, 5), expected(0.5)], "each row is a group of its own"


def test_share_zero_and_weight_zero_ask_no_judge(services, batch, monkeypatch):
    services.recalls["好"] = [("a", 0.9)]
    monkeypatch.setenv("OVERTAKE_JUDGE_SHARE", "0")
    settings.load.cache_clear()
    assert RagCompetition()(**batch(["好"])) == [expected(0.9)]
    assert TeacherJudge()(**batch(["好"])) == [None]
    monkeypatch.setenv("OVERTAKE_JUDGE_SHARE", "1")
    monkeypatch.setenv("OVERTAKE_WEIGHT_JUDGE", "0")
    settings.load.cache_clear()
    # (.40 * tanh(.9) + .25 * .5) * .65 / .65
    assert RagCompetition()(**batch(["好"], step=2)) == [pytest.approx(0.40 * rag_retrieval.score(0.9, T) + 0.125)]
    assert services.calls("judge") == 0


def rows(count, **fields):
    """`count` members of the group of one query."""
    plain = RewriteRow("q", "问", "t", teacher_rewrite="师", teacher_recall=(), teacher_judge=4.0)
    return [plain._replace(**fields) for _ in range(count)]


def test_the_judge_sample_is_whole_groups_about_as_many_as_asked_for():
    drawn = 0
    for number in range(2000):
        asked = measuring.to_judge(rows(4, query_id=f"q{number}"), step=7, share=0.3)
        assert len(set(asked)) == 1, "all members or none"
        drawn += asked[0]
    assert 0.27 < drawn / 2000 < 0.33
    assert not any(measuring.to_judge(rows(4), 7, 0.0)) and all(measuring.to_judge(rows(4), 7, 1.0))


def test_another_step_draws_other_groups():
    queries = [f"q{number}" for number in range(200)]
    first, second = ({query for query in queries if measuring.to_judge(rows(1, query_id=query), step, 0.3)[0]} for step in (1, 2))
    assert first != second


def test_most_of_a_batch_down_stops_the_run(services, batch):
    services.recalls.update({f"断{number}": 503 for number in range(5)} | {f"好{number}": [("a", 0.9)] for number in range(4)})
    call = batch(list(services.recalls)[:8])  # 5 of 8
    with pytest.raises(Outage, match=r"5 of 8 retrievals.*HTTP 503.*http://127\.0\.0\.1.*--resume_from_checkpoint"):
        RagRetrieval()(**call)
    with pytest.raises(Outage):
        RagCompetition()(**call)


def test_half_of_a_batch_or_a_small_one_abstains(services, batch):
    services.recalls.update({f"断{number}": 503 for number in range(7)} | {f"好{number}": [("a", 0.9)] for number in range(4)})
    texts = list(services.recalls)
    assert RagWin()(**batch(texts[:4] + texts[7:])) == [None] * 4 + [0.5] * 4
    assert RagWin()(**batch(texts[:7], step=2)) == [None] * 7


def test_a_service_that_refuses_everything_stops_the_run_too(services, batch):
    services.recalls.update({f"拒{number}": 404 for number in range(8)})
    with pytest.raises(Outage, match="HTTP 404"):
        RagWin()(**batch(list(services.recalls)))


def test_one_question_that_the_judge_refuses_is_scored_without_it_and_several_stop_the_run(services, batch):
    """Only its group may be drawn, and a resumed run draws it again."""
    texts = [f"改{number}" for number in range(8)]
    services.recalls.update({text: [("a", 0.9)] for text in texts})
    services.points.update(dict.fromkeys(texts, 400))
    assert RagCompetition()(**batch(texts)) == [expected(0.9)] * 8
    assert TeacherJudge()(**batch(texts, step=2)) == [None] * 8
    with pytest.raises(Outage, match=r"8 of 8 verdicts.*HTTP 400"):
        RagCompetition()(**batch(texts, step=3, rag_query_id=["q1", "q2"] * 4))


@pytest.mark.parametrize("reward", [RagCompetition, RagRetrieval, RagWin])
def test_a_document_without_a_name_beside_gold_labels_is_a_failed_call(services, batch, reward):
    services.recalls.update({"好": [("g", 0.9)], "无名": [("g", 0.9), (None, 0.5)]})
    services.points.update({"好": 5, "无名": 5})
    assert [score is None for score in reward()(**batch(["好", "无名"], rag_gold='["g"]'))] == [False, True]
    assert reward()(**batch(["无名"], step=2)) != [None], "without labels the reranker's scores do"
    unnamed = batch(["好"], step=3, rag_gold='["g"]', rag_teacher_recall="[[null, 0.6]]")
    assert reward()(**unnamed) == [None], "nor is there a baseline in such a row"


def test_documents_without_names_are_logged_as_malformed_and_stop_a_run_that_has_no_other(services, batch, logged):
    texts = [f"改{number}" for number in range(8)]
    services.recalls.update({text: [(None, 0.9)] for text in texts})
    services.points.update(dict.fromkeys(texts, 5))
    RagCompetition()(**batch(texts[:2], rag_gold='["g"]'))
    assert reasons(logged) == {"malformed": [1, 1]}
    with pytest.raises(Outage, match=r"8 of 8 retrievals.*no doc_id"):
        RagCompetition()(**batch(texts, step=2, rag_gold='["g"]', rag_query_id=["q1", "q2"] * 4))


@pytest.mark.parametrize("reward", [RagCompetition, RagRetrieval, RagWin, TeacherJudge])
def test_columns_out_of_form_are_named(services, batch, reward):
    call = batch(["好", "差"])
    missing = {name: value for name, value in call.items() if name != "rag_teacher_recall"}
    with pytest.raises(ValueError, match=r"no column rag_teacher_recall.*tools/convert\.py"):
        reward(args=None)(**missing)
    with pytest.raises(ValueError, match=r"rag_tenant holds 1 values for 2"):
        reward()(**call | {"rag_tenant": ["t"]})
    with pytest.raises(ValueError, match=r"rag_gold of 'q1'.*d7"):
        reward()(**call | {"rag_gold": ["d7"] * 2})
    with pytest.raises(ValueError, match=r"rag_teacher_judge of 'q1' is '9'"):
        reward()(**call | {"rag_teacher_judge": ["9"] * 2})
    with pytest.raises(ValueError, match=r"rag_query is empty"):
        reward()(**call | {"rag_query": [None] * 2})
    assert services.asked.total() == 0


@pytest.fixture
def logged(monkeypatch):
    """What the composite logs, by name."""
    found = {}
    monkeypatch.setattr(rewarding, "log_metrics", found.update)
    return found


def test_the_parts_are_logged(services, batch, logged):
    services.recalls.update({"好": [("a", 0.9)], "差": [("a", 0.5)], "断": 503})
    services.points.update({"好": 5, "差": 3, "断": 3})
    RagCompetition()(**batch(["好", "差", "断"]))
    assert logged["rag/win_rate"] == [1.0, 0.0]
    assert logged["rag/win"] == [0.5, -0.3]
    assert logged["rag/retrieval"] == [rag_retrieval.score(0.9, T), rag_retrieval.score(0.5, T)]
    assert logged["rag/judge"] == [teacher_judge.score(5, 4), *[teacher_judge.score(3, 4)] * 2]
    assert logged["rag/student_quality"] == pytest.approx([0.9, 0.5])
    assert logged["rag/teacher_top1"] == [0.6, 0.6]
    assert logged["rag/judged"] == [1.0, 1.0, 1.0]
    assert logged["rag/abstained"] == [0.0, 0.0, 1.0]


def reasons(logged):
    return {name.removeprefix("abstain/"): shares for name, shares in logged.items() if name.startswith("abstain/") and any(shares)}


def test_why_samples_abstain_is_logged_by_reason(services, batch, logged):
    services.recalls.update({"好": [("a", 0.9)], "断": 503, "拒": 422, "满": 429, "乱": [("a", 1.5)]})
    services.points.update({"好": 5, "断": 5, "拒": 5, "满": 5, "乱": 500})
    RagCompetition()(**batch(["好", "断", "拒", "乱"], prompt_id=["p0", "p1", "p2", "p3"]))
    assert reasons(logged) == {"http_5xx": [0, 1, 0, 0], "http_4xx": [0, 0, 1, 0], "malformed": [0, 0, 0, 1]}
    assert {f"abstain/{reason}" for reason in ABSTAINED} <= logged.keys(), "every rank logs the same names"
    RagCompetition()(**batch(["好", "好"], step=2, rag_teacher_recall=["[]", ""], rag_teacher_rewrite=""))
    assert reasons(logged) == {"no_baseline": [0, 1]}
    services.recalls["差"] = [("a", 0.5)]
    services.points["差"] = 503
    RagCompetition()(**batch(["好", "差"], step=3))
    assert reasons(logged) == {"http_5xx": [0, 1]}, "the judge's failure, where its sibling has a verdict"


def test_nothing_that_weighs_is_a_reason_of_its_own(services, batch, logged, monkeypatch):
    services.recalls["好"] = [("a", 0.9)]
    for name, weight in {"RETRIEVAL": "0", "WIN": "0", "JUDGE": "1"}.items():
        monkeypatch.setenv(f"OVERTAKE_WEIGHT_{name}", weight)
    settings.load.cache_clear()
    assert RagCompetition()(**batch(["好"], rag_teacher_judge="")) == [None]
    assert reasons(logged) == {"no_weight": [1]}


def test_equal_rewrites_are_one_request_and_count_as_hits(services, batch):
    services.recalls["好"] = [("a", 0.9)]
    services.points["好"] = 5
    RagCompetition()(**batch(["好"] * 4))
    RagWin()(**batch(["好"] * 4))
    assert (services.calls("rag"), services.calls("judge")) == (1, 1)
    for meter in (rag.rag_gateway().meter, chat.chat_gateway("judge").meter):
        assert (meter.calls, meter.shared, meter.cached, meter.requests) == (4, 3, 0, 1)
    RagWin()(**batch(["好"] * 2, step=2))
    meter = rag.rag_gateway().meter
    assert (meter.calls, meter.shared, meter.cached, meter.requests) == (6, 3, 2, 1)


@pytest.fixture
def traced():
    """traced(completions) begins a batch of the trace; called without, it gives what was noted of each sample."""
    trace.take()

    def traced(completions=None):
        return trace.take() if completions is None else trace.begin([{} for _ in completions])

    yield traced
    trace.take()


def test_the_trace_holds_what_was_measured_and_why_not(services, batch, traced):
    services.recalls.update({"好": [("a", 0.9), ("g", 0.6)], "断": 503})
    services.points.update({"好": 5, "断": 503})
    traced(["好", "断", ""])
    RagCompetition()(**batch(["好", "断", ""], rag_gold='["g"]', prompt_id=["p0", "p1", "p2"]))
    good, failed, empty = traced()
    assert good == {
        "query_id": "q1",
        "query": "皮肤没弹性吃啥",
        "rewrite": "好",
        "gold": ("g",),
        "recall": [["a", 0.9], ["g", 0.6]],
        "quality": pytest.approx(0.4 / 3),
        "teacher_recall": [["t", 0.6]],
        "teacher_quality": 0.0,
        "retrieval_failed": None,
        "points": 5.0,
        "teacher_points": 4.0,
        "judge_says": "好",
        "judge_failed": None,
        "parts": {"judge": teacher_judge.score(5, 4), "retrieval": pytest.approx(rag_retrieval.score(0.4 / 3, 0)), "win": 0.5},
        "judge_needed": True,
    }
    assert (failed["recall"], failed["quality"], failed["points"]) == (None, None, None)
    assert failed["retrieval_failed"]["kind"] == "http_503" and "HTTP 503" in failed["retrieval_failed"]["reason"]
    assert failed["judge_failed"]["kind"] == "http_503"
    assert failed["parts"] == {"judge": None, "retrieval": None, "win": None}
    assert (empty["recall"], empty["points"], empty["judge_says"]) == ([], 0.0, "an empty rewrite")


@pytest.mark.parametrize("reward", [RagRetrieval, RagWin, TeacherJudge])
def test_the_parts_as_rewards_of_their_own_are_traced_too(services, batch, traced, reward):
    services.recalls["好"], services.points["好"] = [("a", 0.9)], 5
    traced(["好"])
    reward()(**batch(["好"]))
    (sample,) = traced()
    assert (sample["rewrite"], sample.get("recall", [["a", 0.9]]), sample.get("points", 5)) == ("好", [["a", 0.9]], 5)
    assert ("points" in sample) == (reward is TeacherJudge) != ("recall" in sample)
