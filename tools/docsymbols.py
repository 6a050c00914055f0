"""What the site says of a symbol: its source lines from the exported module, from the name to the first statement.

nbdev would run every notebook's imports and exported cells and draw signatures from the live objects. Reading the module is better here:
annotations and comments stand as they were written, also those of the fields of a data class and those that only type checkers resolve,
the methods of a class follow it, and the link leads to the very lines.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from textwrap import dedent

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def definitions(source: str) -> dict[str, Definition]:
    "The functions and classes at the top of a piece of code."
    return {n.name: n for n in ast.parse(source).body if isinstance(n, DEFINITIONS)}


@cache
def module(path: Path) -> tuple[list[str], dict[str, Definition]]:
    "Lines of a module and what it defines at its top."
    text = path.read_text(encoding="utf-8")
    return text.splitlines(), definitions(text)


def first_line(node: ast.stmt) -> int:
    "Line on which a statement begins, its decorators included."
    decorators = node.decorator_list if isinstance(node, DEFINITIONS) else []
    return min([node.lineno, *(d.lineno for d in decorators)])


def header(node: Definition, lines: list[str]) -> list[str]:
    "From the first decorator to the colon and its comment."
    body = node.body[0]
    if body.lineno == node.lineno:  # def f(): ...
        return [
            *lines[first_line(node) - 1 : node.lineno - 1],
            lines[node.lineno - 1][: body.col_offset].rstrip(),
        ]
    taken = lines[first_line(node) - 1 : first_line(body) - 1]
    while taken and (not taken[-1].strip() or taken[-1].lstrip().startswith("#")):
        taken = taken[:-1]
    return taken


def fields(node: ast.ClassDef, lines: list[str]) -> Iterator[str]:
    "The public fields of a class, each with its comment, then how one is made where that is written out."
    for part in node.body:
        target: ast.expr | None = part.target if isinstance(part, ast.AnnAssign) else None
        if isinstance(part, ast.Assign):
            target = part.targets[0]
        if isinstance(target, ast.Name) and not target.id.startswith("_"):
            yield from lines[part.lineno - 1 : part.end_lineno]
    for part in node.body:
        if isinstance(part, DEFINITIONS) and part.name == "__init__":
            yield from ["", *header(part, lines)]


def signature(node: Definition, lines: list[str]) -> str:
    "A symbol as it is written, without its body."
    taken = header(node, lines)
    if isinstance(node, ast.ClassDef):
        taken = taken + list(fields(node, lines))
    return dedent("\n".join(taken))


def methods(node: Definition) -> list[Function]:
    "The methods and properties of a class that a user may call and that say what they do."
    if not isinstance(node, ast.ClassDef):
        return []
    found = [n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    shown = [n for n in found if not n.name.startswith("_") and ast.get_docstring(n)]
    return [n for i, n in enumerate(shown) if n.name not in {m.name for m in shown[:i]}]  # no setters


def described(
    name: str,  # as in the module, `Class` or `function`
    path: Path,  # of the module
    address: str,  # of the module's source for readers
    link: Callable[[str], str] = str,  # makes links of the names in a docstring
    *,
    with_source: bool = False,  # its source stands below: the signature of a function would say it twice
) -> str:
    "Markdown about a symbol: heading, link to the source, signature, docstring, and the same of its methods. KeyError if it is not there."
    lines, defined = module(path)

    def one(node: Definition, title: str, mark: str, twice: bool = False) -> str:
        source = (
            f'[source]({address}#L{node.lineno}){{target="_blank" style="float:right; font-size:smaller"}}'
        )
        code = "" if twice else f"```python\n{signature(node, lines)}\n```"
        parts = [source, f"{mark} {title}", code, link(ast.get_docstring(node) or "")]
        return "\n\n".join(filter(None, parts))

    top = defined[name]
    twice = with_source and not isinstance(top, ast.ClassDef)
    below = [one(m, f"{name}.{m.name}", "####") for m in methods(top)]
    return "---\n\n" + "\n\n".join([one(top, name, "###", twice), *below])
