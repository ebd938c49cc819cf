"""bench_remote.py: the arithmetic of its tables, the server it trusts, and a quick run of everything that needs no peer."""

import importlib.util
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
RAG, CHAT = "/api/chat/general_rag", "/v1/chat/completions"

pytestmark = pytest.mark.usefixtures("fresh")


def load(path):
    spec = importlib.util.spec_from_file_location(f"under_test_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench():
    return load(ROOT / "benchmarks/bench_remote.py")


@pytest.fixture(scope="module")
def server():
    return load(ROOT / "benchmarks/remote/server.py")


def result(wall, drawn, *, chat=0.0, window=1.0, cpu=0.5, done=1000, ideal=1.0, most=64):
    counted = {"rag_drawn": drawn, "chat_drawn": chat, "rag_calls": done, "chat_calls": 0, "window": window, "ideal": ideal}
    return {"wall": wall, "cpu": cpu, "done": done, "server": {**counted, "most_at_once": most, "late": 0.5, "cpu": 0.1}}


def tables(text):
    """Each table of a Markdown text as its rows of cells, the head first."""
    found = [[]]
    for line in text.splitlines():
        if line.startswith("| "):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif not line.startswith("|--") and found[-1]:
            found.append([])
    return [one for one in found if one]


def test_the_bound_is_what_was_drawn_over_the_concurrency(bench):
    assert bench.share(result(2.0, 64.0), 64) == 0.5
    assert bench.share(result(2.0, 32.0, chat=32.0), 32) == 1.0
    assert bench.share(result(9.0, 64.0, window=4.0), 64, starts_inside=True) == 0.25


def test_a_step_is_held_against_the_slower_service(bench):
    assert bench.step_ratio(1.45, {"rag_drawn": 12.8, "chat_drawn": 64.0}, (0.05, 0.2), 64) == pytest.approx(1.2)
    assert bench.step_ratio(2.25, {"rag_drawn": 128.0, "chat_drawn": 64.0}, (0.05, 0.2), 64) == pytest.approx(1.0)


def test_a_row_shows_median_and_range_and_cpu_of_a_call(bench):
    one = bench.Contender("x", "the client", calls=2000)
    several = [result(1.0, 48.0, cpu=0.9), result(1.0, 64.0, cpu=0.4), result(1.0, 32.0, cpu=0.5)]
    assert bench._row(one, [several, several[:1], []], quick=False) == [
        "the client",
        "2,000",
        "0.75 (0.50–1.00)",
        "0.50",
        "0.75",
        "0.90",
        "–",
        "–",
    ]


def test_the_ideal_is_of_those_that_ask_many_at_once_by_number_of_calls(bench):
    found = {
        ("a", 0.05): [{**result(9.0, 64.0, ideal=1.25), "calls": 2000}],
        ("b", 0.05): [{**result(9.0, 16.0, ideal=0.5), "calls": 500}],
        ("b", 0.2): [{**result(9.0, 64.0, ideal=2.0), "calls": 500}],
        ("swift", 0.05): [{**result(9.0, 64.0, ideal=64.0, most=1), "calls": 100}],
    }
    assert bench._ideal(found, [0.05, 0.2]) == [
        ["a client that costs nothing", "2,000", "0.80", "0", "–", "–"],
        ["a client that costs nothing", "500", "0.50", "0", "0.50", "0"],
    ]


def test_the_server_draws_the_same_from_the_same_seed_within_the_jitter(server):
    told = {"seed": "3", "rag": "0.05", "chat": "1", "jitter": "0.2", "concurrency": "2"}
    drawn = []
    for _ in range(2):
        service = server.Service()
        service.reset(told)
        drawn.append([service.enter(RAG, 1.0) for _ in range(100)] + [service.enter(CHAT, 1.0)])
    assert drawn[0] == drawn[1]
    assert all(0.04 <= one <= 0.06 for one in drawn[0][:100]) and 0.8 <= drawn[0][100] <= 1.2
    assert len(set(drawn[0])) == 101
    stats = service.stats()
    assert (stats["rag_calls"], stats["chat_calls"], stats["refused"], stats["most_at_once"]) == (100, 1, 0, 101)
    assert stats["rag_drawn"] == pytest.approx(sum(drawn[0][:100])) and stats["chat_drawn"] == drawn[0][100]


def test_the_ideal_client_fills_every_place_as_it_falls_free(server):
    service = server.Service()
    service.reset({"rag": "1", "chat": "4", "concurrency": "2"})
    for path in (RAG, RAG, RAG, CHAT):  # 0-1, 0-1, 1-2, 1-5
        service.enter(path, 0.0)
    assert service.stats()["ideal"] == 5.0


def test_no_second_holds_more_than_the_rate(server):
    service = server.Service()
    service.reset({"rate": "3"})
    moments = [0.0, 0.1, 0.2, 0.9, 1.05, 1.06, 1.15, 1.25]
    accepted = [service.enter(RAG, 10 + moment) is not None for moment in moments]
    assert accepted == [True, True, True, False, True, False, True, True]
    assert (service.stats()["refused"], service.stats()["rag_calls"]) == (2, 6)


def test_a_process_that_fails_says_why(bench, tmp_path):
    with bench.served() as (url, folder), pytest.raises(bench.ChildFailed, match="KeyError: 'nobody'"):
        bench.Bench(url, folder, None, quick=True).measure("contenders", "nobody", 1)


def test_an_environment_is_made_once_and_again_when_its_pins_change(bench, tmp_path, monkeypatch):
    commands = []

    def pretend(command, **_):
        commands.append(command[1:4])
        (tmp_path / "clients").mkdir(exist_ok=True)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(bench.subprocess, "run", pretend)
    for _ in range(2):
        assert bench.environment(tmp_path, "clients") == tmp_path / "clients/bin/python"
    assert commands == [["-m", "venv", "--clear"], ["-m", "pip", "install"]]
    monkeypatch.setitem(bench.PEERS, "clients", ["openai==0"])
    bench.environment(tmp_path, "clients")
    assert len(commands) == 4


def test_an_environment_that_cannot_be_made_is_one_line_and_no_half_of_it_counts(bench, tmp_path, monkeypatch, capsys):
    (tmp_path / "clients").mkdir()
    monkeypatch.setattr(bench.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    assert bench.main(["--part", "rate", "--quick", "--peers", str(tmp_path)]) == 2
    assert re.search(r"^error: .* failed: see above, or leave out --peers$", capsys.readouterr().err, re.MULTILINE)
    assert not (tmp_path / "clients/pins.txt").exists()


def test_every_contender_exists_and_its_environment_is_known(bench, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks/remote"))
    known = {one.__name__ for one in load(ROOT / "benchmarks/remote/contenders.py").CONTENDERS}
    assert {one.name for one in bench.CONTENDERS} == known
    assert {one.peer for one in bench.CONTENDERS} == {"", *bench.PEERS}


@pytest.mark.slow
@pytest.mark.release
def test_a_quick_run_measures_every_part_and_says_what_is_left_out(run):
    done = run("bench_remote", "--quick")
    assert done.code == 0, done.out + done.err
    calls, step, warm, memory, rate = tables(done.out)
    assert calls[0] == ["client", "calls", "5 ms: share of the bound", "CPU"]
    assert [row[0] for row in calls[1:]] == [
        "a client that costs nothing",
        "**ours, retrieval**",
        "**ours, chat**",
        "aiohttp 3.14, bare",
        "ms-swift 4.6 `swift sample` ¹ ²",
    ]
    for _, count, share, cpu in calls[2:]:
        assert count == "100" and 0 <= float(share) < 1 and float(cpu) > 0
    assert 0 < float(calls[1][2]) <= 1
    left_out = re.search(r"^Left out without --peers: (.*)\.$", done.out, re.MULTILINE)[1]
    assert [name.split()[0] for name in left_out.split(", ") if name[0].isalpha()].count("distilabel") == 2
    assert {"httpx", "openai", "litellm", "bespoke"} <= set(left_out.split())
    assert step[1][1] == "16, 16", "each completion takes one retrieval and one verdict"
    assert all(re.fullmatch(r"\d+\.\d\d \(\d+\.\d\d–\d+\.\d\d\)", cell) for cell in step[1][2:])
    assert warm[1][4] == "0", "a warm step asked the server"
    assert all(float(cell.replace(",", "")) > 0 for cell in warm[1][1:4])
    assert all(re.fullmatch(r"-?\d+\.\d MB", cell) for cell in memory[1][1:4])
    assert [row[:2] for row in rate[1:]] == [["**ours, OVERTAKE_RAG_RPM=3000**", "100 of 100"]]
    assert done.out.rstrip().endswith("cores."), "the lines after it name what was lost"


def test_only_the_part_and_the_client_asked_for_are_measured(run):
    done = run("bench_remote", "--quick", "--part", "calls", "--only", "aiohttp_bare")
    assert done.code == 0, done.out + done.err
    (calls,) = tables(done.out)
    assert [row[0] for row in calls[1:]] == ["a client that costs nothing", "aiohttp 3.14, bare"]
    assert "Left out" not in done.out
