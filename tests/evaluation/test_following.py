"""The page of a run that trains: served here alone, renewed as the log grows, with the last samples; it ends with the run."""

import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from overtake import tasks
from overtake.data.tables import BadInput
from overtake.evaluation import following
from overtake.launch import machine

KNOWN = list(tasks.known().values())


def sample(step: int, words: str, **parts: float | None) -> str:
    return json.dumps(
        {"step": step, "completion": words, "rewards": {"Right": 1.0}, "parts": parts, "total": None if None in parts.values() else 0.5}
    )


def test_the_last_samples_come_with_the_parts_of_their_reward_and_a_half_line_waits(tmp_path: Path) -> None:
    assert following.last_samples(tmp_path) == []
    lines = [json.dumps({"run": "now", "reward_weights": {}}), sample(1, "first", win=0.1), sample(2, "<b>second</b>", win=None)]
    (tmp_path / "trace.jsonl").write_text("\n".join(lines) + "\n" + sample(3, "half")[:20], encoding="utf-8")
    newest, oldest = following.last_samples(tmp_path)
    assert newest == {"step": 2, "completion": "<b>second</b>", "parts": {"Right": 1.0, "win": None}, "total": None}
    assert (oldest["step"], oldest["parts"]["win"], oldest["total"]) == (1, 0.1, 0.5)
    (tmp_path / "trace.jsonl").write_text("".join(f"{sample(step, 'x' * 1000)}\n" for step in range(600)), encoding="utf-8")
    assert [row["step"] for row in following.last_samples(tmp_path)] == [599, 598, 597, 596], "of a long trace its end alone is read"


@pytest.mark.parametrize(
    ("rows", "over"),
    [
        ([{"reward": 1}], False),
        ([{"reward": 1}, {"train_runtime": 3.0}], True),
        ([{"reward": 1}, {"train_runtime": 3.0}, {"model_parameter_info": "x"}], True),
        ([{"train_runtime": 3.0}, {"reward": 1}, {"reward": 2}], False),  # gone on with in the same folder
    ],
)
def test_a_run_has_ended_when_its_summary_is_logged(rows: list[dict[str, Any]], over: bool, tmp_path: Path) -> None:
    assert following.ended(tmp_path) is False
    (tmp_path / "logging.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert following.ended(tmp_path) is over


def test_the_page_is_renewed_until_the_run_ends_and_is_then_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(following, "RENEW", 0.2)
    monkeypatch.setenv("OVERTAKE_BUDGET_HARD", "20")
    run, out = tmp_path / "grpo", tmp_path / "report.html"
    run.mkdir()
    status: list[int] = []
    port = machine.free_port()
    address = f"http://127.0.0.1:{port}/"
    threading.Thread(target=lambda: status.append(following.follow(out, [f"GRPO={run}"], None, KNOWN, port)), daemon=True).start()

    def get(path: str = "", host: str = "") -> str:
        request = urllib.request.Request(address + path, headers={"Host": host} if host else {})
        return urllib.request.urlopen(request, timeout=5).read().decode()

    def log(*rows: dict[str, Any]) -> None:
        with (run / "logging.jsonl").open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    def wait_for(words: str) -> str:
        page = ""
        while words not in page:
            with contextlib.suppress(ConnectionRefusedError, urllib.error.URLError):
                page = get()
        return page

    wait_for("No run has logged two steps yet")
    (run / "trace.jsonl").write_text(f"{sample(2, '<script>', win=0.25)}\n", encoding="utf-8")
    log(*({"reward": 0.1 * step, "global_step/max_steps": f"{step}/3", "cost/usd_total": 1.5} for step in (1, 2)))
    page = wait_for("win +0.25")
    assert 'http-equiv="refresh"' in page and "1.50 / 20.00 USD" in page
    assert "&lt;script&gt;" in page and "2/3 steps" in page and "total</span>" in page
    for path, host, code in (("x", "", 404), ("", "evil.example", 403)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(path, host)
        assert refused.value.code == code
    log({"reward": 0.3, "global_step/max_steps": "3/3"}, {"train_runtime": 9.0, "global_step/max_steps": "3/3"})
    while not status:
        time.sleep(0.05)
    assert capsys.readouterr().out.startswith(f"{address} is renewed every 0.2 s and ends with the run\n")
    assert status == [0] and "3/3 steps" in out.read_text("utf-8") and 'http-equiv="refresh"' not in out.read_text("utf-8")
    with pytest.raises(OSError, match="refused"):
        get()


def test_a_folder_that_is_not_there_is_one_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--run GRPO=.*nowhere: no such folder: give the output folder"):
        following.follow(tmp_path / "report.html", [f"GRPO={tmp_path / 'nowhere'}"], None, KNOWN)
