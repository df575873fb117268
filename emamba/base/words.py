"""Numbers as people read them."""


def counted(count: int, noun: str) -> str:
    """1 token, 1,404 tokens."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def time_words(microseconds: float) -> str:
    """A time of three digits: 4.46 µs, 2.44 ms."""
    value, unit = microseconds, "µs"
    for longer in ("ms", "s"):
        if value >= 999.5:
            value, unit = value / 1000, longer
    return (f"{value:.3g}" if value < 999.5 else f"{value:,.0f}") + f" {unit}"
