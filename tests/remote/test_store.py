"""What is kept on disk: answers under a key of all that changes them, for all processes, within a size, whatever becomes of the file."""

import ast
import asyncio
import fcntl
import json
import os
import pickle
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from overtake import settings as ours
from overtake.remote import disk
from overtake.remote import store as module
from overtake.remote.chat import Endpoint, chat_call, chat_gateway, endpoint
from overtake.remote.disk import DiskStore
from overtake.remote.gateway import Call, Ok
from overtake.remote.rag import rag_call, rag_gateway
from overtake.remote.store import store

from .conftest import said

MB = 2**20


def name(number):
    """A key, as long as a real one."""
    return f"{number:064x}"


def answer(number, size=200):
    return {"text": f"{number} ".ljust(size, "答")}


def keep(into, answers):
    """Keep some answers, as the gateway's loop does."""

    async def put():
        for key, value in answers.items():
            into.put(key, value)
        await asyncio.sleep(0)

    asyncio.run(put())


def note(into, *rows):
    async def put():
        for row in rows:
            into.note(row)
        await asyncio.sleep(0)

    asyncio.run(put())


@pytest.fixture
def opened(tmp_path):
    """opened(most_bytes) -> a store in tmp_path, closed at the end."""
    stores = []

    def opened(most_bytes=64 * MB):
        stores.append(DiskStore(tmp_path, most_bytes))
        return stores[-1]

    yield opened
    for one in stores:
        one.close()


# ---------------------------------------------------------------- the key

texts = st.text(st.characters(categories=None), max_size=8)  # lone surrogates, too
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts, st.lists, max_leaves=6
)
identities = st.dictionaries(texts, values | st.dictionaries(texts, values, max_size=3), max_size=4)


@given(identities, identities)
def test_calls_share_a_key_if_and_only_if_their_identities_are_equal(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (Call(one, None).key == Call(other, None).key) == same
    assert Call(one, None).key == Call(json.loads(json.dumps(one)), None).key


@given(identities, st.randoms(use_true_random=False))
def test_the_order_of_an_identity_does_not_matter_and_each_of_its_values_does(identity, random):
    key = Call(identity, None).key
    shuffled = list(identity.items())
    random.shuffle(shuffled)
    assert Call(dict(shuffled), None).key == key
    for changed in identity:
        assert Call(identity | {changed: [identity[changed]]}, None).key != key
        assert Call({name: value for name, value in identity.items() if name != changed}, None).key != key


CHAT = {"base_url": "http://t/v1", "model": "m", "text": "问", "limit": 100, "temperature": 0.3, "form": ""}
chat_others = {
    "base_url": texts,
    "model": texts,
    "text": texts,
    "limit": st.integers(1, 9999),
    "temperature": st.floats(0, 2),
    "form": texts,
}


def chat_key(base_url, model, text, limit, temperature, form, key=""):
    messages = [{"role": "user", "content": text}]
    return chat_call(Endpoint("teacher", base_url, model, key), messages, limit, temperature, form=form).key


@given(st.fixed_dictionaries({}, optional=chat_others))
def test_a_chat_calls_key_changes_with_all_that_changes_its_answer_and_not_with_the_api_key(changes):
    changed = CHAT | changes
    assert (chat_key(**changed) == chat_key(**CHAT)) == (changed == CHAT)
    assert chat_key(**changed, key="one") == chat_key(**changed, key="another")


RAG = {"query": "问", "rewrite": "改", "tenant_id": "t", "kb_name": "default", "top_k": 5, "labelled": False}


@pytest.mark.parametrize(
    "change", [*({name: "别"} for name in ("query", "rewrite", "tenant_id", "kb_name")), {"top_k": 6}, {"labelled": True}]
)
def test_a_retrievals_key_changes_with_all_that_changes_its_answer(service, change):
    assert rag_call(**RAG).key == rag_call(**dict(reversed(RAG.items()))).key
    assert rag_call(**RAG | change).key != rag_call(**RAG).key


@pytest.mark.parametrize(
    ("setting", "value"), [("KB_VERSION", "2"), ("RAG_TOP_K", "9"), ("RAG_SCORE_THRESHOLD", "0.4"), ("RAG_URL", "http://r")]
)
def test_a_retrievals_key_changes_with_the_settings(service, monkeypatch, setting, value):
    asked = {name: value for name, value in RAG.items() if name != "top_k"}
    before = rag_call(**asked).key
    monkeypatch.setenv(f"OVERTAKE_{setting}", value)
    ours.load.cache_clear()
    assert rag_call(**asked).key != before


def test_half_a_surrogate_pair_is_asked_about_and_its_answer_kept(service):
    call = chat_call(endpoint("teacher"), [{"role": "user", "content": "\ud83d半"}], 10)
    for cached in (False, True):
        (result,) = chat_gateway("teacher").run([call])
        assert isinstance(result, Ok) and (result.value["text"], result.cached) == ("好", cached)


# ---------------------------------------------------------------- kept, for all processes

WRITER = """
import asyncio, sys
from pathlib import Path
from overtake.remote.disk import DiskStore as Store

async def write():
    kept = Store(Path(sys.argv[1]), 2**30)
    for number in range(300):
        kept.put(f"{sys.argv[2]}-{number}", {"text": sys.argv[2] * 300})
        kept.note({"of": sys.argv[2], "number": number, "reason": "长" * 200})
        kept.spend("r", 0.5)
        await asyncio.sleep(0)
    kept.close()

asyncio.run(write())
"""


def test_two_processes_that_write_at_once_lose_nothing(opened, tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, name], stderr=subprocess.PIPE, text=True) for name in "ab"]
    assert [writer.communicate(timeout=120)[1] for writer in writers] == ["", ""]
    keys = [f"{name}-{number}" for name in "ab" for number in range(300)]
    kept = opened()
    assert kept.get(keys) == {key: {"text": key[0] * 300} for key in keys}
    assert kept.spend("r", 0.0) == 300.0
    rows = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text("utf-8").splitlines()]
    assert sorted((row["of"], row["number"]) for row in rows) == [(name, number) for name in "ab" for number in range(300)]


def test_an_answer_is_on_disk_before_another_request_takes_its_place(service, monkeypatch, tmp_path):
    monkeypatch.setenv("OVERTAKE_TEACHER_CONCURRENCY", "1")
    ours.load.cache_clear()
    on_disk = []

    def look(body):
        database = sqlite3.connect(tmp_path / "answers.sqlite")
        (answers,) = database.execute("SELECT count(*) FROM answers").fetchone()
        database.close()
        on_disk.append((answers, len((tmp_path / "ledger.jsonl").read_text("utf-8").splitlines())))
        return said()

    service.answer = look
    to = endpoint("teacher")
    chat_gateway("teacher").run([chat_call(to, [{"role": "user", "content": str(number)}], 10) for number in range(4)])
    assert on_disk == [(number, number) for number in range(4)]


# ---------------------------------------------------------------- within a size


def test_the_file_stays_near_its_bound_and_the_oldest_answers_go_first(opened, tmp_path):
    kept = opened(MB)
    for number in range(0, 4000, 10):
        keep(kept, {name(later): answer(later) for later in range(number, number + 10)})
        assert (tmp_path / "answers.sqlite").stat().st_size < 1.2 * MB
    found = [number for number in range(4000) if kept.get([name(number)])]
    assert found == list(range(found[0], 4000)), "all after the oldest that is left"
    assert len(found) * len(json.dumps(answer(0), ensure_ascii=False).encode()) > 0.5 * MB


def test_many_processes_that_keep_little_stay_within_the_bound_too(opened, tmp_path):
    for number in range(100):
        one = DiskStore(tmp_path, MB)
        keep(one, {name(1000 * number + part): answer(part, 600) for part in range(20)})
        one.close()
    assert (tmp_path / "answers.sqlite").stat().st_size < 1.2 * MB
    assert opened().get([name(99_000)])


def test_large_answers_count_by_their_size(opened, tmp_path):
    kept = opened(4 * MB)
    for number in range(60):
        keep(kept, {name(number): answer(number, 100_000)})
    assert (tmp_path / "answers.sqlite").stat().st_size < 6 * MB
    assert len(kept.get([name(number) for number in range(60)])) >= 10
    assert kept.get([name(59)])


def test_an_answer_that_is_kept_again_is_a_new_one(opened):
    kept = opened(MB)
    for number in range(0, 3000, 10):
        keep(kept, {name(later): answer(later) for later in range(number, number + 10)} | {"again": {"text": str(number)}})
    assert kept.get(["again"]) == {"again": {"text": "2990"}}
    assert not kept.get([name(0)])


def test_a_bound_that_was_lowered_is_reached_again(opened, tmp_path):
    keep(opened(64 * MB), {name(number): answer(number) for number in range(8000)})
    size = (tmp_path / "answers.sqlite").stat().st_size
    assert size > 4 * MB
    kept = opened(MB)
    for number in range(8000, 11_000, 10):
        keep(kept, {name(later): answer(later) for later in range(number, number + 10)})
    kept._database.execute("PRAGMA wal_checkpoint").fetchall()
    assert (tmp_path / "answers.sqlite").stat().st_size < size / 2


# ---------------------------------------------------------------- whatever becomes of the file


def whole(folder):
    """The bytes of a sound file with 500 answers."""
    one = DiskStore(folder, 64 * MB)
    keep(one, {name(number): answer(number) for number in range(500)})
    one.close()
    return (folder / "answers.sqlite").read_bytes()


def foreign(journal):
    """A function that makes the bytes of another program's SQLite file."""

    def make(folder):
        database = sqlite3.connect(folder / "theirs.sqlite")
        database.executescript(
            f"PRAGMA journal_mode = {journal}; CREATE TABLE answers (key, value); INSERT INTO answers VALUES ('k', 'theirs')"
        )
        database.close()
        return (folder / "theirs.sqlite").read_bytes()

    return make


def overwritten(place, value):
    def make(folder):
        data = bytearray(whole(folder))
        data[place : place + len(value)] = value
        return bytes(data)

    return make


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda folder: random.Random(1).randbytes(10_000), id="random bytes"),
        pytest.param(lambda folder: b"key,answer\n" * 1000, id="a text"),
        pytest.param(lambda folder: whole(folder)[: 10 * 4096], id="cut at a page"),
        pytest.param(lambda folder: whole(folder)[:30_001], id="cut within a page"),
        pytest.param(lambda folder: whole(folder)[:60], id="cut within its header"),
        pytest.param(overwritten(47, b"\xff"), id="a format of the future"),
        pytest.param(overwritten(100, bytes(4000)), id="a first page of zeros"),
        pytest.param(overwritten(60, b"\0\0\0\x63"), id="another version of ours"),
        pytest.param(foreign("DELETE"), id="another program's"),
        pytest.param(foreign("WAL"), id="another program's, with a log"),
    ],
)
def test_a_file_that_is_not_ours_costs_a_warning_and_is_moved_aside_whole(tmp_path, caplog, make):
    (tmp_path / "made").mkdir()
    folder = tmp_path / "cache"
    folder.mkdir()
    data = make(tmp_path / "made")
    (folder / "answers.sqlite").write_bytes(data)
    kept = DiskStore(folder, 64 * MB)
    keep(kept, {"new": {"text": "好"}})
    kept.get([name(number) for number in range(500)])  # where the damage shows only now
    keep(kept, {"newer": {"text": "好"}})
    assert kept.get(["newer"]) == {"newer": {"text": "好"}}
    assert kept.spend("r", 1.5) == 1.5
    kept.close()
    (aside,) = folder.glob("answers.sqlite.unreadable-*[0-9]")
    assert f"{folder / 'answers.sqlite'}" in caplog.text and aside.name in caplog.text
    if not caplog.text.count("is broken"):
        assert aside.read_bytes() == data
    again = DiskStore(folder, 64 * MB)
    assert again.get(["newer"]) == {"newer": {"text": "好"}}
    again.close()


@pytest.mark.parametrize("data", [b"", None])
def test_an_empty_file_is_no_file(opened, tmp_path, caplog, data):
    if data is not None:
        (tmp_path / "answers.sqlite").write_bytes(data)
    keep(opened(), {"k": {"text": "好"}})
    assert opened().get(["k"]) == {"k": {"text": "好"}}
    assert caplog.text == ""


def test_what_another_program_has_only_in_its_log_is_moved_with_its_file(opened, tmp_path):
    theirs = sqlite3.connect(tmp_path / "answers.sqlite", isolation_level=None)
    theirs.executescript("PRAGMA journal_mode = WAL; CREATE TABLE notes (text)")
    theirs.execute("INSERT INTO notes VALUES ('only in the log')")
    keep(opened(), {"k": {"text": "好"}})
    theirs.execute("INSERT INTO notes VALUES ('and later')")
    theirs.close()
    (aside,) = tmp_path.glob("answers.sqlite.unreadable-*[0-9]")
    assert sqlite3.connect(aside).execute("SELECT text FROM notes").fetchall() == [("only in the log",), ("and later",)]
    assert opened().get(["k"]) == {"k": {"text": "好"}}


def damage(path):
    """Overwrite most of an open file's pages with noise."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4 * 4096)
        file.write(random.Random(2).randbytes(size - 8 * 4096))


def test_pages_that_are_overwritten_while_the_file_is_open_cost_a_warning_and_the_answers_in_it(opened, tmp_path, caplog):
    keys = [name(number) for number in range(3000)]
    keep(opened(), {key: answer(0) for key in keys})
    sqlite3.connect(tmp_path / "answers.sqlite").execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    first, second = opened(), opened()
    damage(tmp_path / "answers.sqlite")
    found = first.get(keys)
    assert all(value == answer(0) for value in found.values()) and len(found) < 3000
    assert "is broken" in caplog.text and str(tmp_path / "answers.sqlite") in caplog.text
    keep(first, {"after": {"text": "好"}})
    # The other one meets the damage later, and finds the new file.
    second.get(keys)
    assert second.get(["after"]) == {"after": {"text": "好"}}
    assert len(list(tmp_path.glob("answers.sqlite.unreadable-*[0-9]"))) == 1
    keep(second, {"last": {"text": "好"}})
    assert first.get(["last"]) == {"last": {"text": "好"}}


def test_an_answer_that_meets_the_damage_is_kept_in_the_new_file(opened, tmp_path):
    keep(opened(), {name(number): answer(0) for number in range(3000)})
    sqlite3.connect(tmp_path / "answers.sqlite").execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    kept = opened()
    damage(tmp_path / "answers.sqlite")

    async def put():
        kept.put("met", {"text": "好"})
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(put())
    assert list(tmp_path.glob("answers.sqlite.unreadable-*[0-9]"))
    assert opened().get(["met"]) == {"met": {"text": "好"}}


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("value", [b"", b"{", b"\xff\xfe", b"[1]", b"5", b"null", b"[" * 100_000, 7, "pickle"])
def test_an_unreadable_answer_is_a_miss_and_is_asked_for_again(opened, tmp_path, caplog, value):
    kept = opened()
    if value == "pickle":
        value = pickle.dumps(Bomb(tmp_path / "made by a bomb"))
    kept._database.execute("INSERT INTO answers VALUES ('k', ?)", (value,))
    assert kept.get(["k"]) == {}
    assert "the kept answer k is unreadable" in caplog.text
    assert not (tmp_path / "made by a bomb").exists()
    keep(kept, {"k": {"text": "好"}})
    assert kept.get(["k"]) == {"k": {"text": "好"}}


def test_nothing_here_reads_or_writes_pickles():
    for path in Path(module.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "diskcache"} & set(names), path


# ---------------------------------------------------------------- locked, full, not writable


@pytest.fixture
def impatient(monkeypatch):
    """Nobody waits for long, nor rests before another try."""
    monkeypatch.setattr(disk, "_BUSY_SECONDS", 0.1)
    monkeypatch.setattr(disk, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(disk, "_TROUBLED_SECONDS", 0.005)
    monkeypatch.setattr(module, "_LAST_SECONDS", 0.3)


HELD = "answers wait in memory, at most 64 MB, and are kept when it is possible again"


def test_what_a_lock_keeps_out_is_held_in_memory_and_written_after_it(opened, tmp_path, impatient, caplog):
    kept = opened()
    other = sqlite3.connect(tmp_path / "answers.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for number in range(20):
        keep(kept, {name(number): {"text": "好"}})

    async def spend():
        return kept.spend("r", 1.0), kept.quiet_from("r", 3)

    assert asyncio.run(spend()) == (None, None)
    assert kept.get([name(0)]) == {name(0): {"text": "好"}}, "what is in memory is no less an answer"
    assert caplog.text.count(HELD) == 1 and "database is locked" in caplog.text
    assert other.execute("SELECT count(*) FROM answers").fetchone() == (0,)
    other.execute("ROLLBACK")
    keep(kept, {"later": {"text": "好"}})
    assert len(opened().get([*map(name, range(20)), "later"])) == 21
    assert opened().spend("r", 0.0) == 1.0, "and so is money"
    assert "can be written again: 21 answers" in caplog.text
    assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert not list(tmp_path.glob("*unreadable*"))


@pytest.mark.parametrize("by", ["one that opens", "one that writes"])
def test_a_file_that_is_locked_at_the_start_is_opened_when_it_is_free(tmp_path, impatient, caplog, by):
    DiskStore(tmp_path, MB).close()
    if by == "one that opens":
        lock = os.open(tmp_path / "ledger.jsonl", os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        free = lambda: os.close(lock)  # noqa: E731
    else:
        lock = sqlite3.connect(tmp_path / "answers.sqlite", isolation_level=None)
        lock.execute("PRAGMA locking_mode = EXCLUSIVE")
        lock.execute("BEGIN EXCLUSIVE")
        free = lock.close
    kept = DiskStore(tmp_path, MB)
    keep(kept, {"k": {"text": "好"}})
    note(kept, {"of": "this"})
    assert kept.get(["k"]) == {"k": {"text": "好"}}
    assert HELD in caplog.text and str(tmp_path / "answers.sqlite") in caplog.text
    assert "this" in (tmp_path / "ledger.jsonl").read_text("utf-8")
    free()
    kept.close()
    again = DiskStore(tmp_path, MB)
    assert again.get(["k"]) == {"k": {"text": "好"}}
    again.close()
    assert not list(tmp_path.glob("*unreadable*"))


def test_a_child_forked_while_the_file_is_opened_keeps_no_lock_on_it(tmp_path, impatient):
    with disk._alone(tmp_path / "ledger.jsonl"):
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
    try:
        with disk._alone(tmp_path / "ledger.jsonl"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_full_disk_costs_neither_the_run_nor_the_answers(opened, impatient, caplog):
    kept = opened()
    (pages,) = kept._database.execute("PRAGMA page_count").fetchone()
    kept._database.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(5):
        keep(kept, {name(number): answer(number, 20_000)})
    assert caplog.text.count(HELD) == 1 and "full" in caplog.text
    assert opened().get([name(0)]) == {}
    kept._database.execute("PRAGMA max_page_count = 1000000")
    kept.close()
    assert len(opened().get([name(number) for number in range(5)])) == 5, "written at the end too"


def test_memory_that_is_full_gives_up_the_oldest_answers_and_says_so_once(opened, tmp_path, impatient, monkeypatch, caplog):
    monkeypatch.setattr(module, "HELD_BYTES", 100_000)
    kept = opened()
    other = sqlite3.connect(tmp_path / "answers.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for number in range(20):
        keep(kept, {name(number): answer(number, 20_000 // 3)})
    found = [number for number in range(20) if kept.get([name(number)])]
    assert found == list(range(found[0], 20)) and 4 <= len(found) <= 5
    assert caplog.text.count("the oldest are given up") == 1
    other.execute("ROLLBACK")


ENDING = """
import asyncio, sys
from pathlib import Path
from overtake.remote.process import client, loop
from overtake.remote.disk import DiskStore as Store

async def keep():
    kept = client("store", lambda: Store(Path(sys.argv[1]), 2**30))
    for number in range(30):
        kept.put(f"answer {number}", {"text": "好"})
        await asyncio.sleep(0)
    print("put", flush=True)

asyncio.run_coroutine_threadsafe(keep(), loop()).result()
"""


def test_a_process_that_ends_waits_for_the_lock_on_what_it_paid_for(opened, tmp_path):
    opened()
    other = sqlite3.connect(tmp_path / "answers.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    program = ENDING.replace("from overtake", "from overtake.remote import disk\ndisk._BUSY_SECONDS = 0.1\nfrom overtake", 1)
    ended = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert ended.stdout.readline() == "put\n"
    while "30 answers are not in" not in ended.stderr.readline():
        assert ended.poll() is None
    other.execute("ROLLBACK")
    assert "can be written again: 30 answers" in ended.communicate(timeout=60)[1] and ended.returncode == 0
    assert len(opened().get([f"answer {number}" for number in range(30)])) == 30


def test_a_commit_that_fails_leaves_no_lock(opened, impatient, monkeypatch):
    kept = opened()
    real = kept._database

    class Failing:
        """Refuses the first COMMIT, as a full disk does."""

        refused = False

        def __getattr__(self, attribute):
            return getattr(real, attribute)

        def execute(self, words, *values):
            if words == "COMMIT" and not self.refused:
                self.refused = True
                raise sqlite3.OperationalError("database or disk is full")
            return real.execute(words, *values)

    monkeypatch.setattr(kept, "_database", Failing())
    keep(kept, {"one": {"text": "好"}})
    assert not real.in_transaction
    keep(opened(), {"other": {"text": "好"}})
    keep(kept, {"two": {"text": "好"}})
    assert set(opened().get(["one", "two", "other"])) == {"one", "two", "other"}


def test_a_ledger_that_cannot_be_written_costs_one_warning(tmp_path, caplog):
    (tmp_path / "ledger.jsonl").symlink_to("/dev/full")
    kept = DiskStore(tmp_path, MB)
    for _ in range(3):
        note(kept, {"status": "ok"})
    keep(kept, {"k": {"text": "好"}})
    assert kept.get(["k"]) == {"k": {"text": "好"}}
    kept.close()
    assert caplog.text.count("the ledger in") == 1 and "No space left" in caplog.text


def test_a_row_that_was_cut_by_a_full_disk_spoils_no_other_row(opened, tmp_path, monkeypatch, caplog):
    kept, real = opened(), os.write

    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, data: real(file, data[:20]) if file == kept._ledger else real(file, data))
        note(kept, {"number": 1})
    note(kept, {"number": 2})
    cut, first, second = (tmp_path / "ledger.jsonl").read_text("utf-8").splitlines()
    assert len(cut) == 20 and [json.loads(row)["number"] for row in (first, second)] == [1, 2]
    assert "no space is left" in caplog.text


@pytest.mark.parametrize(
    "what", ["a directory in the file's place", "a file in the folder's place", "no permission", "a directory for a ledger"]
)
def test_a_folder_that_cannot_be_used_is_an_error_before_anything_is_asked(service, monkeypatch, tmp_path, what):
    folder = tmp_path / "cache"
    if what == "a directory in the file's place":
        (folder / "answers.sqlite").mkdir(parents=True)
    elif what == "a directory for a ledger":
        (folder / "ledger.jsonl").mkdir(parents=True)
    elif what == "a file in the folder's place":
        folder.write_text("mine")
    else:
        folder = Path("/proc/overtake")  # refused to root, too
    monkeypatch.setenv("OVERTAKE_CACHE_DIR", str(folder))
    ours.load.cache_clear()
    with pytest.raises(
        ours.SettingsError, match=f"OVERTAKE_CACHE_DIR={folder}: answers cannot be kept there .*: make room or name another"
    ):
        chat_gateway("teacher").run([chat_call(endpoint("teacher"), [{"role": "user", "content": "问"}], 10)])
    assert service.limits == []


def test_a_process_has_one_store(service):
    async def twice():
        return store() is store()

    assert isinstance(rag_gateway().run([rag_call("问", "改", "t")])[0], Ok)
    assert asyncio.run(twice())


def test_files_made_before_there_were_claims_are_still_ours(tmp_path):
    DiskStore(tmp_path, 2**20).close()
    database = sqlite3.connect(tmp_path / "answers.sqlite")
    database.executescript("DROP TABLE claims; DROP TABLE accounts; INSERT INTO answers VALUES ('old', '{\"text\": \"旧\"}')")
    database.close()
    again = DiskStore(tmp_path, 2**20)
    assert again.get(["old"]) == {"old": {"text": "旧"}} and not list(tmp_path.glob("*unreadable*"))
    again.close()


# ---------------------------------------------------------------- for its owner's eyes


def test_what_users_ask_lies_in_files_that_their_owner_alone_may_read(service, tmp_path):
    before = os.umask(0)
    try:
        (tmp_path / "ledger.jsonl").touch(0o644)  # as it was made before
        chat_gateway("teacher").run([chat_call(endpoint("teacher"), [{"role": "user", "content": "问"}], 10)])
        rag_gateway().run([rag_call("问", "改", "t")])
        files = [path for path in tmp_path.iterdir() if path.is_file()]
        assert {"answers.sqlite", "answers.sqlite-wal", "ledger.jsonl", "owners.lock"} <= {path.name for path in files}
        assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in files} == {path.name: "0o600" for path in files}
    finally:
        os.umask(before)


def test_a_device_that_stands_for_the_ledger_keeps_its_permissions(tmp_path):
    mode = Path("/dev/null").stat().st_mode
    (tmp_path / "ledger.jsonl").symlink_to("/dev/null")
    DiskStore(tmp_path, 2**20).close()
    assert Path("/dev/null").stat().st_mode == mode
