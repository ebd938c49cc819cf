"""The clients that are compared, each as its documents recommend for many calls: at most `concurrency` at once, nothing cached.

`python benchmarks/remote/contenders.py JOB_FILE`, with the Python of the environment that the client is installed in. What a client
does once, such as imports and its first call, is done before the clock starts; a framework starts itself inside.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from job import Job, work

_MODEL = "bench"
_KEY = "none"
_LIMIT = 200


def ours_retrieval(job: Job) -> None:
    """overtake.remote: retrieval."""
    from overtake.remote.rag import rag_call, rag_gateway

    _ours(job, rag_gateway(), lambda text: rag_call(text, text, "bench"))


def ours_chat(job: Job) -> None:
    """overtake.remote: chat."""
    from overtake.remote.chat import chat_call, chat_gateway, endpoint

    _ours(job, chat_gateway("teacher"), lambda text: chat_call(endpoint("teacher"), job.messages(text), _LIMIT))


def _ours(job: Job, gateway: Any, call: Callable[[str], Any]) -> None:
    from overtake.remote.gateway import Ok

    gateway.run([call("first")])
    with job.timed():
        results = gateway.run([call(text) for text in job.texts])
    job.result["done"] = sum(isinstance(result, Ok) for result in results)


def aiohttp_bare(job: Job) -> None:
    """A session and nothing else: what any client over aiohttp can reach at most."""
    import aiohttp

    async def main() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def send(text: str) -> None:
                async with session.post(f"{job.url}/api/chat/general_rag", json=job.retrieval(text)) as response:
                    assert (await response.json())["data"]["recall"]

            await _by_workers(job, send)

    asyncio.run(main())


def httpx_over_aiohttp(job: Job) -> None:
    """httpx's API on aiohttp's connections."""
    from httpx_aiohttp import AiohttpTransport

    _httpx(job, transport=AiohttpTransport())


def httpx_plain(job: Job) -> None:
    """httpx with its own pool."""
    _httpx(job)


def _httpx(job: Job, **options: Any) -> None:
    import httpx

    async def main() -> None:
        async with httpx.AsyncClient(timeout=60, **options) as client:

            async def send(text: str) -> None:
                response = await client.post(f"{job.url}/api/chat/general_rag", json=job.retrieval(text))
                assert response.json()["data"]["recall"]

            await _by_workers(job, send)

    asyncio.run(main())


def openai_sdk(job: Job) -> None:
    """AsyncOpenAI as it comes."""
    _openai(job)


def openai_over_aiohttp(job: Job) -> None:
    """AsyncOpenAI with the client that its documents offer for many calls at once."""
    from openai import DefaultAioHttpClient

    _openai(job, http_client=DefaultAioHttpClient())


def _openai(job: Job, **options: Any) -> None:
    from openai import AsyncOpenAI

    async def main() -> None:
        async with AsyncOpenAI(base_url=f"{job.url}/v1", api_key=_KEY, **options) as client:

            async def send(text: str) -> None:
                answer = await client.chat.completions.create(model=_MODEL, messages=job.messages(text), max_tokens=_LIMIT)
                assert answer.choices[0].message.content

            await _by_workers(job, send)

    asyncio.run(main())


def litellm(job: Job) -> None:
    """litellm.acompletion."""
    from litellm import acompletion

    async def send(text: str) -> None:
        answer = await acompletion(f"openai/{_MODEL}", job.messages(text), max_tokens=_LIMIT, base_url=f"{job.url}/v1", api_key=_KEY)
        assert answer.choices[0].message.content

    asyncio.run(_by_workers(job, send))


async def _by_workers(job: Job, send: Callable[[str], Awaitable[None]]) -> None:
    """Send all texts by as many workers as may be at it at once; what raises is not done."""
    await send("first")
    texts = iter(job.texts)

    async def worker() -> None:
        for text in texts:
            try:
                await send(text)
            except Exception as error:  # noqa: BLE001 - whatever a client raises is a row it has lost
                job.result["error"] = repr(error)[:300]
            else:
                job.result["done"] += 1

    with job.timed():
        await asyncio.gather(*[worker() for _ in range(job.concurrency)])


def distilabel(job: Job) -> None:
    """A pipeline of one TextGeneration: a batch of `concurrency` rows goes at once, the next when all of them are back."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    rows = [{"instruction": text, "system_prompt": job.messages(text)[0]["content"]} for text in job.texts]
    with Pipeline("bench", cache_dir=job.folder) as pipeline:
        model = OpenAILLM(model=_MODEL, base_url=f"{job.url}/v1", api_key=_KEY, generation_kwargs={"max_new_tokens": _LIMIT})
        load = LoadDataFromDicts(data=rows, batch_size=job.concurrency)
        load >> TextGeneration(llm=model, input_batch_size=job.concurrency)
    with job.timed():
        dataset = pipeline.run(use_cache=False)
    job.result["done"] = sum(bool(text) for text in dataset["default"]["train"]["generation"])


def distilabel_llm(job: Job) -> None:
    """Its LLM alone, without a pipeline, given `concurrency` rows at a time."""
    from distilabel.models import OpenAILLM

    model = OpenAILLM(model=_MODEL, base_url=f"{job.url}/v1", api_key=_KEY)
    model.load()
    model.generate_outputs(inputs=[job.messages("first")], max_new_tokens=_LIMIT)
    texts = job.texts
    with job.timed():
        for start in range(0, len(texts), job.concurrency):
            inputs = [job.messages(text) for text in texts[start : start + job.concurrency]]
            outputs = model.generate_outputs(inputs=inputs, max_new_tokens=_LIMIT)
            job.result["done"] += sum(bool(output["generations"][0]) for output in outputs)


def curator(job: Job) -> None:
    """curator.LLM with its limits a minute out of the way."""
    import litellm as bundled

    # tiktoken would fetch its encoding; litellm brings it along.
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(bundled.__file__).parent / "litellm_core_utils/tokenizers")
    from bespokelabs import curator as library

    class Rewriter(library.LLM):
        def prompt(self, row: dict[str, str]) -> list[dict[str, str]]:
            return job.messages(row["question"])

        def parse(self, row: dict[str, str], response: str) -> dict[str, str]:
            return {"question": row["question"], "rewrite": response}

    limits = {"max_requests_per_minute": 10**7, "max_tokens_per_minute": 10**10, "max_concurrent_requests": job.concurrency}
    endpoint = {"base_url": f"{job.url}/v1", "api_key": _KEY}
    model = Rewriter(_MODEL, backend="openai", generation_params={"max_tokens": _LIMIT}, backend_params={**endpoint, **limits})
    with job.timed():
        answers = model([{"question": text} for text in job.texts], working_dir=job.folder)
    job.result["done"] = sum(bool(text) for text in answers.dataset["rewrite"])


def swift_sample(job: Job) -> None:
    """ms-swift's `swift sample --sampler_type distill`, which asks for one answer after the other."""
    from swift.pipelines import sampling_main

    folder = Path(job.folder)
    old = {"role": "assistant", "content": "-"}  # an answer must stand there, to be left out
    lines = [json.dumps({"messages": [*job.messages(text), old]}, ensure_ascii=False) + "\n" for text in job.texts]
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    engine = json.dumps({"base_url": f"{job.url}/v1", "api_key": _KEY})
    flags = f"--sampler_type distill --sampler_engine client --model {_MODEL} --num_return_sequences 1 --max_new_tokens {_LIMIT}"
    files = ["--dataset", str(folder / "rows.jsonl"), "--output_dir", str(folder), "--output_file", "made.jsonl"]
    with job.timed():
        sampling_main([*flags.split(), *files, "--engine_kwargs", engine, "--load_from_cache_file", "false"])
    job.result["done"] = (folder / "made.jsonl").read_bytes().count(b"\n")


CONTENDERS = (
    ours_retrieval,
    ours_chat,
    aiohttp_bare,
    httpx_over_aiohttp,
    httpx_plain,
    openai_sdk,
    openai_over_aiohttp,
    litellm,
    distilabel,
    distilabel_llm,
    curator,
    swift_sample,
)

if __name__ == "__main__":
    work({contender.__name__: contender for contender in CONTENDERS})
