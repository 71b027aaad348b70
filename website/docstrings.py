"""Shows the arguments in our docstrings as lists.

A docstring explains an argument or a field in a line of its own, `name: meaning`, and Markdown would join the lines.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Attribute, Class, Extension, Function, Object

_ENTRY = re.compile(r"(\w+(?:, \w+)*): (?=\S)")


class Arguments(Extension):
    """Changes the docstrings of functions and classes once a package is loaded."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is None or not isinstance(obj, Class | Function):
            return
        names = {parameter.name for parameter in obj.parameters}
        if isinstance(obj, Class):
            names |= {name for name, member in obj.members.items() if isinstance(member, Attribute)}
        obj.docstring.value = listed(obj.docstring.value, names)


def listed(docstring: str, names: set[str]) -> str:
    """The docstring with each line that explains one of the names as an item of a list."""
    lines: list[str] = []
    in_list = False
    for line in docstring.splitlines():
        entry = _ENTRY.match(line)
        if entry and names.issuperset(entry[1].split(", ")):
            if not in_list and lines and lines[-1]:
                lines.append("")
            named = ", ".join(f"`{name}`" for name in entry[1].split(", "))
            line, in_list = f"- {named}: {line[entry.end() :]}", True
        elif in_list and line and not line.startswith(" ") and lines[-1] == "":
            in_list = False
        lines.append(line)
    return "\n".join(lines)
