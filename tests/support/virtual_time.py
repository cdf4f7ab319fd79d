"""An asyncio loop whose clock jumps to the next timer instead of waiting: hours of simulated time
in seconds.
"""

import asyncio
from unittest import mock


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` starts at 0. When nothing is left that could ever happen, it raises instead of
    hanging.
    """

    def __init__(self):
        super().__init__()
        self.now, real = 0.0, self._selector.select

        def jump(timeout):
            events = real(0)
            if not events:
                if timeout is None:
                    raise RuntimeError("everything waits for ever")
                self.now += timeout
            return events

        self._selector.select = jump

    def time(self):
        return self.now


def run(work):
    """What the coroutine returns, run in virtual time; time.monotonic is virtual meanwhile."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        with mock.patch("time.monotonic", runner.get_loop().time):
            return runner.run(work)
