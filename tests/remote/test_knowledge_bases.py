"""What a recall list is kept for: the state of the knowledge base that its service names, or an hour where an empty one names none."""

import time

import pytest
from overtake import settings
from overtake.remote import process, rag
from overtake.remote import store as module
from overtake.remote.gateway import Failed, Ok
from overtake.remote.rag import hits, rag_call, rag_gateway


def found(*names, state="", **others):
    data = {"recall": [{"doc_id": name, "reranker_score": 0.5} for name in names]} | ({"kb_version": state} if state else {})
    return {"code": 0, "data": data, **others}


def ask(*texts, tenant="t", labelled=False):
    """(names found, whether they were kept) for each text; None for a call that failed."""
    results = rag_gateway().run([rag_call("问", text, tenant, labelled=labelled) for text in texts])
    return [([hit.doc_id for hit in hits(result.value)], result.cached) if isinstance(result, Ok) else None for result in results]


def start_again():
    process.forget()
    settings.load.cache_clear()


def test_an_empty_list_is_no_more_believed_when_documents_have_come(service):
    service.recall = found(state="one")
    assert ask("改") == [([], False)]
    assert ask("改") == [([], True)], "the same state, the same answer"
    service.recall = found("d1", state="two")
    assert ask("别") == [(["d1"], False)], "an answer that names another state"
    assert ask("改") == [(["d1"], False)]
    assert ask("改", "别") == [(["d1"], True), (["d1"], True)]


def test_a_process_that_starts_looks_once_whether_the_state_is_still_the_same(service):
    service.recall = found("d1", state="one")
    ask(*"甲乙丙丁")
    start_again()
    assert [cached for _, cached in ask(*"甲乙丙丁")] == [False, True, True, True]
    assert service.recalls == 5
    start_again()
    service.recall = found("d2", state="two")
    assert ask(*"甲乙丙丁") == [(["d2"], False)] * 4


def test_a_state_that_comes_back_finds_what_was_kept_for_it(service):
    for state, kept in (("one", False), ("two", False), ("one", True), ("two", True)):
        service.recall = found(state, state=state)
        ask(f"看看 {state} {service.recalls}")
        assert ask("改") == [([state], kept)]


def test_each_knowledge_base_has_a_state_of_its_own(service):
    service.recall = found("d1", state="one")
    ask("改", tenant="a"), ask("改", tenant="b")
    service.recall = found("d2", state="two")
    ask("别", tenant="a")
    assert ask("改", tenant="b") == [(["d1"], True)] and ask("改", tenant="a") == [(["d2"], False)]


def test_while_the_service_is_down_what_was_measured_before_holds(service, monkeypatch):
    service.recall = found("d1", state="one")
    ask(*"甲乙")
    start_again()
    service.recall = {"success": False, "data": {"recall": []}}
    assert ask(*"甲乙丙") == [(["d1"], True), (["d1"], True), None]


def test_a_service_that_names_no_state_is_asked_no_more_for_what_it_found_and_for_nothing_after_an_hour(service, monkeypatch):
    service.recall = found("d1")
    ask("改")
    service.recall = found()
    assert ask("空") == [([], False)]
    start_again()
    assert ask("改", "空") == [(["d1"], True), ([], True)] and service.recalls == 2
    service.recall = found("d2")
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + rag._EMPTY_SECONDS + 1)
    assert ask("改", "空") == [(["d1"], True), (["d2"], False)]


def test_a_state_that_the_user_names_keeps_empty_lists_too(service, monkeypatch):
    monkeypatch.setenv("OVERTAKE_KB_VERSION", "mine")
    settings.load.cache_clear()
    service.recall = found()
    ask("空")
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + rag._EMPTY_SECONDS + 1)
    assert ask("空") == [([], True)]


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize("item", [{}, {"doc_id": None}, {"doc_id": ""}, {"doc_id": " "}, {"doc_id": ["d1"]}, {"id": None}])
def test_a_document_without_a_name_fails_the_call_of_a_row_with_labels_and_no_other(service, item):
    service.recall = {"data": {"recall": [{"doc_id": "d1", "reranker_score": 0.9}, {**item, "reranker_score": 0.5}]}}
    (failed,) = rag_gateway().run([rag_call("问", "改", "t", labelled=True)])
    assert isinstance(failed, Failed) and failed.kind == "malformed"
    assert "holds no doc_id, by which a row with gold labels is measured" in failed.reason
    assert ask("改") == [(["d1", None], False)]
    service.recall = found("d1", "d2")
    assert ask("改", labelled=True) == [(["d1", "d2"], False)], "nothing of it was kept"


def test_a_number_is_a_name_and_so_is_an_id(service):
    service.recall = {"data": {"recall": [{"doc_id": 7, "reranker_score": 0.9}, {"doc_id": None, "id": "d2", "reranker_score": 0.5}]}}
    assert ask("改", labelled=True) == [(["7", "d2"], False)]
