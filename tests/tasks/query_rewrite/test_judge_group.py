"""One judge call for a group: each rewrite once, in a drawn order, beside the teacher's; the user's formula, or no verdict at all."""

import json
import random
import re
from statistics import correlation, fmean

import pytest
from overtake import settings
from overtake.tasks.query_rewrite import judge
from overtake.tasks.query_rewrite.rewards.rag_competition import RagCompetition
from overtake.tasks.query_rewrite.rewards.teacher_judge import TeacherJudge, score

TEACHER = "胶原蛋白肽"


@pytest.fixture
def judging(services, serve, monkeypatch):
    """judging(points(rewrite, place), change) -> the questions shown; `change` may spoil the list of verdicts."""

    def judging(points, change=lambda verdicts: verdicts):
        shown = []

        def answer(body):
            question = body["messages"][-1]["content"]
            shown.append(question)
            rewrites = re.findall(r"^改写(\d+)：(.*)$", question, re.MULTILINE)
            if rewrites:
                each = [{"编号": int(number), "综合得分": points(text, int(number)), "评分理由": f"评{text}"} for number, text in rewrites]
                said = {"评分": change(each)}
            else:
                said = {"综合得分": points(question.split("改写：")[1], 1), "评分理由": "独"}
            choice = {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": json.dumps(said, ensure_ascii=False)},
            }
            return 200, {"id": "1", "object": "chat.completion", "created": 0, "model": "judge", "choices": [choice]}

        monkeypatch.setenv("OVERTAKE_JUDGE_GROUP", "1")
        monkeypatch.setenv("OVERTAKE_JUDGE_BASE_URL", f"{serve(answer).url}/v1")
        settings.load.cache_clear()
        return shown

    return judging


POINTS = {"好": 5, "差": 2, TEACHER: 3}


def test_one_call_scores_the_group_against_the_teacher_of_the_same_call(judging, services, batch):
    shown = judging(lambda text, _: POINTS[text])
    values = TeacherJudge()(**batch(["好", "差", "好", "", "<think>想</think>差"], rag_profile="孕妇"))
    # The data says 4 of the teacher; by the judge's measure of today it is worth 3. An empty rewrite is worth 0 by the same measure.
    assert values == [pytest.approx(score(points, 3)) for points in (5, 2, 5, 0, 2)]
    [question] = shown
    assert question.startswith("原始问题：皮肤没弹性吃啥\n用户画像：孕妇\n改写1：")
    assert sorted(re.findall(r"改写\d：(.*)", question)) == sorted(["好", "差", TEACHER]), "equal rewrites once"


def test_it_is_off_unless_it_is_asked_for_and_a_rewrite_alone_is_judged_alone(judging, services, batch, monkeypatch):
    shown = judging(lambda text, _: POINTS[text])
    assert TeacherJudge()(**batch(["好"])) == [pytest.approx(score(5, 4))]
    alone = [pytest.approx(score(5, 4)), pytest.approx(score(2, 4))]
    assert TeacherJudge()(**batch(["好", "差"], step=2, prompt_id=["prompt_0", "prompt_1"])) == alone, "as in PPO"
    monkeypatch.setenv("OVERTAKE_JUDGE_GROUP", "0")
    settings.load.cache_clear()
    assert TeacherJudge()(**batch(["好", "差"], step=3)) == alone
    assert not any("改写1" in question for question in shown)


@pytest.mark.parametrize(
    "change",
    [
        lambda verdicts: verdicts[:-1],
        lambda verdicts: [*verdicts, verdicts[0]],
        lambda verdicts: [{**verdict, "编号": verdict["编号"] + 1} for verdict in verdicts],
        lambda verdicts: [{**verdicts[0], "综合得分": 5.5}, *verdicts[1:]],
        lambda verdicts: [{**verdicts[0], "综合得分": "4"}, *verdicts[1:]],
    ],
)
def test_a_rewrite_too_few_too_many_or_out_of_form_costs_the_group_its_verdicts(judging, services, batch, change):
    services.recalls.update({"好": [("a", 0.9)], "差": [("b", 0.3)]})
    shown = judging(lambda text, _: POINTS[text], change)
    assert TeacherJudge()(**batch(["好", "差"])) == [None, None]
    assert len(shown) == 1
    composite = RagCompetition()
    values = composite(**batch(["好", "差"], step=2))
    assert values[0] > 0 > values[1], "by retrieval and win alone, the same formula for both"


def test_the_list_without_its_key_is_as_clear_and_as_strictly_read():
    each = [{"编号": number, "综合得分": number, "评分理由": "理"} for number in (2, 1)]
    told = judge.read_group(2, json.dumps({"评分": each}))
    assert judge.read_group(2, f"```json\n{json.dumps(each)}\n```") == told
    for count, bare in ((3, each), (1, each), (2, each[:1]), (2, []), (2, [each]), (2, [each[0], each[0]])):
        with pytest.raises(ValueError, match=r"judged where|评分"):
            judge.read_group(count, json.dumps(bare))


def test_the_order_is_drawn_so_that_a_judge_that_likes_the_first_place_favours_no_rewrite(judging, services, batch):
    """A bias for the first place, and noise: what is planted in the rewrites comes out, their place in the group does not."""
    noise = random.Random(0)
    judging(lambda text, place: min(5.0, max(0.0, float(text[-1]) / 4 + 1.5 * (place == 1) + noise.uniform(-0.5, 0.5))))
    worth, got, places = [], [], []
    for step in range(40):
        texts = [f"题{step}写{at}值{noise.randrange(8)}" for at in range(8)]
        values = TeacherJudge()(**batch(texts, step=step, rag_query=f"问{step}", rag_teacher_rewrite="师4"))
        assert None not in values
        worth += [int(text[-1]) for text in texts]
        got += [value - fmean(values) for value in values]  # as GRPO compares them
        places += range(8)
    assert correlation(worth, got) > 0.5
    assert abs(correlation(places, got)) < 0.1
    first = [judge.shown_order(f"问{step}", [f"{step}-{at}" for at in range(9)])[0] for step in range(400)]
    shares = [fmean(name.endswith(f"-{at}") for name in first) for at in range(9)]
    assert max(shares) < 0.17 and min(shares) > 0.06, "each of nine is first about as often"
