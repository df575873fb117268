"""Parity of memories, an option: a bit beside every word, so that one flipped bit is noticed as the word is read. It corrects
nothing: the answer in hand may be wrong, and a counter says so."""

from .hdl import Cat, Value


def encode(value: Value, protected: bool) -> Value:
    """What a memory stores; its initial words are `encode_word`'s."""
    return Cat(value, Value.cast(value).xor()) if protected else value


def decode(data: Value, protected: bool) -> Value:
    """The word of what a memory gives, whose own parity is then even."""
    return data[:-1] if protected else data


def encode_word(word: int, bits: int, protected: bool) -> int:
    return word | (word.bit_count() & 1) << bits if protected else word
