"""The one exception users meet: a sentence that says what is wrong, where, the limit and the remedy."""


class EmambaError(Exception):
    """A refusal. Its text is the sentence printed on standard error; the exit status is 1."""


class Fault(EmambaError):
    """A fault of this program and no refusal; its cause is the exception that nobody expected."""


def brief(error: Exception | str) -> str:
    """The beginning of a library's message, which may quote all of a file."""
    text = str(error)
    return text if len(text) <= 200 else f"{text[:200]}…"
