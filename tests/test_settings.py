"""Settings from the environment and a YAML file, and what is refused in words that show no key."""

import pytest
from overtake import settings
from overtake.redaction import without_secrets
from overtake.settings import SettingsError, load


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    import os

    for name in [name for name in os.environ if name.startswith("OVERTAKE_")]:
        monkeypatch.delenv(name)
    load.cache_clear()
    yield
    load.cache_clear()


@pytest.fixture
def config(tmp_path, monkeypatch):
    def config(text):
        path = tmp_path / "overtake.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        monkeypatch.setenv("OVERTAKE_CONFIG", str(path))
        load.cache_clear()
        return path

    return config


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(config, monkeypatch):
    config("rag_top_k: 7\nrag_concurrency: 3\n")
    monkeypatch.setenv("OVERTAKE_RAG_TOP_K", "9")
    found = load()
    assert (found.rag_top_k, found.rag_concurrency, found.rag_timeout) == (9, 3, 30.0)


@pytest.mark.parametrize("text", ["", "# nothing yet\n"])
def test_an_empty_file_changes_nothing(config, text):
    config(text)
    assert load() == settings.model()()


def test_settings_are_read_once(monkeypatch):
    assert load().rag_top_k == 5
    monkeypatch.setenv("OVERTAKE_RAG_TOP_K", "9")
    assert load().rag_top_k == 5


@pytest.mark.parametrize(
    "text",
    [
        "teacher_api_key: sk-secret-1\n",
        "rag_top_k: 3\njudge_api_key : sk-secret-1\n",
        '"teacher_api_key": sk-secret-1\n',  # quoted
        "{teacher_api_key: sk-secret-1}\n",  # in braces
        "TEACHER_API_KEY: sk-secret-1\n",  # as the variable is called
        "OVERTAKE_TEACHER_API_KEY: sk-secret-1\n",
        "rag_url:\n  teacher_api_key: sk-secret-1\n",  # where no key belongs
    ],
)
def test_a_key_in_the_file_is_refused_however_it_is_written(config, text):
    config(text)
    with pytest.raises(SettingsError, match=r"(?i)_api_key: take it out and export OVERTAKE_(TEACHER|JUDGE)_API_KEY instead") as refusal:
        load()
    assert "sk-secret-1" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- rag_top_k\n", "holds no settings: write lines such as rag_top_k: 5"),
        ("rag_top_k\n", "holds no settings"),
        ("rag_top_k: [1\n", r"is not readable as YAML \(line 2\)"),
        ("teacher_api_key: sk-secret-1: x\n", r"is not readable as YAML \(line 1\)"),
        ("rag_url: 端口\n".encode("gb18030"), "is not readable as YAML"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_not_quoted(config, text, message):
    path = config(text)
    with pytest.raises(SettingsError, match=message) as refusal:
        load()
    assert str(path) in str(refusal.value) and "sk-secret-1" not in str(refusal.value)


def test_a_file_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("OVERTAKE_CONFIG", "nowhere.yaml")
    with pytest.raises(SettingsError, match=r"OVERTAKE_CONFIG names nowhere.yaml, which is no file"):
        load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rag_topk: 3\n", "OVERTAKE_RAG_TOPK=3: Extra inputs are not permitted"),
        ("judge_share: 2\n", "OVERTAKE_JUDGE_SHARE=2: Input should be less than or equal to 1"),
        ("rag_url:\n", "OVERTAKE_RAG_URL=None: Input should be a valid string"),
    ],
)
def test_an_unknown_key_and_a_bad_value_of_the_file_name_the_variable(config, text, message):
    config(text)
    with pytest.raises(SettingsError) as refusal:
        load()
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAG_TOP_K", "0"),
        ("RAG_TOP_K", "101"),
        ("RAG_TOP_K", "many"),
        ("RAG_CONCURRENCY", ""),
        ("RAG_TIMEOUT", "-1"),
        ("RAG_TIMEOUT", "nan"),
        ("RAG_SCORE_THRESHOLD", "1.1"),
        ("JUDGE_SHARE", "-0.1"),
        ("WEIGHT_WIN", "-1"),
    ],
)
def test_a_value_out_of_range_names_the_variable_and_what_it_holds(monkeypatch, name, value):
    monkeypatch.setenv(f"OVERTAKE_{name}", value)
    with pytest.raises(SettingsError, match=f"^OVERTAKE_{name}={value!r}: Input should be "):
        load()


def test_all_that_is_wrong_is_said_at_once(monkeypatch):
    monkeypatch.setenv("OVERTAKE_RAG_TOP_K", "0")
    monkeypatch.setenv("OVERTAKE_JUDGE_SHARE", "7")
    with pytest.raises(SettingsError, match=r"OVERTAKE_RAG_TOP_K='0': .*; OVERTAKE_JUDGE_SHARE='7': "):
        load()


def test_a_key_is_never_printed(monkeypatch):
    monkeypatch.setenv("OVERTAKE_TEACHER_API_KEY", "sk-secret-1")
    assert load().teacher_api_key.get_secret_value() == "sk-secret-1"
    assert "sk-secret-1" not in f"{load()!r} {load()} {load().model_dump()}"


KEYS = "http://127.0.0.1:8001/v1=sk-one https://api.example.com=sk-two== https://api.example.com/b/v1=sk-three"


def student_keys(monkeypatch, keys, single, *addresses):
    monkeypatch.setenv("OVERTAKE_STUDENT_API_KEYS", keys)
    monkeypatch.setenv("OVERTAKE_STUDENT_API_KEY", single)
    return list(settings.student_keys(addresses).values())


def test_each_address_has_its_own_key_and_never_anothers(monkeypatch):
    addresses = ("http://127.0.0.1:8001/v1", "https://API.example.com:443/v1/", "https://api.example.com/b/v1", "http://api.example.com/v1")
    assert student_keys(monkeypatch, KEYS, "", *addresses) == ["sk-one", "sk-two==", "sk-three", ""]
    others = ("http://127.0.0.1:80010/v1", "http://127.0.0.1:8001/v10", "https://api.example.com.evil.org/v1", "https://xapi.example.com")
    assert student_keys(monkeypatch, KEYS, "", *others) == ["", "", "", ""]


def test_the_one_key_is_for_the_one_address_that_is_asked(monkeypatch):
    assert student_keys(monkeypatch, "", "sk-0", "http://a:1/v1", "http://a:1/v1/") == ["sk-0", "sk-0"]
    assert student_keys(monkeypatch, KEYS, "sk-0", "http://127.0.0.1:8001/v1", "https://api.example.com/v1") == ["sk-one", "sk-two=="]
    for addresses in (("http://a:1/v1", "http://b:1/v1"), ("http://127.0.0.1:8001/v1", "http://b:1/v1")):
        with pytest.raises(SettingsError, match=r"the key of one address, and 2 are asked: .* http://b:1/v1 has none") as error:
            student_keys(monkeypatch, KEYS, "sk-0", *addresses)
        assert "sk-" not in str(error.value)


@pytest.mark.parametrize("entry", ["sk-lonely", "http://a:1/v1=", "=sk-x", "http://a:1/v1=sk-ключ", "api.example.com=sk-x"])
def test_an_entry_of_keys_out_of_form_is_named_by_its_place_without_the_key(monkeypatch, entry):
    with pytest.raises(SettingsError, match=r"OVERTAKE_STUDENT_API_KEYS, entry 2: ") as error:
        student_keys(monkeypatch, f"http://b:1=sk-good {entry}", "", "http://a:1/v1")
    assert "sk-" not in str(error.value)


def test_every_key_of_several_is_taken_out_of_what_is_said(monkeypatch):
    monkeypatch.setenv("OVERTAKE_STUDENT_API_KEYS", KEYS)
    assert without_secrets("401: sk-two== and sk-three-more, sk-one?") == "401: *** and ***-more, ***?"
