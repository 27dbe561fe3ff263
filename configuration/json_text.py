"""JSON as operators write it: with comments, trailing commas and two slips that leave nothing to guess.

A comma or a colon that is missing between two values is read as if it were there, and told. Everything else that is
wrong ends the reading with its place and with what is expected there. No library we know tells both the place of each
value and what is expected, so the text is read here; what it may hold is RFC 8259.
"""

import json
import re
from typing import Final, NoReturn

from clara_dicom_adapter.configuration.document import DEEPEST, Node, Scalar, Slip, TextInvalid

_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING: Final = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.])")
_WORD: Final = re.compile(r"[^\s,:\[\]{}\"/]+")
_LITERALS: Final[dict[str, Scalar]] = {"true": True, "false": False, "null": None}
_VALUE: Final = "a value (text in double quotes, a number, true, false, null, an object or a list)"
_LONGEST_NUMBER: Final = 400


def parse(text: str) -> tuple[Node, list[Slip]]:
    """Read a text that holds one object.

    Returns:
        The object, and the slips that were read over.

    Raises:
        TextInvalid: It cannot be read.
    """
    reader = _Reader(text)
    return reader.document(), reader.slips


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._end_of_last = 0  # of what is no blank and no comment
        self.slips: list[Slip] = []

    def document(self) -> Node:
        if self._next() != "{":
            self._fail("{ is expected at the beginning")
        value = self._value(0, None)
        if self._next():
            self._fail("the end of the text is expected")
        return value

    # ---- places ----

    def _place(self, at: int) -> tuple[int, int]:
        return self._text.count("\n", 0, at) + 1, at - self._text.rfind("\n", 0, at)

    def _fail(self, text: str, at: int | None = None, found: str | None = None) -> NoReturn:
        if found is None:
            found = self._found()
        line, column = self._place(self._at if at is None else at)
        raise TextInvalid([*self.slips, Slip(line, column, f"{text}{found and f', not {found}'}")])

    def _found(self) -> str:
        """What stands here, for a message."""
        if self._at >= len(self._text):
            return "the end of the file"
        word = _STRING.match(self._text, self._at) or _WORD.match(self._text, self._at)
        shown = word[0] if word else self._text[self._at]
        return shown if len(shown) <= 40 else f"{shown[:40]}..."

    def _missing(self, what: str) -> None:
        """Note what is missing behind what was read last."""
        line, column = self._place(self._end_of_last)
        self.slips.append(Slip(line, column, f"{what} is missing before {self._found()}"))

    def _next(self) -> str:
        """The next character that is no blank and no comment; empty at the end."""
        blank = _BLANK.match(self._text, self._at)
        self._at = blank.end() if blank else self._at
        if self._text.startswith("/*", self._at):
            self._fail("*/ is expected behind this comment", found="")
        return self._text[self._at : self._at + 1]

    def _taken(self, end: int) -> None:
        self._at = self._end_of_last = end

    # ---- values ----

    def _value(self, depth: int, place: tuple[int, int] | None) -> Node:
        first = self._next()
        line, column = place or self._place(self._at)
        if depth > DEEPEST:
            self._fail(f"no more than {DEEPEST} levels are expected", found="")
        if first == "{":
            return Node(self._object(depth), line, column)
        if first == "[":
            return Node(self._list(depth), line, column)
        if first == '"':
            return Node(self._string("text"), line, column)
        return Node(self._scalar(), line, column)

    def _object(self, depth: int) -> dict[str, Node]:
        opened = self._at
        self._taken(self._at + 1)
        members: dict[str, Node] = {}
        while (first := self._next()) != "}":
            if first != '"':
                self._fail(f"a key in double quotes or }} is expected in the object of {self._line_of(opened)}")
            place = self._place(self._at)
            key = self._string("a key")
            if key in members:
                self._fail(f"{json.dumps(key)} stands here already, in line {members[key].line}", found="")
            colon = self._next()
            if colon == ":":
                self._taken(self._at + 1)
            elif self._begins_value(colon):
                self._missing("a colon")
            else:
                self._fail(f"a colon is expected behind the key {json.dumps(key)}")
            members[key] = self._value(depth + 1, place)
            self._comma("}", opened)
        self._taken(self._at + 1)
        return members

    def _list(self, depth: int) -> list[Node]:
        opened = self._at
        self._taken(self._at + 1)
        elements: list[Node] = []
        while self._next() != "]":
            elements.append(self._value(depth + 1, None))
            self._comma("]", opened)
        self._taken(self._at + 1)
        return elements

    def _comma(self, close: str, opened: int) -> None:
        """Between two members or elements, or behind the last."""
        follows = self._next()
        if follows == ",":
            self._taken(self._at + 1)
        elif follows == close:
            return
        elif follows == '"' or (close == "]" and self._begins_value(follows)):
            self._missing("a comma")
        else:
            kind = "object" if close == "}" else "list"
            self._fail(f"a comma or {close} is expected in the {kind} of {self._line_of(opened)}")

    def _line_of(self, at: int) -> str:
        return f"line {self._place(at)[0]}"

    def _begins_value(self, first: str) -> bool:
        return bool(first) and (first in '"{[-' or first.isalnum())

    def _string(self, what: str) -> str:
        match = _STRING.match(self._text, self._at)
        if match is None:
            self._fail(f'{what} ends with " in the line that it begins in', found="")
        try:
            value: str = json.loads(match[0], strict=False)
        except ValueError:
            self._fail(f"{what} has only the escapes of JSON", found=self._found())
        self._taken(match.end())
        return value

    def _scalar(self) -> Scalar:
        number = _NUMBER.match(self._text, self._at)
        if number is not None and number.end() - self._at <= _LONGEST_NUMBER:
            digits = number[0]
            value: Scalar = int(digits) if digits.lstrip("-").isdecimal() else float(digits)
            if value in (float("inf"), float("-inf")):
                self._fail("a smaller number is expected")
            self._taken(number.end())
            return value
        word = _WORD.match(self._text, self._at)
        if word is None or word[0] not in _LITERALS:
            self._fail(f"{_VALUE} is expected")
        self._taken(word.end())
        return _LITERALS[word[0]]
