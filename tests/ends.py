"""How workers end, for tests of what starts them."""

import os
import signal

from emamba.base.errors import EmambaError


def refuse(k: int) -> None:
    raise EmambaError("it refuses") if k else SystemExit(0)


def fail(_k: int) -> None:
    raise ZeroDivisionError


def die(_k: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
