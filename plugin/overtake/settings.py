"""Settings that ms-swift's flags cannot say: endpoints, limits and reward weights, from the environment and one YAML file."""

import difflib
import os
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import Field, SecretStr, ValidationError, create_model, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from overtake.redaction import without_secrets
from overtake.task import DECLARED, Setting

READ_ELSEWHERE = {
    "OVERTAKE_CONFIG": "YAML file with any of the above but the keys",
    "OVERTAKE_COMPARE_API_KEY": "key of the second teacher of `tools/generate.py --compare-with`",
    "OVERTAKE_LIGHT_API_KEY": "key of the light model of `tools/generate.py --task judge --light`",
    "OVERTAKE_STUDENT_API_KEY": "key of the served model that `tools/evaluate.py` or `tools/ask.py` asks, where it is at one address only",
    "OVERTAKE_STUDENT_API_KEYS": "keys of several: `http://HOST:PORT/v1=KEY https://OTHER/v1=KEY`; an address without its own is sent none",
    "OVERTAKE_STACK": "`cpu` or `gpu` for `install.sh`; unset, it looks for a GPU",
    "OVERTAKE_SHARED": "tests: the folder with data sets that are no part of the project",
    "OVERTAKE_REQUIRE_ALL": "tests: 1 makes a skipped test a failure",
}
"""Variables that are no settings: installation, tools and tests read them, each with its meaning."""


_AROUND = " \t\r\n\v\f\ufeff\u200b\u00a0\u3000"
"""What an editor or a .env file leaves around a value."""
_QUOTES = "\"'“”‘’`"


class SettingsError(ValueError):
    """A setting is missing or out of range; the message names the key, the value and the remedy."""


class Settings(BaseSettings):
    """Settings, each of which can be set as `OVERTAKE_<KEY>`, or in the YAML file that `OVERTAKE_CONFIG` names; the environment wins.

    Tasks declare further keys (`Setting` in task.py), which `value` reads. API keys are read from the environment only: ms-swift copies a
    YAML file into output folders.
    """

    model_config = SettingsConfigDict(env_prefix="OVERTAKE_", extra="forbid", frozen=True, use_attribute_docstrings=True)

    rag_url: str = ""
    """Address of the RAG service, e.g. http://127.0.0.1:8900, without the path. This and every other address may be several, apart by
    blanks: servers of the same, of which the least busy is asked (docs/scale.md)."""
    rag_api_key: SecretStr = SecretStr("")
    """Sent as a bearer token, where the service asks for one."""
    rag_concurrency: int = Field(16, ge=1)
    """Retrievals at once, all ranks together."""
    rag_timeout: float = Field(30.0, gt=0)
    """Seconds for one request, from the connection to the answer's last byte."""
    rag_rpm: int = Field(0, ge=0)
    """Requests a minute, all ranks together; 0: no limit."""
    rag_top_k: int = Field(5, ge=1, le=100)
    """Documents asked for in data and training; evaluation asks for 10."""
    rag_score_threshold: float = Field(0.5, ge=0, le=1)
    """Documents that the reranker scores below are left out by the service."""

    kb_version: str = ""
    """Any name for the state of your documents: part of the cache's key, so change it when they change."""

    teacher_base_url: str = ""
    """OpenAI-compatible address that ends in /v1."""
    teacher_model: str = ""
    """Its model, by the name that the address knows."""
    teacher_api_key: SecretStr = SecretStr("")
    """Its key; DEEPSEEK_API_KEY where no OVERTAKE_TEACHER_* is set: the teacher is then deepseek-chat at DeepSeek's own address."""
    teacher_api_version: str = ""
    """Azure's version of the interface, e.g. 2024-10-21: the address is then https://NAME.openai.azure.com and the model a deployment's
    name. Leave it out at Azure's own .../openai/v1, which any key and model name do for."""
    teacher_stream: bool = False
    """1: it answers in streams only; each is put together."""
    teacher_concurrency: int = Field(10, ge=1)
    """Calls at once, all ranks together."""
    teacher_timeout: float = Field(30.0, gt=0)
    """Seconds for one request at the token limit that is asked for first. A cut-off answer is asked for again with 4 times the tokens (16
    where reasoning ate them), a request of its own, which may take as many times as long."""
    teacher_rpm: int = Field(0, ge=0)
    """Requests a minute, all ranks together; 0: no limit."""
    teacher_tpm: int = Field(0, ge=0)
    """Tokens a minute, all ranks together; 0: no limit."""

    judge_base_url: str = ""
    """The judge's own address; unset, the teacher's."""
    judge_model: str = ""
    """Its model; unset, the teacher's."""
    judge_api_key: SecretStr = SecretStr("")
    """Its key; unset, the teacher's, but only at the teacher's address."""
    judge_api_version: str = ""
    """Azure's version of the interface at the judge's address; unset, the teacher's, but only at the teacher's address."""
    judge_stream: bool = False
    """1: the judge answers in streams only; unset, as the teacher, but only at the teacher's address."""
    judge_concurrency: int = Field(0, ge=0)
    """Calls at once; 0: as many as the teacher's."""
    judge_timeout: float = Field(0.0, ge=0)
    """Seconds for one request; 0: as long as the teacher's."""
    judge_rpm: int = Field(0, ge=0)
    """Requests a minute of a judge with an address of its own; without one it shares the teacher's limit."""
    judge_tpm: int = Field(0, ge=0)
    """Tokens a minute, likewise."""
    judge_share: float = Field(0.3, ge=0, le=1)
    """Share of the groups (GRPO) or rows (PPO) that the judge scores in training."""
    judge_group: bool = False
    """GRPO's rewrites: 1: the judge scores all rewrites of a question in one call, the teacher's among them, equal ones once."""

    weight_judge: float = Field(0.35, ge=0)
    """Weight of the judge in `rag_competition`."""
    weight_retrieval: float = Field(0.40, ge=0)
    """Weight of the retrieval difference in it."""
    weight_win: float = Field(0.25, ge=0)
    """Weight of winning in it."""

    gold_ndcg: bool = False
    """Rewrites with labels: 1: a recall list is worth its nDCG@10, in data, rewards and sampling, so that a labelled document counts
    wherever it stands (with OVERTAKE_RAG_TOP_K=10); 0: 0.6 of the first place and 0.4 of the mean of the first three."""

    prompt_once: bool = True
    """GRPO and PPO: the prompt of a group is computed once, not once a completion; where that cannot be, the run says so. 0: ms-swift's
    own way."""
    self_teacher: bool = False
    """GRPO: the student under the rows' `teacher_prompt` is its own teacher (DISTILL_FROM=self sets it); 0: the column is not read."""
    critic: str = ""
    """PPO: a model of the policy's tokenizer that becomes the critic (`tools/critic.py` makes one); empty: the policy's own base."""
    critic_lr: float = Field(1e-4, gt=0)
    """PPO: the critic's learning rate; the policy's is --learning_rate."""
    entropy: float = Field(0.01, ge=0)
    """PPO: weight of the entropy bonus."""
    target_kl: float = Field(0.0, ge=0)
    """PPO: mean KL of a token from the reference, in nats, towards which --kl_coef is moved; 0: it stays as it is."""

    embedding_base_url: str = ""
    """Our RAG service: OpenAI-compatible address, ending in /v1, of a model whose vectors find documents beside their words."""
    embedding_model: str = ""
    """Its name; without an address a sentence-transformers folder; empty: words alone."""
    embedding_api_key: SecretStr = SecretStr("")
    """Its key."""
    reranker_base_url: str = ""
    """Our RAG service: address of a cross-encoder, to which /rerank is added."""
    reranker_model: str = ""
    """Its name (empty for TEI, a server of one model); without an address a CrossEncoder folder; both empty: the lexical reranker."""
    reranker_api_key: SecretStr = SecretStr("")
    """Its key."""

    batch_deadline: float = Field(300.0, gt=0)
    """Seconds a whole batch of rewards may take; what has not answered by then abstains."""
    outage_patience: float = Field(600.0, ge=0)
    """Seconds a service may stay down: calls pause for so long, then they fail, and a training run saves and stops."""

    budget_soft: float = Field(0.0, ge=0)
    """USD; beyond it the judge abstains; 0: no limit."""
    budget_hard: float = Field(0.0, ge=0)
    """USD; beyond it nothing more is asked, and a training run saves and stops; 0: no limit."""
    budget_run: str = ""
    """The name under which money spent is added up, over ranks and restarts; recipes take the output folder, tools the output file."""
    prices: str = ""
    """A TOML file with prices of your own (`input`, `output`, and `batch`, the share asked in batches), over those of
    plugin/overtake/remote/prices.toml."""

    gpu_hour_usd: float = Field(0.0, ge=0)
    """USD an hour for all GPUs that a model of one's own runs on: what evaluations say of its cost; 0: nothing."""

    store: SecretStr = SecretStr("")
    """redis://:PASSWORD@HOST:6379/0 (rediss:// with TLS): a Redis server that keeps answers, claims, money, limits a minute and the state
    of each service for the processes of all machines (docs/scale.md); empty: OVERTAKE_CACHE_DIR, for those of this machine."""
    cache_dir: Path = Path("~/.cache/overtake")
    """Folder of the answers of remote services (answers.sqlite) and the ledger of calls (ledger.jsonl)."""
    cache_mb: int = Field(4096, ge=1)
    """The answers' most megabytes on disk; the oldest go first."""

    @field_validator("rag_url", "teacher_base_url", "judge_base_url", "embedding_base_url", "reranker_base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        return checked_addresses(value)

    @field_validator("rag_api_key", "teacher_api_key", "judge_api_key", "embedding_api_key", "reranker_api_key", mode="before")
    @classmethod
    def _key(cls, value: object) -> object:
        return checked_key(value) if isinstance(value, str) else value

    @field_validator("store", mode="before")
    @classmethod
    def _store(cls, value: object) -> object:
        return checked_store(value) if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the YAML file."""
        config = os.environ.get("OVERTAKE_CONFIG")
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        return (*sources, YamlConfigSettingsSource(settings_cls, _checked(config))) if config else sources


def _checked(config: str) -> Path:
    """The YAML file's path, refused when it is absent, holds no settings or holds an API key."""
    path = Path(config).expanduser()
    if not path.is_file():
        raise SettingsError(f"OVERTAKE_CONFIG names {config}, which is no file: correct the path or unset it")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # Not the error's own words: they quote the line, which may hold a key.
        mark = getattr(error, "problem_mark", None)
        raise SettingsError(f"{config} is not readable as YAML{f' (line {mark.line + 1})' if mark else ''}: correct it") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{config} holds no settings: write lines such as rag_top_k: 5")
    if key := re.search(r"\w*api_key", str(content), re.IGNORECASE):
        variable = f"OVERTAKE_{key[0].upper().removeprefix('OVERTAKE_')}"
        raise SettingsError(f"{config} holds {key[0]}: take it out and export {variable} instead")
    if isinstance(content.get("store"), str) and "@" in content["store"]:
        raise SettingsError(f"{config} holds a password in store: take it out and export OVERTAKE_STORE instead")
    return path


def model() -> type[Settings]:
    """The settings with those that the known tasks declare."""
    return _model(tuple(DECLARED.values()))


@lru_cache(maxsize=1)
def _model(declared: tuple[Setting, ...]) -> type[Settings]:
    fields: Any = {
        setting.name: (float, Field(setting.default, ge=setting.least, le=setting.most, description=setting.meaning))
        for setting in declared
    }
    return create_model("Settings", __base__=Settings, **fields)


@lru_cache(maxsize=1)
def load() -> Settings:
    """The settings in force in this process, read once.

    Raises SettingsError, naming the key and the value, when one is unknown or out of range.
    """
    of_all = model()
    names = {f"OVERTAKE_{name.upper()}" for name in of_all.model_fields} | set(READ_ELSEWHERE)
    for name in sorted(os.environ):
        if name.startswith("OVERTAKE_") and name not in names:
            close = difflib.get_close_matches(name, names, 1)
            raise SettingsError(f"{name} is no setting{f'; {close[0]} is meant?' if close else ''}: correct its name or unset it")
    try:
        return of_all()
    except ValidationError as error:
        raise SettingsError("; ".join(map(_line, error.errors()))) from None


def _line(item: Any) -> str:
    """An error of pydantic's, with the variable's name, and its value where that is no secret."""
    return f"OVERTAKE_{'_'.join(map(str, item['loc'])).upper()}={_shown(item)}: {item['msg'].removeprefix('Value error, ')}"


def value(name: str) -> float:
    """The number that a setting holds, also one that a task declares. Raises SettingsError as `load` does, KeyError for no setting."""
    if name not in type(load()).model_fields and name in DECLARED:
        load.cache_clear()  # its task has become known since
    config = load()
    if name not in type(config).model_fields:
        raise KeyError(name)
    return float(getattr(config, name))


def _shown(item: Any) -> str:
    return "…" if "key" in str(item["loc"]) or "store" in item["loc"] else without_secrets(repr(item["input"]))


def checked_address(value: str) -> str:
    """An address without the blanks and line ends around it; "" is none.

    Raises ValueError for what no request can be sent to.

    >>> checked_address(" http://127.0.0.1:8000/v1\\r\\n")
    'http://127.0.0.1:8000/v1'
    """
    address = value.strip(_AROUND)
    if not address:
        return ""
    if address[0] in _QUOTES or address[-1] in _QUOTES:
        raise ValueError("stands in quotes: take them off, so that it begins with http:// or https://")
    if not re.match(r"https?://", address, re.IGNORECASE):
        raise ValueError("must begin with http:// or https://, in half-width characters")
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"is no address ({error}): write http://HOST:PORT and the path") from None
    named = ":" in host or all(char in "-._" or unicodedata.category(char)[0] in "LMN" for char in host)  # an IPv6 address, or a name
    if not host or not named or parts.netloc.endswith(":"):
        raise ValueError("names no host: write http://HOST:PORT and the path, in half-width characters")
    if any(char.isspace() or unicodedata.category(char) in ("Cc", "Cf") for char in address):
        raise ValueError("holds a blank or an invisible character: take it out")
    return address


def checked_addresses(value: str) -> str:
    """Several addresses of one service as one string, apart by blanks; "" is none. Raises ValueError as `checked_address` does.

    >>> checked_addresses(" http://10.0.0.1:8000/v1  http://10.0.0.2:8000/v1\\n")
    'http://10.0.0.1:8000/v1 http://10.0.0.2:8000/v1'
    """
    addresses = [checked_address(address) for address in value.strip(_AROUND).split()]
    if double := next((address for address in addresses if addresses.count(address) > 1), ""):
        raise ValueError(f"names {without_secrets(double)} twice: name each server once")
    return " ".join(addresses)


def checked_store(value: str) -> str:
    """An address of Redis without the blanks and line ends around it; "" is none.

    Raises ValueError, without the address, since it may hold a password.

    >>> checked_store(" redis://:secret@10.0.0.1:6379/0\\n")
    'redis://:secret@10.0.0.1:6379/0'
    """
    address = value.strip(_AROUND)
    form = "write redis://:PASSWORD@HOST:6379/0, rediss:// for TLS, with %-codes for /, @, # and : in a password"
    try:
        parts = urlsplit(address)
        whole = not address or (parts.scheme in ("redis", "rediss") and bool(parts.hostname) and (parts.port or 1) > 0)
        whole = whole and re.fullmatch("(/[0-9]*)?", parts.path) is not None and "@" not in (parts.hostname or "") + parts.path
    except ValueError:
        whole = False
    if not whole or not re.fullmatch("[!-~]*", address):
        raise ValueError(f"is no address of Redis: {form}")
    return address


def checked_key(value: str) -> str:
    """An API key without the blanks and line ends that a .env file leaves around it; "" is none.

    Raises ValueError, without the key, for what cannot stand in a request's header.

    >>> checked_key("sk-abc\\r")
    'sk-abc'
    """
    key = value.strip(_AROUND)
    if key and (key[0] in _QUOTES or key[-1] in _QUOTES):
        raise ValueError("stands in quotes: take them off")
    if not re.fullmatch("[!-~]*", key):
        raise ValueError("holds a blank, a line end or a character that no key has: write the key alone, in half-width characters")
    return key


def student_keys(addresses: Iterable[str]) -> dict[str, str]:
    """The key of each address that a command asks for a student's answers, "" for one without.

    An address has the key of the longest entry in OVERTAKE_STUDENT_API_KEYS that it lies under, at the same host and port; the key in
    OVERTAKE_STUDENT_API_KEY is for a command that asks one address. Raises SettingsError for an entry out of form, and for that one key
    where several addresses have none of their own.
    """
    places = {address: _place(address) for address in addresses}
    entries: list[tuple[tuple[str, str], str]] = []
    for number, entry in enumerate(os.environ.get("OVERTAKE_STUDENT_API_KEYS", "").split(), 1):
        address, _, key = entry.partition("=")
        try:
            pair = checked_address(address), checked_key(key)
        except ValueError as error:
            raise SettingsError(f"OVERTAKE_STUDENT_API_KEYS, entry {number}: it {error}") from None
        if not all(pair):
            raise SettingsError(f"OVERTAKE_STUDENT_API_KEYS, entry {number}: write http://HOST:PORT/v1=KEY, entries apart by a blank")
        entries.append((_place(pair[0]), pair[1]))
    entries.sort(key=lambda entry: -len(entry[0][1]))
    keys = {
        address: next((key for (host, path), key in entries if host == place[0] and place[1].startswith(path)), "")
        for address, place in places.items()
    }
    if (single := api_key("OVERTAKE_STUDENT_API_KEY")) and (without := [address for address in keys if not keys[address]]):
        if len(set(places.values())) > 1:
            raise SettingsError(
                f"OVERTAKE_STUDENT_API_KEY is the key of one address, and {len(keys)} are asked: unset it, and write ADDRESS=KEY for each "
                f"that wants one into OVERTAKE_STUDENT_API_KEYS, where {', '.join(map(without_secrets, without))} has none"
            )
        keys |= dict.fromkeys(without, single)
    return keys


def _place(address: str) -> tuple[str, str]:
    """(scheme, host and port, the path with a slash at its end) of an address.

    >>> _place("HTTPS://me:pass@Host/v1"), _place("http://host:80/")
    (('https://host:443', '/v1/'), ('http://host:80', '/'))
    """
    parts = urlsplit(address)
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:  # no number: nothing can be asked there
        port = 0
    return f"{parts.scheme}://{parts.hostname}:{port}", f"{parts.path.rstrip('/')}/"


def api_key(name: str) -> str:
    """The API key in the environment variable `name`; "" where it is not set. Raises SettingsError where it is none."""
    try:
        return checked_key(os.environ.get(name, ""))
    except ValueError as error:
        raise SettingsError(f"{name}=…: it {error}") from None
