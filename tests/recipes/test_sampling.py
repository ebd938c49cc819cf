"""Rejection sampling as it really runs: every row comes back with its columns, the best draw is kept, nothing is drawn or asked twice."""

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from overtake.reading.tags import strip_think
from overtake.tasks.query_rewrite import conversations
from overtake.tasks.query_rewrite.rewards.rewrite_rules import rejection_reason

ROOT = Path(__file__).resolve().parents[2]


def done(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout + result.stderr


def worth(text: str) -> float:
    """What a rewrite finds, and by half of that what the judge says: anything, as long as it differs."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:4], 16) % 997 / 1000


def points(text: str) -> float:
    return round(worth("judge " + text) * 5, 1)


def lost(text: str) -> bool:
    """One text in seven is refused by the retrieval service, until it is mended."""
    return int(hashlib.sha256(text.encode()).hexdigest()[4:8], 16) % 7 == 0


@pytest.fixture
def services(serve: Any, tmp_path: Path) -> Any:
    """A RAG service and a judge that know every text, and the settings that name them; `mended` makes them answer everything."""
    known = SimpleNamespace(mended=False)

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if "rewritten_query" in body:
            text = body["rewritten_query"]
            if lost(text) and not known.mended and text != body["query"]:
                return 422, {"error": "no such words"}
            return 200, {"data": {"recall": [{"doc_id": "d", "reranker_score": worth(text)}]}}
        verdict = json.dumps({"综合得分": points(body["messages"][-1]["content"].split("改写：")[1]), "评分理由": "好"}, ensure_ascii=False)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": verdict}}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return 200, {"id": "x", "object": "chat.completion", "created": 1, "model": "judge", "choices": [choice], "usage": usage}

    known.server = serve(answer)
    url = known.server.url
    known.settings = {"OVERTAKE_RAG_URL": url, "OVERTAKE_TEACHER_BASE_URL": f"{url}/v1", "OVERTAKE_TEACHER_MODEL": "judge"}
    known.settings |= {"OVERTAKE_CACHE_DIR": tmp_path / "cache", "MODELSCOPE_CACHE": tmp_path / "modelscope"}
    return known


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Eleven prompt-only rows by question, in rl.jsonl; of the last one the question itself cannot be beaten."""
    texts = dict.fromkeys(conversations.COLUMNS, "")
    made = {}
    for number in range(11):
        query = f"question {number}"
        turns = [{"role": "system", "content": "rewrite"}, {"role": "user", "content": query}]
        known = {"rag_query_id": f"q{number}", "rag_query": query, "rag_tenant": "default", "rag_kb": "default", "extra": number}
        known |= {"rag_teacher_rewrite": f"teacher {number}", "rag_teacher_recall": '[["t", 0.5]]', "rag_teacher_judge": "2.5"}
        made[query] = {**texts, **known, "messages": turns, "rag_original_recall": json.dumps([["o", 1.0 if number == 10 else 0.1]])}
    (tmp_path / "rl.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made.values()), encoding="utf-8")
    return made


def competition(text: str) -> float:
    """The composite reward of a rewrite against a teacher of 0.5 and 2.5 points, spelt out."""
    judge, retrieval = math.tanh(3 * (points(text) / 5 - 0.5)), math.tanh(3 * (worth(text) - 0.5))
    return 0.35 * judge + 0.40 * retrieval + 0.25 * (0.5 if worth(text) > 0.5 else -0.3 if worth(text) < 0.5 else 0.0)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def by_question(drawn: list[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in drawn:
        found.setdefault(line["messages"][1]["content"], []).append(strip_think(line["messages"][-1]["content"]))
    return found


MODEL = ["--model_type", "qwen3", "--template", "qwen3"]


@pytest.mark.slow
@pytest.mark.release
def test_swift_sample_itself_keeps_the_best_by_our_process_reward(tiny: Path, rows: dict[str, Any], services: Any, run: Any) -> None:
    """A plain `swift sample` on prompt-only rows: what it writes is the draw with the highest score, if that beats the teacher."""
    services.mended = True
    said = ["swift", "sample", "--model", "tiny", *MODEL, "--engine_kwargs", '{"template_type": "qwen3"}', "--torch_dtype", "float32"]
    said += ["--external_plugins", str(ROOT / "plugin/register.py"), "--dataset", "overtake/sample:rl.jsonl"]
    said += ["--num_sampling_batch_size", "11", "--num_return_sequences", "4", "--max_new_tokens", "8", "--n_best_to_keep", "1"]
    said += ["--prm_model", "rag_competition", "--output_dir", "sampled", "--output_file", "kept.jsonl"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_")}
    env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": "", "OVERTAKE_JUDGE_SHARE": "1"}
    env |= {name: str(value) for name, value in services.settings.items()}
    done(subprocess.run(said, cwd=tiny, env=env, capture_output=True, text=True, check=False))

    asked: dict[str, set[str]] = {query: set() for query in rows}
    for request in services.server.requests:
        if "rewritten_query" in request.body:
            asked[request.body["query"]].add(request.body["rewritten_query"])
    assert {query: f"teacher {row['extra']}" in asked[query] for query, row in rows.items()} == dict.fromkeys(rows, True)
    # The teacher's own rewrite is one of the candidates: for ms-swift the row's answer is.
    best = {query: max(texts, key=competition) for query, texts in asked.items()}
    kept = by_question(lines(tiny / "sampled/kept.jsonl"))
    assert kept == {query: [text] for query, text in best.items() if competition(text) > 0}
    assert len(kept) > 0


@pytest.mark.slow
def test_sampling_keeps_the_best_draw_of_every_question(tiny: Path, rows: dict[str, Any], services: Any, run: Any) -> None:
    """Draws on 11 rows in batches of 4, a refusal of some, a second start, and a run that was interrupted; about a minute."""
    flags = [*MODEL, "--num_sampling_batch_size", "4", "--num_return_sequences", "5", "--max_new_tokens", "8"]
    base = {"PROFILE": "cpu", "SFT_ADAPTER": "none", "MODEL": "tiny", "DATASET": "rl.jsonl", "OUTPUT_DIR": "out", "cwd": tiny}

    def start() -> subprocess.CompletedProcess[str]:
        return run("sample_rag", *flags, **base, **services.settings)

    def expected(measured: Callable[[str], bool]) -> dict[str, str]:
        sound = {query: [text for text in texts if not rejection_reason(text, query) and measured(text)] for query, texts in drawn.items()}
        better = {
            query: [text for text in texts if worth(text) > (1.0 if query == "question 10" else 0.1)] for query, texts in sound.items()
        }
        return {query: max(texts, key=competition) for query, texts in better.items() if texts}

    first = start()
    assert first.returncode == 1, first.stdout[-3000:] + first.stderr[-3000:]
    assert "run the same command again" in first.stderr
    drawn = by_question(lines(tiny / "out/draws.jsonl"))
    assert drawn.keys() == rows.keys(), "no tail is lost"
    assert sorted(map(len, drawn.values())) == [5] * 10 + [10], "one row fills the last batch"

    def kept() -> dict[str, str]:
        found = lines(tiny / "out/train.jsonl")
        for row in found:
            query = row["rag_query"]
            assert row["messages"][:-1] == rows[query]["messages"]
            assert {name: row[name] for name in rows[query] if name != "messages"} == {
                name: value for name, value in rows[query].items() if name != "messages"
            }
            assert row["metadata"]["source"].endswith("/tiny")
            assert row["metadata"]["score"] == pytest.approx(competition(row["messages"][-1]["content"]), abs=1e-6)
        return {row["rag_query"]: row["messages"][-1]["content"] for row in found}

    assert kept() == expected(lambda text: not lost(text))
    left_out = {row["query_id"]: row["reason"] for row in lines(tiny / "out/train.jsonl.left_out.jsonl")}
    assert left_out.keys() == {row["rag_query_id"] for query, row in rows.items() if query not in kept()}
    assert left_out["q10"] == "no better than the question"
    asked = len(services.server.requests)

    services.mended = True
    mark = tiny / "out/asked.txt"
    mark.write_text(f"VLLM_CPU_KVCACHE_SPACE=9 {mark.read_text('utf-8')}", encoding="utf-8")  # as another machine would have asked
    again = done(start())
    assert "nothing is drawn again" in again
    texts = {text for query, found in drawn.items() for text in found if not rejection_reason(text, query)}
    assert any(map(lost, texts))
    resent = [request.body["rewritten_query"] for request in services.server.requests[asked:] if "rewritten_query" in request.body]
    assert set(resent) == {text for text in texts if lost(text)}
    assert kept() == expected(lambda text: True)

    # As an interruption leaves it: the first batch whole, the copy of the second cut off in a line.
    whole = (tiny / "out/draws.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tiny / "out/draws.jsonl").unlink()
    (tiny / "out/draws.jsonl.resume").write_text("".join(whole[:20]) + whole[20][:50], encoding="utf-8")
    (tiny / "out/ckpt_state.json").write_text('{"index": 0}', encoding="utf-8")
    done(start())
    resumed = (tiny / "out/draws.jsonl").read_text("utf-8").splitlines(keepends=True)
    assert (resumed[:20], len(resumed)) == (whole[:20], 60)
    assert by_question(list(map(json.loads, resumed))).keys() == rows.keys()

    flags[-1] = "7"
    other = start()
    assert other.returncode == 2 and "holds draws by another command or on other rows" in other.stderr
    assert (tiny / "out/draws.jsonl").read_text("utf-8").splitlines(keepends=True) == resumed


@pytest.mark.slow
def test_an_adapter_draws_and_not_its_base(tiny: Path, rows: dict[str, Any], services: Any, run: Any) -> None:
    """ms-swift alone would take the base model without a word."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(tiny / "tiny")
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=64, target_modules=["o_proj", "down_proj"], init_lora_weights=False))
    model.save_pretrained(tiny / "adapter")
    saved = {"swift_version": "4.6.0", "model": str(tiny / "tiny"), "model_type": "qwen3", "template": "qwen3", "tuner_type": "lora"}
    (tiny / "adapter/args.json").write_text(json.dumps(saved), encoding="utf-8")
    services.mended = True
    flags = ["--num_return_sequences", "1", "--max_new_tokens", "8", "--temperature", "0"]
    base_run = {"PROFILE": "cpu", "DATASET": "rl.jsonl", "cwd": tiny, **services.settings}
    drawn = {}
    for name, settings in (("adapter", {"SFT_ADAPTER": "adapter"}), ("base", {"SFT_ADAPTER": "none", "MODEL": "tiny"})):
        run("sample_rag", *flags, *(MODEL if name == "base" else []), OUTPUT_DIR=name, **settings, **base_run)
        drawn[name] = by_question(lines(tiny / name / "draws.jsonl"))
    assert drawn["adapter"].keys() == drawn["base"].keys() == rows.keys()
    assert all(drawn["adapter"][query] != drawn["base"][query] for query in rows)
