"""For `swift deploy`: a client that hangs up ends its generation, which would go on to its last token and hold its place so long.

ms-swift awaits an answer that is not streamed whoever is still there. vLLM gives a request up when the task that waits for it is cancelled;
the transformers engine, whose thread knows nothing of tasks, has to be told.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any


class EndWithClient:
    """Middleware (ASGI) that cancels the work on a request when its client has left before the answer."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection's request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        messages: asyncio.Queue[Any] = asyncio.Queue()
        answered = False

        async def listen() -> None:
            while True:
                message = await receive()
                messages.put_nowait(message)
                if message["type"] == "http.disconnect":
                    return

        async def tell(message: Any) -> None:
            nonlocal answered
            answered = answered or (message["type"] == "http.response.body" and not message.get("more_body", False))
            await send(message)

        work, listening = asyncio.ensure_future(self.app(scope, messages.get, tell)), asyncio.ensure_future(listen())
        try:
            await asyncio.wait({work, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not answered:
                work.cancel()
            await work
        except asyncio.CancelledError:
            work.cancel()
            if not listening.done():  # it is the server that stops
                raise
        finally:
            listening.cancel()


def end_with_client() -> None:
    """Let a client end its generation in every `swift deploy` of this process; doing it again changes nothing."""
    from swift.pipelines.infer.deploy import SwiftDeploy

    install = SwiftDeploy._install_auth_middleware
    if hasattr(install, "ends_with_client"):
        return

    def install_both(self: Any) -> None:
        install(self)
        self.app.add_middleware(EndWithClient)
        if self.args.infer_backend == "transformers":
            end_with_task(self.infer_engine)

    install_both.ends_with_client = True  # type: ignore[attr-defined]
    SwiftDeploy._install_auth_middleware = install_both


def end_with_task(engine: Any) -> None:
    """Have ms-swift's TransformersEngine give up each request whose task is cancelled: in its queue, and at the next token of its batch."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    ask, fetch, generate = engine.infer_async, engine._fetch_infer_requests, engine.template.generate
    batch: list[Any] = []
    """The requests that the engine's thread works on."""

    class GivenUp(StoppingCriteria):
        """Ends the rows whose client has left."""

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            given_up = torch.tensor([hasattr(request, "given_up") for request in batch], device=input_ids.device)
            return given_up.repeat_interleave(len(input_ids) // len(batch))  # samples and beams of a request stand together

    async def infer_async(infer_request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            answer = await ask(infer_request, *args, **kwargs)
        except asyncio.CancelledError:
            infer_request.given_up = True
            raise
        return answer if hasattr(answer, "choices") or not hasattr(answer, "__aiter__") else streamed(infer_request, answer)

    async def streamed(infer_request: Any, parts: AsyncIterator[Any]) -> AsyncIterator[Any]:
        try:
            async for part in parts:
                yield part
        finally:
            infer_request.given_up = True

    def fetch_wanted() -> Any:
        while (fetched := fetch()) is not None:
            kwargs, places = fetched
            unanswered = [
                (request, place)
                for request, place in zip(kwargs["infer_requests"], places, strict=True)
                if not hasattr(request, "given_up")
            ]
            if unanswered:
                batch[:] = [request for request, _ in unanswered]
                return kwargs | {"infer_requests": list(batch)}, [place for _, place in unanswered]
        return None

    def generate_while_wanted(model: Any, *args: Any, **kwargs: Any) -> Any:
        criteria = StoppingCriteriaList([*kwargs.pop("stopping_criteria", ()), GivenUp()])
        return generate(model, *args, stopping_criteria=criteria, **kwargs)

    engine.infer_async, engine._fetch_infer_requests, engine.template.generate = infer_async, fetch_wanted, generate_while_wanted
