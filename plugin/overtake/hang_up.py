"""For `swift deploy`: a client that hangs up ends its generation, which would go on to its last token and hold its place so long.

ms-swift awaits an answer that is not streamed whoever is still there. vLLM gives a request up when the task that waits for it is cancelled.
"""

import asyncio
from typing import Any


class EndWithClient:
    """ASGI middleware that cancels the work on a request when its client has left before the answer."""

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
    """Put EndWithClient around the service of every `swift deploy` in this process; doing it again changes nothing."""
    from swift.pipelines.infer.deploy import SwiftDeploy

    install = SwiftDeploy._install_auth_middleware
    if hasattr(install, "ends_with_client"):
        return

    def install_both(self: Any) -> None:
        install(self)
        self.app.add_middleware(EndWithClient)

    install_both.ends_with_client = True  # type: ignore[attr-defined]
    SwiftDeploy._install_auth_middleware = install_both
