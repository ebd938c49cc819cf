"""50 steps of the composite reward while search and judge misbehave: each score is the calm run's own, or None."""

import json
import random
from types import SimpleNamespace

import pytest
from overtake.remote import gateway
from overtake.remote.rag import rag_gateway
from overtake.tasks.query_rewrite.judge import judge_gateway
from overtake.tasks.query_rewrite.rewards.rag_competition import RagCompetition

STEPS, PROMPTS, COMPLETIONS = 50, 3, 4
RAG, CHAT = "/api/chat/general_rag", "/v1/chat/completions"
# 20 % 5xx, 10 % hangs, 5 % malformed, 5 % resets, storms on top; and refusals, which no attempt makes good, so that some scores are lost.
MIX = {"500": 0.05, "502": 0.05, "503": 0.05, "504": 0.05, "hang": 0.1, "html": 0.02, "bad_json": 0.02, "wrong_form": 0.01, "reset": 0.05}
MIX = {**MIX, "422": 0.02}


def batch(step):
    """A step as GRPO hands it over. Half of the prompts lack the teacher's recall; some completions are equal, some empty."""
    drawn, completions, columns = random.Random(step), [], []
    for prompt in range(PROMPTS):
        query = f"第{step}步第{prompt}个问题"
        said = [f"{query} 改写{number}" for number in range(COMPLETIONS)]
        if drawn.random() < 0.5:
            said[1] = said[0]
        if drawn.random() < 0.3:
            said[2] = "<think>想</think>"
        completions += said
        row = {
            "rag_query_id": f"{step}-{prompt}",
            "rag_query": query,
            "rag_tenant": "fivedoctors",
            "rag_kb": "default",
            "rag_profile": "",
            "rag_history": "",
            "rag_gold": "",
            "rag_teacher_rewrite": f"{query} 术语",
            "rag_teacher_recall": '[["d1", 0.6], ["d2", 0.4]]' if prompt % 2 else "",
            "rag_teacher_judge": "2.5",
            "prompt_id": f"prompt-{prompt}",
        }
        columns += [row] * COMPLETIONS
    state = SimpleNamespace(global_step=step, max_steps=STEPS)
    return {"completions": completions, "trainer_state": state, **{name: [row[name] for row in columns] for name in columns[0]}}


def needs(sent):
    """For each completion the requests that its score is made of, as (path, text)."""
    found = []
    for completion, query, teacher, recall in zip(
        sent["completions"], sent["rag_query"], sent["rag_teacher_rewrite"], sent["rag_teacher_recall"], strict=True
    ):
        rewrite = completion.removeprefix("<think>想</think>")
        texts = [(RAG, f"{query}\n{text}\nfivedoctors/default") for text in (rewrite, "" if recall else teacher) if text]
        found.append(texts + ([(CHAT, f"原始问题：{query}\n改写：{rewrite}")] if rewrite else []))
    return found


@pytest.fixture
def train(use, monkeypatch):
    """train(server) -> the scores of all steps, and the meters of search and judge."""
    monkeypatch.setattr(gateway, "_backoff", lambda tries: random.uniform(0, 0.05))

    def train(server):
        use(server, RAG_TIMEOUT=0.5, TEACHER_TIMEOUT=0.5, RAG_CONCURRENCY=64, TEACHER_CONCURRENCY=64, JUDGE_SHARE=1, BATCH_DEADLINE=60)
        reward = RagCompetition(SimpleNamespace(num_generations=COMPLETIONS))
        scores = [reward(**batch(step)) for step in range(STEPS)]
        return scores, rag_gateway().meter, judge_gateway().meter

    return train


@pytest.mark.slow
def test_50_reward_steps_score_what_they_measured_and_nothing_else(chaos, train):
    calm, *_ = train(chaos())
    assert all(score is not None for step in calm for score in step)
    assert len({score for step in calm for score in step}) > 100

    server = chaos(seed=4, latency=0.005, jitter=0.01, mix=MIX, storms=[[200, 212], [700, 712], [1200, 1212]])
    stormy, search, judge = train(server)
    last = {(row["path"], row["text"]): server.kind(row) for row in server.log()}
    lost = {asked for asked, kind in last.items() if kind}
    for step, (still, scores) in enumerate(zip(calm, stormy, strict=True)):
        expected = [None if lost & set(texts) else score for score, texts in zip(still, needs(batch(step)), strict=True)]
        assert scores == expected, json.dumps([step, still, scores])
    missing = sum(score is None for step in stormy for score in step)
    assert 0 < missing < STEPS * PROMPTS * COMPLETIONS / 4

    # Of calls that are equal one is sent, and its failure is each one's.
    wanted = [text for step in range(STEPS) for texts in needs(batch(step)) for text in texts]
    for path, meter in ((RAG, search), (CHAT, judge)):
        assert meter.faults == server.dealt(path)
        assert meter.calls == sum(text[0] == path for text in wanted)
        assert meter.failed.total() == sum(text in lost for text in wanted if text[0] == path)
        assert {"timeout", "connection", "malformed", "http_422", "http_429", "http_503"} <= set(meter.faults)
    answered = [(row["path"], row["text"]) for row in server.log() if server.kind(row) is None]
    assert len(answered) == len(set(answered)), "nothing is paid for twice"
