"""Calls of the driver that are broken off at one call of its transport after another."""

import sys
from itertools import count, cycle

import pytest

from emamba.base.errors import EmambaError

FUNCTIONS = ("read32", "write32", "send", "receive", "abort")
CAUSES = (KeyboardInterrupt, TimeoutError, EmambaError("the line fails"), OSError("the bus fails"), RuntimeError)


class Failing:
    """`transport`, of which the call number `fails` raises `cause`, before or after what it does."""

    def __init__(self, transport):
        self.transport, self.calls, self.fails, self.late, self.cause = transport, 0, 0, False, None

    def __getattr__(self, name):
        inner = getattr(self.transport, name)
        if name not in FUNCTIONS:
            return inner

        def call(*arguments):
            self.calls += 1
            fails = self.calls == self.fails
            if fails and not self.late:
                raise self.cause
            result = inner(*arguments)
            if fails:
                raise self.cause
            return result

        return call

    def arm(self, fails: int, late: bool = False, cause=None) -> None:
        self.calls, self.fails, self.late, self.cause = 0, fails, late, cause


def stopped(action, files: tuple[str, ...], line: int) -> bool:
    """Whether Ctrl-C came before the line of that number, of those of `files` that the action runs, was run."""
    seen = 0

    def trace(frame, event, _):
        nonlocal seen
        if not frame.f_code.co_filename.endswith(files):
            return None
        if event == "line":
            seen += 1
            if seen == line:
                raise KeyboardInterrupt
        return trace

    old = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(old)
    return seen >= line


def broken_off(failing: Failing, action, step: int = 1):
    """Runs the action again and again, broken off at every `step`-th call, before and after it; yields when it was. The first and
    the last twelve calls are all tried."""
    failing.arm(0)
    action()
    total, causes = failing.calls, cycle(CAUSES)
    for k in count(1):
        if k > total:
            return
        if 12 < k < total - 12 and k % step:
            continue
        for late in (False, True):
            failing.arm(k, late, next(causes))
            with pytest.raises((KeyboardInterrupt, EmambaError, RuntimeError)):
                action()
            assert failing.calls >= k
            failing.arm(0)
            yield k, late
