"""`swift sample`'s call: the very scores of GRPO's call, found without columns, and no number for what was not measured."""

import logging
import math

import numpy as np
import overtake
import pytest
from overtake.rewards import sampling
from overtake.rewards.measuring import Outage
from overtake.rewards.sampling import Sampled
from overtake.tasks.query_rewrite import conversations
from overtake.tasks.query_rewrite.rewards import rag_competition, rag_retrieval, rag_win, teacher_judge
from swift.infer_engine import InferRequest
from swift.pipelines.sampling.utils import get_reward
from swift.rewards import orms, prms

# Rewards of the rows that overtake/sample reads.
OF_REWRITES = ("rag_competition", "rag_retrieval", "rag_win", "teacher_judge", "rewrite_rules")


@pytest.fixture
def row(monkeypatch, batch):
    """The row of the columns that `batch` has, remembered as `--dataset overtake/sample:` does."""
    overtake.register()
    monkeypatch.setattr(sampling, "_rows", {})
    columns = {name: values[0] for name, values in batch(["x"]).items() if name in conversations.COLUMNS}
    made = {"messages": [{"role": "system", "content": "改写"}, {"role": "user", "content": columns["rag_query"]}], **columns}
    remember(made)
    return made


def remember(row):
    """As `--dataset overtake/sample:` does."""
    sampling.remember({sampling.key(row["messages"]): Sampled(row["rag_query_id"], conversations.cells(row))})


def requests(row, *texts):
    """As the sampler makes them: dicts of which ms-swift keeps its own keys only, the teacher's rewrite last."""
    turns = [[*row["messages"], {"role": "assistant", "content": text}] for text in (*texts, row["rag_teacher_rewrite"])]
    return [{"messages": messages, "id": "5f3", "choices": list(texts)} for messages in turns]


def scored(table, name, row, *texts):
    """(scores, mask) of ms-swift's own scoring."""
    return get_reward(table[name](), requests(row, *texts), ground_truths=["师"] * (len(texts) + 1), threshold=0.0)


@pytest.mark.parametrize("name", OF_REWRITES)
@pytest.mark.parametrize("table", [prms, orms], ids=["prms", "orms"])
def test_a_process_or_outcome_reward_gives_the_scores_of_grpo(services, batch, row, table, name):
    services.recalls.update({"好": [("a", 0.9)], "差": [("a", 0.5)], "胶原蛋白肽": [("t", 0.6)]})
    services.points.update({"好": 5, "差": 3, "胶原蛋白肽": 4})
    scores, _ = scored(table, name, row, "<think>\n\n</think>\n\n好", "差")
    assert list(scores) == pytest.approx(overtake.load(overtake.REWARDS[name])()(**batch(["好", "差", "胶原蛋白肽"])))
    if name == "rag_competition":
        parts = [(teacher_judge.score(5, 4), 0.9), (teacher_judge.score(3, 4), 0.5), (teacher_judge.score(4, 4), 0.6)]
        by_hand = [rag_competition.score(judge, rag_retrieval.score(own, 0.6), rag_win.score(own, 0.6)) for judge, own in parts]
        assert list(scores) == pytest.approx(by_hand)
        assert by_hand[2] == 0.0, "the teacher against itself"


def test_only_what_beats_the_teacher_passes_the_threshold(services, row):
    services.recalls.update({"好": [("a", 0.9)], "平": [("a", 0.6)], "差": [("a", 0.5)], "胶原蛋白肽": [("t", 0.6)]})
    services.points.update({"好": 4, "平": 4, "差": 4, "胶原蛋白肽": 4})
    _, mask = scored(prms, "rag_competition", row, "好", "平", "差")
    assert list(mask) == [True, False, False, False]


def test_a_question_that_was_measured_in_part_is_left_out_and_named(services, row, caplog):
    services.recalls.update({"好": [("a", 0.9)], "断": 503, "胶原蛋白肽": [("t", 0.6)]})
    with caplog.at_level(logging.WARNING, "overtake"):
        scores, mask = scored(prms, "rag_retrieval", row, "好", "断")
    assert np.isnan(scores).all(), "a number for one of them would rank it, or make it the rejected answer"
    assert not mask.any(), "ms-swift writes nothing for a question without any"
    assert "RagRetrieval: 1 of 3 rewrites of q1 not measured: left out" in caplog.text


def test_other_questions_of_a_call_keep_their_scores(services, row):
    services.recalls.update({"好": [("a", 0.9)], "断": 503})
    other = {**row, "rag_query_id": "q2", "messages": [{"role": "user", "content": "别的"}]}
    remember(other)
    asked = [
        InferRequest(messages=[*one["messages"], {"role": "assistant", "content": text}]) for one, text in ((row, "断"), (other, "好"))
    ]
    unmeasured, measured = prms["rag_win"]()(asked)
    assert math.isnan(unmeasured) and measured == 0.5


def test_an_outage_ends_the_run(services, row):
    services.recalls.update({f"断{number}": 503 for number in range(8)} | {"胶原蛋白肽": 503})
    with pytest.raises(Outage, match="sampling by the same command"):
        scored(prms, "rag_win", row, *(f"断{number}" for number in range(8)))


def test_a_conversation_without_a_row_is_refused(services, row):
    with pytest.raises(ValueError, match=r"no row holds the conversation that ends in .*别的.*--dataset overtake/sample:"):
        prms["rag_win"]()([InferRequest(messages=[{"role": "user", "content": "别的"}, {"role": "assistant", "content": "好"}])])
    assert services.asked.total() == 0


def test_two_files_that_disagree_on_a_conversation_are_refused(row):
    remember(dict(row))
    with pytest.raises(ValueError, match="'q1' and 'q7', of two files, are one conversation with different columns"):
        remember({**row, "rag_query_id": "q7"})


def test_grpos_call_is_left_as_it_was(services, batch, row):
    services.recalls.update({"好": [("a", 0.9)], "断": 503})
    assert orms["rag_win"](args=None)(**batch(["好", "断"])) == [0.5, None]
    assert orms["rag_win"](args=None)(**batch([])) == []
