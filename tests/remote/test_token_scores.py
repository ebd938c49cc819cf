"""A served teacher is asked token by token; what it tells of other tokens than those meant is refused, what it does not tell is said."""

import pytest
from overtake.remote import token_scores
from overtake.remote.faults import Fault, Unusable
from overtake.remote.token_scores import Server, Shown

IDS = [5, 6, 7, 8]


def told(ids, **more):
    """vLLM's answer: of each token but the first its own log-probability."""
    places = [{str(at): {"logprob": -at / 10, "rank": 3, "decoded_token": f"t{at}"}} for at in ids]
    return {"choices": [{"text": "x", "prompt_logprobs": [None, *places[1:]], **more}]}


def vllm(body):
    return 200, told(body["prompt"])


@pytest.fixture
def server(serve):
    """server(answer, swift=False) -> a Server whose requests are answered by `answer`."""

    def server(answer, swift=False):
        made = serve(answer)
        return Server(made.url, "t", swift), made.requests

    return server


def test_the_scored_tokens_alone_are_read():
    assert token_scores.read(told(IDS), Shown(IDS, [2, 3])) == [-0.7, -0.8]


def test_swifts_own_form_is_read_too():
    answer = {"choices": [{}], "prompt_logprobs": told([*IDS, 9])["choices"][0]["prompt_logprobs"]}
    assert token_scores.read([answer], Shown(IDS, [2, 3])) == [-0.7, -0.8], "an end token behind them is no matter"
    assert token_scores.read([{"response": answer}], Shown(IDS, [3])) == [-0.8]


@pytest.mark.parametrize("there", [[5, 6, 9, 8], [5, 9, 7, 8], [5, 6, 7]])
def test_a_teacher_that_read_other_tokens_is_refused(there):
    with pytest.raises(Unusable, match=r"reads another token . of a sequence"):
        token_scores.read(told(there), Shown(IDS, [2, 3]))


@pytest.mark.parametrize(
    "answer", [{"choices": [{"message": {"content": "ok"}}]}, {"object": "error", "message": "unknown field"}, [], "x"]
)
def test_an_answer_without_log_probabilities_is_none(answer):
    with pytest.raises(Fault):
        token_scores.read(answer, Shown(IDS, [2]))


def test_a_vllm_is_sent_the_tokens_and_a_swift_deploy_the_conversation(server):
    plain, asked = server(vllm)
    rows = [Shown(IDS, [2, 3]), Shown([1, 2], []), Shown([3, 4], [1])]
    assert token_scores.score(plain, rows, patience=0, deadline=30) == [[-0.7, -0.8], [], [-0.4]]
    assert sorted(request.body["prompt"] for request in asked) == [[3, 4], IDS], "what has nothing to score is not sent"
    assert {request.path for request in asked} == {"/v1/completions"}
    swift, asked = server(lambda body: (200, [told(IDS)["choices"][0]]), swift=True)
    turns = {"messages": [{"role": "assistant", "content": [7, 8]}]}
    assert token_scores.score(swift, [Shown(IDS, [2, 3], turns)], patience=0, deadline=30) == [[-0.7, -0.8]]
    assert asked[0].path == "/infer/" and asked[0].body["infer_requests"] == [turns]


def test_a_teacher_that_refuses_is_not_waited_for(server):
    refusing, asked = server(lambda body: (400, {"message": "maximum context length is 300"}))
    assert "maximum context length" in token_scores.score(refusing, [Shown(IDS, [2])], patience=600, deadline=30)
    assert len(asked) == 1


def test_a_closed_api_is_told_in_a_line(server):
    closed, _ = server(lambda body: (200, {"choices": [{"message": {"content": "ok"}}]}))
    with pytest.raises(ValueError, match=r"tells no log-probabilities of a prompt .* as closed APIs: serve an open teacher") as refused:
        token_scores.probe(closed, IDS, "x")
    assert "\n" not in str(refused.value)


def test_the_probe_says_what_the_server_reads(server):
    plain, _ = server(vllm)
    assert token_scores.probe(plain, IDS, "x") == [(6, "t6"), (7, "t7"), (8, "t8")]


def test_an_address_where_nobody_is_is_told(serve):
    with pytest.raises(ValueError, match="does not answer"):
        token_scores.find("http://127.0.0.1:9")
