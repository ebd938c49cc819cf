"""Documents added, replaced and deleted while the index is searched; what a folder keeps when its process is killed."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from overtake.retrieval.corpus import Document
from overtake.retrieval.index import Index

SKIN, EYE = Document("skin", "胶原蛋白肽", "改善皮肤弹性"), Document("eye", "护眼片", "缓解视疲劳 lutein")


@pytest.fixture(params=["memory", "folder"])
def index(request, tmp_path):
    made = Index.build([SKIN, EYE], None if request.param == "memory" else tmp_path / "index")
    yield made
    made.close()


def ids(index, text):
    return [doc_id for doc_id, _ in index.search(text, 10)]


def test_a_document_added_is_found_once_change_returns(index):
    index.change([Document("sleep", "褪黑", "melatonin 助眠")])
    assert (ids(index, "褪黑"), ids(index, "Melatonin"), len(index)) == (["sleep"], ["sleep"], 3)


def test_a_document_replaced_is_found_by_its_new_words_only(index):
    index.change([Document("eye", "虾红", "抗氧化")])
    assert (ids(index, "护眼片"), ids(index, "lutein"), ids(index, "虾红"), len(index)) == ([], [], ["eye"], 2)


def test_a_document_deleted_is_gone_and_an_unknown_id_is_no_error(index):
    index.change(delete=["eye", "never"])
    assert (ids(index, "护眼片"), ids(index, "皮肤"), len(index)) == ([], ["skin"], 1)


def test_an_id_that_is_deleted_and_given_is_replaced_and_the_last_of_two_stays(index):
    index.change([Document("eye", "", "甲甲"), Document("eye", "", "虾红")], delete=["eye"])
    assert (ids(index, "虾红"), ids(index, "甲甲"), ids(index, "护眼片"), len(index)) == (["eye"], [], [], 2)


def test_a_change_that_fails_changes_nothing_and_the_next_one_works(index):
    def broken():
        yield Document("new", "", "虾红")
        raise RuntimeError("source")

    with pytest.raises(RuntimeError, match="source"):
        index.change(broken(), delete=["eye"])
    with pytest.raises(ValueError, match="unsupported"):
        index.change([Document("new", "", "虾红")], delete=[object()])
    index.change([Document("sleep", "", "褪黑")])
    assert (ids(index, "虾红"), ids(index, "护眼片"), ids(index, "褪黑")) == ([], ["eye"], ["sleep"])


def test_two_indexes_never_answer_with_each_others_documents(tmp_path):
    first, second = Index.build([SKIN], tmp_path / "a"), Index.build([EYE], tmp_path / "b")
    first.change([Document("secret", "", "机密 配方")])
    assert (ids(second, "机密 配方 皮肤"), ids(first, "护眼片")) == ([], [])
    first.close()


def test_searches_in_other_threads_see_a_whole_state_while_documents_change(index):
    # Both documents of a pair come in one change: no search may find one of them alone.
    halves, stop = [], threading.Event()

    def search():
        while not stop.is_set():
            if len(ids(index, "成对")) not in (0, 2):
                halves.append(1)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(30):
        if number % 2:
            index.change(delete=["p", "q"])
        else:
            index.change([Document("p", "", "成对"), Document("q", "", "成对")])
    stop.set()
    for thread in threads:
        thread.join()
    assert halves == []


WRITE = """
import sys
from pathlib import Path
from overtake.retrieval.corpus import Document
from overtake.retrieval.index import Index
index = Index.open(Path(sys.argv[1]))
for number in range(10_000):
    index.change([Document(f"n{number}", "", "批次"), Document(f"m{number}", "", "批次")], delete=[f"n{number - 5}", f"m{number - 5}"])
    print(number, flush=True)
"""


def test_what_was_acknowledged_outlives_kill_9_and_no_change_is_half_there(tmp_path):
    folder = tmp_path / "index"
    Index.build([SKIN], folder)
    start = 0
    for round_ in range(3):
        code = WRITE.replace("range(10_000)", f"range({start}, 10_000)")
        process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(7 + round_):
            last = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        last = max([last, *map(int, process.communicate()[0].split())])
        # A change may have been committed and not yet said.
        index = Index.open(folder)
        found = {number for number in range(last - 6, last + 3) for name in "nm" if f"{name}{number}" in dict(index.search("批次", 100))}
        pairs = sorted(ids(index, "批次"))
        assert found in ({*range(last - 4, last + 1)}, {*range(last - 3, last + 2)})
        assert pairs == sorted(f"{name}{number}" for number in found for name in "nm")
        assert ids(index, "皮肤") == ["skin"]
        start = max(found) + 1


def test_a_second_writer_is_refused_in_one_sentence_and_may_write_after_close(tmp_path):
    first = Index.build([SKIN], tmp_path / "index")
    second = Index.open(tmp_path / "index")
    first.change([EYE])
    with pytest.raises(ValueError, match="another process changes this index: end it first"):
        second.change([EYE])
    first.close()
    second.change(delete=["eye"])
    assert (len(second), ids(second, "护眼片")) == (1, [])
    second.close()
