"""The C of an operator in the types of a node: its words for types and sizes are replaced, and its functions get a number."""

import re
from functools import cache
from pathlib import Path

CHUNK = re.compile(r"^(?:/\*.*?\*/\n)?(?:INLINE|OPERATOR) .*?(?:^\}\n|\}\n(?=\n|OPERATOR|\Z))", re.MULTILINE | re.DOTALL)
COMMENT = r"/\*(?:.|\n)*?\*/"
HEAD = re.compile(r"^(?:INLINE|OPERATOR) [\w ]*?\**(\w+)\(", re.MULTILINE)
SHORT = {f"{sign}int{bits}_t": f"{kind}{bits}" for sign, kind in (("", "i"), ("u", "u")) for bits in (8, 16, 32, 64)}
"""Names of types in those of functions."""


@cache
def functions(source: Path) -> dict[str, str]:
    """The C functions of a file by name, each with the comment above it."""
    chunks = [match[0] for match in CHUNK.finditer(source.read_text(encoding="utf-8"))]
    return {name: chunk for chunk in chunks for name in HEAD.findall(chunk)[:1]}


class Instances:
    """Functions of operators in the types that nodes need, each once."""

    def __init__(self) -> None:
        self._names: dict[tuple, str] = {}
        self.texts: list[str] = []

    def name(self, source: Path | None, function: str, words: dict[str, str]) -> str:
        """The name of `function` of the file `source` with every one of `words` replaced."""
        assert source
        known = functions(source)
        needed = _needed(known, function)
        code = "".join(re.sub(COMMENT, "", known[name]) for name in needed)
        used = {word: new for word, new in words.items() if re.search(rf"\b{word}\b|_{word}\b", code)}
        key = source, function, tuple(sorted(used.items()))
        if key in self._names:
            return self._names[key]
        number = sum(other[:2] == key[:2] for other in self._names) + 1
        names = {name: f"{name}_{number}" for name in needed}
        text = "\n".join(known[name] for name in known if name in needed)
        self.texts.append(_replaced(text, names | used | {"OPERATOR": "INLINE"}))
        return self._names.setdefault(key, names[function])


def _replaced(text: str, words: dict[str, str]) -> str:
    """`text` with whole words replaced outside of comments, and names such as requantize_sum by the type of `sum`."""
    pattern = re.compile(rf"({COMMENT})|\b({'|'.join(words)})\b|\b(left|round|saturate|requantize)_(sum|state|wide)\b", re.DOTALL)

    def new(match: re.Match) -> str:
        comment, word, function, kind = match.groups()
        return comment or (words[word] if word else f"{function}_{SHORT[words[kind]]}")

    return re.sub(r"^ +\n", "", pattern.sub(new, text), flags=re.MULTILINE)


def _needed(known: dict[str, str], function: str) -> list[str]:
    """A function and those of its file that it calls."""
    found, left = [], [function]
    while left:
        name = left.pop()
        found.append(name)
        left += [other for other in known if other not in found + left and re.search(rf"\b{other}\(", _body(known[name]))]
    return found


def _body(text: str) -> str:
    return text[text.index("{"):]
