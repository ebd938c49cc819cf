"""Requests drawn from the service's own OpenAPI, valid and not: none is answered with a 500."""

import schemathesis
from hypothesis import settings
from overtake.retrieval.corpus import Document
from overtake.retrieval.guard import Limits, add_guard
from overtake.retrieval.service import KnowledgeBase, create_app

BASES = {("health", "default"): KnowledgeBase.build([Document("a", "虾青素", "抗氧化，随餐吃")], {"显老": "虾青素"})}
schema = schemathesis.openapi.from_asgi("/openapi.json", add_guard(create_app(BASES), Limits()))


@schema.parametrize()
@settings(max_examples=100)
def test_no_request_breaks_the_service(case):
    answer = case.call()
    assert answer.status_code < 500
    assert answer.status_code == 200 or answer.json()["code"] == answer.status_code
