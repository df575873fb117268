"""What users meet: a sentence that says what is wrong, where, the limit and the remedy. Its class says what a caller can do."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy


class EmambaError(Exception):
    """A refusal. Its text is the sentence printed on standard error; the exit status is 1. What is raised is one of the kinds
    below."""

    def within(self, where: str) -> "EmambaError":
        """The same refusal, of the same kind, whose sentence says where."""
        found = copy(self)
        found.args = (f"{where}: {self}",)
        return found


class InputError(EmambaError):
    """What was read is bad: a file, data, an artifact, a module. Mend it, or give another."""


class SettingError(EmambaError):
    """An option, a setting or an argument cannot be. Change it."""


class OutputError(EmambaError):
    """A place cannot be written, or holds what must not be replaced. Name another, or make room."""


class ToolMissing(EmambaError):
    """A program, a package or an extra is not installed. Install it."""


class ToolFailed(EmambaError):
    """A program that was started ended with a fault. Read what it said, and mend the machine, or report it."""


class DesignLimit(EmambaError):
    """The model cannot become such integers or such hardware. Take other formats, cycles per token, or another device."""


class Diverged(EmambaError):
    """Numbers of a model or a training are not finite, or too large. Lower a learning rate, or rescale data or weights."""


class Mismatch(EmambaError):
    """What must agree does not. Use neither, and report it."""


class DeviceError(EmambaError):
    """A board, its bus or its driver does not answer as it should. Reset it, program it again, or check how it is connected."""


class SimulationStopped(EmambaError):
    """A simulation ended before its answer was whole. `kind` is "stop" where nothing moves any more, "surplus" where more comes
    out than the input asks for, and "crash" where the simulator itself ended."""

    def __init__(self, sentence: str, kind: str = "crash"):
        super().__init__(sentence)
        self.kind = kind


class Fault(EmambaError):
    """A fault of this program and no refusal; its cause is the exception that nobody expected. Report it."""


@contextmanager
def located(where: str) -> Iterator[None]:
    """Refusals in the block say where they are."""
    try:
        yield
    except EmambaError as error:
        raise error.within(where) from None


def extra(names: str) -> str:
    """How the extras of these names are installed: no index has this package yet."""
    return f"pip install '.[{names}]' in the checkout"


def printable(text: str) -> str:
    """With a question mark for what cannot be printed."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def brief(error: object) -> str:
    """The beginning of a value's text, such as a library's message, which may quote all of a file."""
    text = str(error)
    return text if len(text) <= 200 else f"{text[:200]}…"
