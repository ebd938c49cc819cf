"""The mock teacher behind OpenAI's chat API: POST /v1/chat/completions, GET /v1/models, GET /health.

Its tasks are told by their system prompt, word for word: prompts/judge_medical.txt, judge_rubrics.txt, write_rubrics.txt and
extract_profile.txt; given a knowledge base, rewrite_<tenant>.txt, judge_rewrite.txt and judge_group.txt; given a judge's sample,
answer_question.txt and judge_answer.txt; given a finance sample, solve_finance.txt, judge_reasoning.txt and judge_finance.txt. Any other
prompt is refused. `usage` counts characters: there is no tokenizer here. Limits on tokens count characters too.
"""

import hashlib
import hmac
import json
import re
import time

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from overtake.tasks.answer_judge.prompts import prompt as graded_prompt
from overtake.tasks.finance.prompts import prompt as finance_prompt
from overtake.tasks.medical import mock_judge
from overtake.tasks.medical.prompts import prompt as medical_prompt
from overtake.tasks.query_rewrite import prompts
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from demo.mock_teacher import finance, judging
from demo.mock_teacher.answers import Grader
from demo.mock_teacher.rewriting import Rewriter

NAME = "overtake-stand-in"
"""The `model` of every answer, whatever was asked for."""
STRICT = "gpt-5-stand-in"
"""The same mock behind the parameter rules of GPT-5, for tests of clients."""

_JUDGED = re.compile(r"原始问题：([^\n]*)\n(?:用户画像：[^\n]*\n)?(?:历史摘要：[^\n]*\n)?改写：(.*)", re.DOTALL)
_JUDGED_TOGETHER = re.compile(
    r"原始问题：(?P<question>[^\n]*)\n(?:用户画像：[^\n]*\n)?(?:历史摘要：[^\n]*\n)?(?P<rewrites>(?:改写\d+：[^\n]*(?:\n|\Z))+)"
)
_ANSWERED = re.compile(
    r"(?:此前对话：[^\n]*\n)?患者问题：(?P<question>[^\n]*)\n(?:参考答案：(?P<reference>[^\n]*)\n)?(?:评分项：(?P<criteria>[^\n]*)\n)?"
    r"待评回答：(?P<answer>[^\n]*)(?:\n要填的 JSON：[^\n]*)?"
)
_RUBRICS = re.compile(r"患者问题：(?P<question>[^\n]*)\n(?:参考答案：(?P<reference>[^\n]*)\n)?规则书：[^\n]*")
_GRADED = re.compile(r"问题：[^\n]*\n标准答案：([^\n]*)\n待评答案：(.*)", re.DOTALL)
_ASKED = re.compile(
    r"(?:(?:用户画像：|User profile: )(?P<profile>[^\n]*)\n)?(?:(?:历史摘要：|History summary: )(?P<history>[^\n]*)\n)?"
    r"(?:问题：|Question: )(?P<question>.*)",
    re.DOTALL,
)


_MEDICAL = {medical_prompt(name): name for name in ("judge_medical", "judge_rubrics", "write_rubrics")}
_FINANCE = {finance_prompt(name): name for name in ("solve_finance", "judge_reasoning", "judge_finance")}


class Message(BaseModel):
    """One message; only text is understood."""

    role: str
    content: str


class Completion(BaseModel):
    """The request of POST /v1/chat/completions; fields that are not named here are ignored."""

    model_config = ConfigDict(extra="ignore")

    model: str
    messages: list[Message] = Field(min_length=1)
    stream: bool | None = False
    n: int | None = 1
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)


class Refused(Exception):
    """A request that is answered with an error in OpenAI's form."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param


class Tasks:
    """What the mock teacher can be asked: rewriters by tenant, of which `judge_tenant` judges, and a solver of finance problems."""

    def __init__(
        self,
        rewriters: dict[str, Rewriter],
        judge_tenant: str | None = None,
        grader: Grader | None = None,
        solver: finance.Solver | None = None,
    ) -> None:
        if judge_tenant is not None and judge_tenant not in rewriters:
            raise ValueError(f"judge tenant {judge_tenant!r}: there are {', '.join(rewriters)}")
        self._rewriters, self._judge, self._grader, self._solver = rewriters, judge_tenant, grader, solver
        # A tenant may have one prompt for Chinese questions and one for others.
        self._rewriting = {prompts.rewrite_prompt(tenant, query): tenant for tenant in prompts.tenants() for query in ("问", "?")}

    def answer(self, system: str, user: str) -> str:
        """The answer to one task. Raises Refused for a prompt that is none of its own."""
        if self._grader and system == graded_prompt("answer_question"):
            return self._grader.answer(user)
        if self._grader and system == graded_prompt("judge_answer"):
            try:
                return self._grader.verdict(user)
            except ValueError as error:
                raise Refused(400, str(error), "bad_task") from None
        if self._solver and system in _FINANCE:
            return self._on_finance(_FINANCE[system], user)
        if system in self._rewriting and self._rewriters:
            asked = _ASKED.fullmatch(user)
            question = asked["question"] if asked else user
            rewriter = self._for_tenant(self._rewriting[system], question)
            return rewriter.rewrite(question, f"{asked['profile'] or ''} {asked['history'] or ''}" if asked else "")
        if system == prompts.prompt("judge_rewrite") and self._rewriters:
            judged = _JUDGED.fullmatch(user)
            if not judged:
                raise Refused(400, "a rewrite is judged as lines: 原始问题：…, maybe 用户画像：… and 历史摘要：…, and 改写：…", "bad_task")
            question, rewrite = judged.groups()
            return judging.verdict(self._rewriters[self._judge] if self._judge else self._knowing(question), question, rewrite)
        if system == prompts.prompt("judge_group") and self._rewriters:
            judged = _JUDGED_TOGETHER.fullmatch(user)
            if not judged:
                raise Refused(
                    400, "rewrites are judged as lines: 原始问题：…, maybe 用户画像：… and 历史摘要：…, and 改写1：…, 改写2：…", "bad_task"
                )
            rewrites = dict(re.findall(r"改写(\d+)：([^\n]*)", judged["rewrites"]))
            rewriter = self._rewriters[self._judge] if self._judge else self._knowing(judged["question"])
            return judging.verdicts(rewriter, judged["question"], {int(number): text for number, text in rewrites.items()})
        if system == prompts.prompt("extract_profile"):
            return judging.profile(user)
        if system in _MEDICAL:
            return self._on_medicine(_MEDICAL[system], user)
        raise Refused(
            400,
            f"{NAME} is no model: it knows this project's system prompts judge_medical, judge_rubrics, write_rubrics and extract_profile, "
            "with a knowledge base rewrite_<tenant>, judge_rewrite and judge_group, with a finance sample solve_finance, judge_reasoning "
            "and judge_finance; for any other set OVERTAKE_TEACHER_BASE_URL to a real model",
            "unknown_task",
        )

    def _on_medicine(self, task: str, user: str) -> str:
        if task == "write_rubrics":
            if about := _RUBRICS.fullmatch(user):
                return mock_judge.rubrics(about["question"], about["reference"] or "")
            raise Refused(400, "rubrics are written for lines: 患者问题：…, maybe 参考答案：…, and 规则书：…", "bad_task")
        answered = _ANSWERED.fullmatch(user)
        criteria = _object(answered["criteria"]) if answered and answered["criteria"] else None
        if not answered or (task == "judge_rubrics" and not criteria):
            raise Refused(
                400,
                "an answer is judged as lines: 患者问题：…, maybe 参考答案：… and 评分项：{…}, 待评回答：…, maybe 要填的 JSON：…",
                "bad_task",
            )
        try:
            if criteria and task == "judge_rubrics":
                return mock_judge.met(list(criteria.values()), answered["answer"])
            return mock_judge.verdict(answered["question"], answered["reference"] or "", answered["answer"])
        except TimeoutError as error:
            raise Refused(400, str(error), "too_slow") from None

    def _on_finance(self, task: str, user: str) -> str:
        assert self._solver
        if task == "solve_finance":
            return self._solver.solve(user)
        if task == "judge_finance":
            if graded := _GRADED.fullmatch(user):
                return finance.answer_verdict(*graded.groups())
            raise Refused(400, "an answer is judged as three lines: 问题：…, 标准答案：… and 待评答案：…", "bad_task")
        try:
            return finance.reasoning_verdict(user)
        except (ValueError, KeyError, TypeError):
            raise Refused(400, "a solution is judged as a JSON object with question, reference and response", "bad_task") from None

    def _for_tenant(self, tenant: str, question: str) -> Rewriter:
        if tenant in self._rewriters:
            return self._rewriters[tenant]
        if tenant == "default":
            return self._knowing(question)
        raise Refused(400, f"no knowledge base of tenant {tenant!r}; there are: {', '.join(self._rewriters)}", "unknown_tenant")

    def _knowing(self, question: str) -> Rewriter:
        """The knowledge base that knows the question's words best; of equals the first."""
        return max(self._rewriters.values(), key=lambda rewriter: rewriter.knows(question))


def _object(text: str) -> dict[str, str] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return {str(name): str(each) for name, each in value.items()} if isinstance(value, dict) else None


def create_app(
    rewriters: dict[str, Rewriter],
    judge_tenant: str | None = None,
    api_key: str = "",
    grader: Grader | None = None,
    solver: finance.Solver | None = None,
) -> FastAPI:
    """The HTTP service over rewriters by tenant, a grader of answers, a solver of finance problems; with an `api_key`, /v1 wants it."""
    tasks = Tasks(rewriters, judge_tenant, grader, solver)
    app = FastAPI(title="Overtake mock teacher: no model", version="1")
    started = int(time.time())

    # async, and no thread: a request takes a few milliseconds of Python.
    @app.post("/v1/chat/completions")
    async def complete(body: Completion, request: Request) -> JSONResponse:
        """One answer of the mock teacher."""
        _check_key(request, api_key)
        _check(body)
        system = "\n".join(message.content for message in body.messages if message.role in ("system", "developer")).strip()
        users = [message.content.strip() for message in body.messages if message.role not in ("system", "developer")]
        if len(users) != 1:
            raise Refused(400, f"{len(users)} messages beside the system prompt: send one user message", "bad_task")
        text = tasks.answer(system, users[0])
        limit = min(body.max_tokens or len(text), body.max_completion_tokens or len(text))
        finish, text = ("length" if limit < len(text) else "stop"), text[:limit]
        asked = len(system) + len(users[0])
        digest = hashlib.sha256(f"{system}\0{users[0]}".encode("utf-8", "backslashreplace")).hexdigest()[:16]
        return JSONResponse(
            {
                "id": f"{NAME}-{digest}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": NAME,
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
                "usage": {"prompt_tokens": asked, "completion_tokens": len(text), "total_tokens": asked + len(text)},
            }
        )

    @app.get("/v1/models")
    async def models(request: Request) -> JSONResponse:
        """The two names the mock teacher answers to."""
        _check_key(request, api_key)
        rows = [{"id": name, "object": "model", "created": started, "owned_by": "overtake"} for name in (NAME, STRICT)]
        return JSONResponse({"object": "list", "data": rows})

    @app.get("/health")
    async def health(request: Request) -> JSONResponse:
        """What it is and, to who brings the key, what it uses."""
        if not _opens(request, api_key):
            return JSONResponse({"status": "ok", "model": NAME})
        uses = [
            {"tenant_id": tenant, "documents": len(rewriter.kb), "lexicon": len(rewriter.kb.lexicon), "labels": rewriter.labelled}
            for tenant, rewriter in rewriters.items()
        ]
        return JSONResponse({"status": "ok", "model": NAME, "knowledge_bases": uses})

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return _error(error.status, error.message, error.code, error.param)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = "; ".join(f"{'.'.join(map(str, detail['loc'][1:])) or 'body'}: {detail['msg']}" for detail in error.errors())
        return _error(400, problems, "invalid_value")

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, f"{request.method} {request.url.path}: {error.detail}", "unknown_url")

    return app


def _opens(request: Request, api_key: str) -> bool:
    sent = request.headers.get("authorization", "")
    return not api_key or hmac.compare_digest(sent.encode(), f"Bearer {api_key}".encode())


def _check_key(request: Request, api_key: str) -> None:
    if not _opens(request, api_key):
        sent = request.headers.get("authorization", "")
        raise Refused(
            401, "Incorrect API key provided." if sent else "You didn't provide an API key: send it as a Bearer token.", "invalid_api_key"
        )


def _check(body: Completion) -> None:
    if body.model not in (NAME, STRICT):
        raise Refused(
            404, f"The model `{body.model}` does not exist: this mock teacher answers to {NAME} and {STRICT}.", "model_not_found", "model"
        )
    if body.stream:
        raise Refused(400, "stream=true: a mock teacher answers whole; leave stream out.", "unsupported_value", "stream")
    if body.n not in (None, 1):
        raise Refused(400, f"n={body.n}: a mock teacher gives one answer; leave n out.", "unsupported_value", "n")
    if body.model != STRICT:
        return
    if body.max_tokens is not None:
        problem = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        raise Refused(400, problem, "unsupported_parameter", "max_tokens")
    if body.temperature not in (None, 1):
        problem = f"Unsupported value: 'temperature' does not support {body.temperature:g} with this model."
        problem += " Only the default (1) value is supported."
        raise Refused(400, problem, "unsupported_value", "temperature")


def _error(status: int, message: str, code: str | None, param: str | None = None) -> JSONResponse:
    # A lone surrogate in what was sent must not break the answer that names it.
    printable = message.encode("utf-8", "backslashreplace").decode()
    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse({"error": {"message": printable, "type": kind, "param": param, "code": code}}, status_code=status)
