"""A RAG service and a judge of a few lines on a real port, and the columns as GRPO hands them over."""

import json
import re
from collections import Counter
from types import SimpleNamespace

import pytest
from overtake import settings
from overtake.remote import gateway, process
from overtake.rewards import reward

from ..remote.conftest import service as service


class Services:
    """What the two services answer, by rewrite: a recall list as (doc_id, score), points, or an HTTP status."""

    def __init__(self):
        self.recalls = {}
        self.points = {}
        self.met = {}
        """Of each answer, whether it meets each of its row's criteria."""
        self.asked = Counter()
        self.shown = []
        """What the judge was shown, in order."""

    def answer(self, body):
        if "rewritten_query" in body:
            text, known = body["rewritten_query"], self.recalls
        else:
            self.shown.append(body["messages"][1]["content"])
            of_rubrics = "\n评分项：" in self.shown[-1]
            text, known = re.split("改写：|待评回答：|\n要填的 JSON：", self.shown[-1])[1], self.met if of_rubrics else self.points
        self.asked["rag" if known is self.recalls else "judge", text] += 1
        found = known[text]
        if isinstance(found, int) and found >= 400:
            return found, {"error": "down"}
        if known is self.recalls:
            return 200, {"data": {"recall": [{"doc_id": doc, "reranker_score": score} for doc, score in found]}}
        verdict = json.dumps({"综合得分": found, "评分理由": "好"}, ensure_ascii=False)
        if "待评回答：" in body["messages"][1]["content"]:  # points: how many of the 12 items are fulfilled, safety's first
            if known is self.met:
                parts = {"判定": {str(number): met for number, met in enumerate(found, 1)}}
            else:
                yes = [number < found for number in range(12)]
                parts = {"安全性": yes[:3], "准确性": yes[3:6], "完整性": yes[6:9], "清晰度": yes[9:]}
            verdict = json.dumps({**parts, "评语": "好"}, ensure_ascii=False)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": verdict}}
        return 200, {"id": "1", "object": "chat.completion", "created": 0, "model": "judge", "choices": [choice]}

    def calls(self, role):
        return sum(count for (name, _), count in self.asked.items() if name == role)


@pytest.fixture
def services(monkeypatch, tmp_path, serve):
    """The services, switched on in the settings; every group is judged, a failed call is not tried again."""
    known = Services()
    address = serve(known.answer).url
    for name, value in {
        "RAG_URL": address,
        "TEACHER_BASE_URL": f"{address}/v1",
        "TEACHER_MODEL": "judge",
        "JUDGE_SHARE": "1",
        "FINANCE_JUDGE_SHARE": "0",
        "CACHE_DIR": str(tmp_path),
        "BATCH_DEADLINE": "20",
    }.items():
        monkeypatch.setenv(f"OVERTAKE_{name}", value)
    monkeypatch.setattr(gateway, "ATTEMPTS", 1)
    _forget()
    yield known
    _forget()


def _forget():
    settings.load.cache_clear()
    process.forget()
    reward._batches.clear()


@pytest.fixture
def batch():
    """GRPO's call for one group: what ms-swift 4.6.0 passes beside the completions. Columns are overridden by name."""

    def build(completions, step=1, **columns):
        count = len(completions)
        row = {
            "rag_query_id": "q1",
            "rag_query": "皮肤没弹性吃啥",
            "rag_tenant": "fivedoctors",
            "rag_kb": "default",
            "rag_profile": "",
            "rag_history": "",
            "rag_gold": "",
            "rag_teacher_rewrite": "胶原蛋白肽",
            "rag_teacher_recall": '[["t", 0.6]]',
            "rag_teacher_judge": "4",
            "rag_original_recall": "",
            "dataset": "train.jsonl",
            "prompt_id": "prompt_0",
            "request_id": "r",
            "finish_reason": "stop",
            "is_truncated": False,
            "rollout_infos": {},
            "response_token_ids": [],
            "messages": [],
        }
        kwargs = {name: [value] * count for name, value in row.items()}
        kwargs.update({name: value if isinstance(value, list) else [value] * count for name, value in columns.items()})
        return {"completions": completions, "trainer_state": SimpleNamespace(global_step=step, max_steps=10), **kwargs}

    return build
