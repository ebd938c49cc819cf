"""An event loop whose clock jumps to whatever is due next: tests of pacing and pauses wait for nothing and are exact."""

import asyncio
import selectors


class _Jumping(selectors.SelectSelector):
    """Where a loop would wait for its next timer, its time moves on instead."""

    now = 0.0

    def select(self, timeout=None):
        assert timeout is not None, "all wait and nothing will wake them"
        self.now += timeout
        return super().select(0)

    def time(self):
        self.now += 1e-9  # a real clock never stands still, and aiolimiter would spin on one that does
        return self.now


def run(main):
    """The result of the coroutine function `main(loop)`; loop.time() is virtual and begins at 0."""
    selector = _Jumping()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = selector.time
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.close()
