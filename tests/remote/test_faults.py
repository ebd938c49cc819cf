"""Faults: which are asked again, which are outages, how long a service asks to wait, and that no secret gets into their words."""

import os
import ssl
import time
from email.utils import formatdate
from types import SimpleNamespace

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from overtake.remote import faults
from overtake.remote.chat import Endpoint
from overtake.remote.faults import Fault, Unusable, error_inside, malformed, of_error, of_status, without_secrets

KEY = "sk-0123456789abcdef"
HOST = SimpleNamespace(host="rag", port=80, ssl=True, is_ssl=True)


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("OVERTAKE_TEACHER_API_KEY", KEY)


# ---------------------------------------------------------------- again, outage


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 520, 524, 529])
def test_statuses_that_pass_are_asked_again_and_are_outages(status):
    fault = of_status(status, "busy", {})
    assert (fault.kind, fault.again, fault.outage, str(fault)) == (f"http_{status}", True, True, f"HTTP {status}: busy")


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 451, 501, 505])
def test_other_statuses_are_final_in_the_services_own_words(status):
    fault = of_status(status, '{"message": "top_k 太大"}', {})
    assert (fault.kind, fault.again, fault.outage) == (f"http_{status}", False, False)
    assert str(fault) == f'HTTP {status}: {{"message": "top_k 太大"}}'


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_final_and_says_where_to(status):
    fault = of_status(status, "moved", {"location": "http://elsewhere/v1"})
    assert (fault.again, fault.outage) == (False, False)
    assert "redirects to http://elsewhere/v1" in str(fault)
    assert "redirects to nowhere" in str(of_status(status, "", {}))


@pytest.mark.parametrize(
    ("error", "kind", "again"),
    [
        (TimeoutError(), "timeout", True),
        (aiohttp.ConnectionTimeoutError("slow"), "timeout", True),
        (aiohttp.ServerDisconnectedError(), "connection", True),
        (aiohttp.ClientPayloadError("half"), "connection", True),
        (ConnectionResetError(), "connection", True),
        (OSError(113, "no route"), "connection", True),
        (aiohttp.InvalidURL("ftp//"), "connection", False),
        (aiohttp.ClientConnectorCertificateError(HOST, ssl.SSLError("self-signed")), "connection", False),
        (KeyError("choices"), "bug", False),
        (RecursionError(), "bug", False),
    ],
)
def test_an_exception_of_a_library_is_a_fault_of_its_kind(error, kind, again):
    fault = of_error(error, 30.0)
    assert (fault.kind, fault.again, fault.outage) == (kind, again, again)
    assert str(fault)


def test_a_timeout_without_words_says_how_long_was_waited():
    assert str(of_error(TimeoutError(), 2.5)) == "no answer within 2.5 s"


def test_a_fault_stays_itself():
    fault = Unusable("empty", {"usd": 1.0})
    assert of_error(fault, 1.0) is fault and fault.paid == {"usd": 1.0}


def test_what_was_answered_is_no_outage():
    assert not malformed("no list", {}).outage and malformed("no list", {}).again
    assert not Unusable("empty", again=True).outage
    assert not Fault("budget", "spent", again=False).outage
    assert Fault("circuit", "down", again=False).outage


@pytest.mark.parametrize(
    ("error", "again"),
    [
        ({"code": 400}, False),
        ({"code": "404"}, False),
        ({"status": 422}, False),
        ({"code": 429}, True),
        ({"code": 408}, True),
        ({"code": 500}, True),
        ({"code": "invalid_api_key"}, True),
        ({"code": "²²²"}, True),
        ({"code": "4" * 5000}, True),
        ({"code": None}, True),
        ({"code": [400]}, True),
        ("database locked", True),
        (["busy"], True),
    ],
)
def test_an_error_inside_an_answer_is_final_only_when_it_means_the_request(error, again):
    fault = error_inside(error)
    assert (fault.kind, fault.again, fault.outage) == ("error_inside", again, again)


# ---------------------------------------------------------------- Retry-After


def asked_for(header):
    return of_status(429, "", {"retry-after": header}).wait


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("0", 0), ("7", 7), ("1.5", 1.5), ("3600", 3600), (formatdate(0, usegmt=True), 0), ("Sun Nov  6 08:49:37 1994", 0)],
)
def test_seconds_and_dates_that_are_past(header, seconds):
    assert asked_for(header) == seconds


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York"])
@pytest.mark.parametrize(
    "form", ["%a, %d %b %Y %H:%M:%S GMT", "%a, %d %b %Y %H:%M:%S -0000", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"]
)
def test_a_date_in_any_of_its_forms_is_universal_time(monkeypatch, zone, form):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert 50 < asked_for(time.strftime(form, time.gmtime(time.time() + 60))) <= 60
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "header", ["", "soon", "-5", "1,5", "nan", "inf", "1e3", "7 s", "Thu, 99 Foo 2020 00:00:00 GMT", "1 Jan 99999 00:00:00"]
)
def test_an_unreadable_wait_is_none(header):
    assert asked_for(header) is None


@given(st.text(max_size=40) | st.from_regex(r"\w{3}, \d{1,3} (Jan|Feb|Dec) \d{1,12} \d\d:\d\d:\d\d( [+-]?\d{1,12}| \w+)?", fullmatch=True))
def test_no_header_is_more_than_a_wait_or_none(header):
    seconds = asked_for(header)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize("ours", [-3600, 0, 3600])
def test_a_date_is_counted_from_the_services_own_clock(monkeypatch, ours):
    now = time.time()
    headers = {"retry-after": formatdate(now + 20, usegmt=True), "date": formatdate(now, usegmt=True)}
    monkeypatch.setattr(faults.time, "time", lambda: now + ours)
    assert of_status(429, "", headers).wait == 20
    assert of_status(429, "", headers | {"date": "no date"}).wait in (None, 0, pytest.approx(20, abs=1.5))


def test_without_the_services_clock_a_date_far_away_is_no_wait():
    assert asked_for(formatdate(time.time() + 3600, usegmt=True)) is None


# ---------------------------------------------------------------- an account with nothing left


@pytest.mark.parametrize(
    "body",
    [
        '{"error": {"code": "insufficient_quota", "message": "no more"}}',
        '{"error": {"type": "exceeded_current_quota_error", "message": "Your account is suspended"}}',
        '{"error": {"message": "You exceeded your current quota, please check your plan and billing details."}}',
        '{"error": {"code": "billing_hard_limit_reached"}}',
        '{"message": "Insufficient Balance"}',
        '{"message": "Your credit balance is too low to access the API"}',
        '{"message": "You have run out of credits"}',
        '{"code": "Arrearage", "message": "Access denied"}',
        '{"message": "\\u4f59\\u989d\\u4e0d\\u8db3"}',
        '{"message": "账户余额不足，请充值"}',
        '{"message": "本月额度已用完"}',
        '{"message": "套餐已到期，请续费"}',
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_where_nothing_is_left_to_spend_no_waiting_helps(status, body):
    fault = of_status(status, body, {})
    assert (fault.kind, fault.again, fault.outage) == (f"http_{status}", False, False)
    assert ("余额不足" in str(fault)) == ("u4f59" in body or "余额" in body)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ('{"error": {"code": "rate_limit_exceeded", "message": "Rate limit reached for requests per min. Limit 3."}}', {}),
        ('{"error": {"message": "You exceeded your current quota. Please retry in 26.5s.", "status": "RESOURCE_EXHAUSTED"}}', {}),
        ('{"error": {"message": "You exceeded your current quota."}}', {"retry-after": "20"}),
        ('{"message": "Too many requests, try again in 2 minutes"}', {}),
        ('{"message": "请求过于频繁，请稍后再试"}', {}),
        ('{"message": "当前分组并发已满，额度不足，请稍后再试"}', {}),
        ("", {}),
    ],
)
def test_a_limit_that_passes_is_waited_for(body, headers):
    assert of_status(429, body, headers).again


# ---------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("http://me:pass@host/v1", "http://***@host/v1"),
        ("http://me:p@ss@host:8080/v1", "http://***@host:8080/v1"),
        ("https://token@host", "https://***@host"),
        ("no secret: a@b.org, http://host/a@b", "no secret: a@b.org, http://host/a@b"),
        ("http://host/v1?key=abc&x=1", "http://host/v1?key=***&x=1"),
        ("http://host/v1?x=1&API_KEY=abc'", "http://host/v1?x=1&API_KEY=***'"),
        *(
            (f"http://host?{name}=abc", f"http://host?{name}=***")
            for name in ("api-key", "apikey", "access_token", "password", "client_secret", "sig")
        ),
        ("two http://a:b@host and //c:d@host", "two http://***@host and //***@host"),
        ("?x=1&top_k=5", "?x=1&top_k=5"),
    ],
)
def test_what_addresses_hold_is_taken_out(text, clean):
    assert without_secrets(text) == clean
    assert str(Fault("connection", text)) == clean


@pytest.mark.parametrize("name", ["OVERTAKE_RAG_API_KEY", "HF_TOKEN", "SOME_SECRET", "DB_PASSWORD"])
def test_what_the_environment_keeps_secret_is_taken_out(monkeypatch, name):
    monkeypatch.setenv(name, KEY)
    assert without_secrets(f"bad Bearer {KEY}!") == "bad Bearer ***!"


@pytest.mark.parametrize("around", ["{}\r", " {}\n", '"{}"', "{}\t"])
def test_a_key_that_a_file_put_something_around_is_taken_out_as_it_is_sent(monkeypatch, around):
    monkeypatch.setenv("OVERTAKE_TEACHER_API_KEY", around.format(KEY))
    assert KEY not in without_secrets(f"bad {KEY}!")


def test_what_stands_behind_bearer_is_taken_out_whosever_it_is():
    assert without_secrets("Authorization: Bearer abc.123-x, and a Bearer token") == "Authorization: Bearer ***, and a Bearer token"


def test_a_secret_that_begins_another_one_leaves_nothing_of_it(monkeypatch):
    monkeypatch.setenv("A_API_KEY", KEY)
    monkeypatch.setenv("B_API_KEY", f"{KEY}-longer")
    assert without_secrets(f"{KEY}-longer {KEY}") == "*** ***"


@pytest.mark.parametrize("before", range(150, 310, 3))
def test_no_cut_leaves_half_a_secret(key, before):
    echo = "." * before + KEY
    said = [str(of_status(401, echo, {})), str(malformed("no JSON", echo)), str(error_inside(echo)), str(error_inside({"message": echo}))]
    assert not any(KEY[:2] in words for words in said)


def test_an_endpoint_shows_neither_its_key_nor_its_addresses_login(key):
    assert repr(Endpoint("teacher", "http://me:pass@host/v1", "m", KEY)) == "Endpoint(teacher: m at http://***@host/v1)"


@given(st.text(st.characters(exclude_characters="/", exclude_categories=("Z", "C")), min_size=1, max_size=20))
def test_whatever_the_login_in_an_address_is_it_is_taken_out(login):
    clean = without_secrets(f"see http://{login}@host/v1 or ask me@host")
    assert clean == "see http://***@host/v1 or ask me@host"
    assert without_secrets(clean) == clean


def test_short_values_are_words_and_stay(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "on")
    assert without_secrets("on and on") == "on and on"
    assert os.environ["MY_TOKEN"] == "on"


def test_words_are_bounded():
    assert len(str(of_status(500, "长" * 10**6, {}))) == 300 + len("HTTP 500: ")
    assert len(str(Fault("bug", "x" * 10**6))) == 400
    assert faults.malformed("no list", {"a": "长" * 10**6})
