"""The one exception users meet: a sentence that says what is wrong, where, the limit and the remedy."""


class EmambaError(Exception):
    """A refusal. Its text is the sentence printed on standard error; the exit status is 1."""
