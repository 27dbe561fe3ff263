"""YAML as the 0.6 files have it, read into text that knows where it stands.

What stands there is taken as text, whatever it looks like, and the settings' types say what it means: a pipeline id of
digits stays an id, and an AE title ``NO`` stays one.
"""

from typing import Final

import yaml

from clara_dicom_adapter.configuration.document import DEEPEST, Node, Slip, TextInvalid

_MOST: Final = 100_000
"""Values in one file, aliases counted as often as they are used."""
_EXPECTED: Final = {
    "mapping values are not allowed": "a key begins a line of its own",
    r"found character '\t'": "blanks are expected instead of the tab",
    "expected ':'": "a colon and a blank are expected after a key",
    "expected <block end>": "lines that belong together are expected to begin in the same column",
    "unexpected end of stream": "a quotation mark, a bracket or a brace is expected before the end",
}
"""What belongs there, by the words in which the library says what is wrong."""
_NULL: Final = "tag:yaml.org,2002:null"


def parse(text: str) -> Node:
    """Read a text that holds one document; an empty one is an empty mapping.

    Raises:
        TextInvalid: It cannot be read.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.problem, error.context) if part)
        expected = next((words for begin, words in _EXPECTED.items() if begin in said), "")
        told = f"{said}: {expected}" if expected else said
        raise _invalid(mark.line if mark else 0, mark.column if mark else 0, told) from error
    except yaml.YAMLError as error:  # a character that YAML does not know; the text quotes it
        place = getattr(error, "position", 0)
        before = text[:place] if isinstance(place, int) else ""
        line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
        raise _invalid(line, column, "a character that YAML does not allow") from error
    except (RecursionError, ValueError) as error:
        raise _invalid(0, 0, "this cannot be read as YAML") from error
    if root is None:
        return Node({}, 1, 1)
    return _Reader().node(root, 0)


def _invalid(line: int, column: int, text: str) -> TextInvalid:
    return TextInvalid([Slip(line + 1, column + 1, text)])


class _Reader:
    def __init__(self) -> None:
        self._count = 0

    def node(self, node: yaml.Node, depth: int, at: yaml.Mark | None = None) -> Node:
        mark = at or node.start_mark
        self._count += 1
        if depth > DEEPEST or self._count > _MOST:
            raise _invalid(mark.line, mark.column, "this is nested too deeply, or refers to itself")
        line, column = mark.line + 1, mark.column + 1
        if isinstance(node, yaml.MappingNode):
            return Node(self._members(node, depth), line, column)
        if isinstance(node, yaml.SequenceNode):
            return Node([self.node(each, depth + 1) for each in node.value], line, column)
        return Node(None if node.tag == _NULL else str(node.value), line, column)

    def _members(self, mapping: yaml.MappingNode, depth: int) -> dict[str, Node]:
        members: dict[str, Node] = {}
        for key, value in mapping.value:
            mark = key.start_mark
            if not isinstance(key, yaml.ScalarNode):
                raise _invalid(mark.line, mark.column, "a key is plain text")
            if key.value in members:
                told = f"{key.value} stands here already, in line {members[key.value].line}"
                raise _invalid(mark.line, mark.column, told)
            members[key.value] = self.node(value, depth + 1, mark)
        return members
