"""House rules that hold in every notebook: sizes, ids, imports, and outputs that are evidence on any machine."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(
    p.relative_to(ROOT).as_posix()
    for p in (ROOT / "nbs").rglob("*.ipynb")
    if ".ipynb_checkpoints" not in p.parts
)
MOST_LINES = 40
MOST_CLASS_LINES = 95  # a class whose parts belong together is exported whole, about 90 lines
EXPORTED = re.compile(r"^#\|\s*exports?i?\b", re.M)
ONE_MACHINE = re.compile(r"(?<![\w.~])/(?:root|home|Users|work|tmp/(?!\.\.\.))\b[^\s\"']*")
UNFINISHED = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "lorem " + "ipsum"]))
Cell = dict[str, Any]


@cache  # ten tests look at every notebook
def cells_of(notebook: str) -> list[Cell]:
    cells: list[Cell] = json.loads((ROOT / notebook).read_text(encoding="utf-8"))["cells"]
    return cells


def source_of(cell: Cell) -> str:
    return "".join(cell["source"])


@cache
def code_of(notebook: str) -> dict[str, str]:
    """Sources of the code cells by id, cell magics left out."""
    code = {c["id"]: source_of(c) for c in cells_of(notebook) if c["cell_type"] == "code"}
    return {i: s for i, s in code.items() if not re.search(r"^\s*[%!]", s, re.M)}


@cache
def tree_of(source: str) -> ast.Module:
    return ast.parse(source)


def text_of(output: Cell) -> str:
    """The readable text of an output, pictures left out."""
    data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
    return json.dumps([output.get("text", ""), data], ensure_ascii=False)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_exported_cells_and_functions_are_at_most_40_lines_and_classes_about_90(notebook: str) -> None:
    long = []
    for cell, source in code_of(notebook).items():
        if EXPORTED.search(source):
            lines = [line for line in source.splitlines() if not line.startswith("#|")]
            whole = any(isinstance(node, ast.ClassDef) for node in tree_of(source).body)
            most = MOST_CLASS_LINES if whole else MOST_LINES
            long += [f"{cell}: {len(lines)} lines"] if len(lines) > most else []
        for node in ast.walk(tree_of(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or 0) - node.lineno + 1
                long += [f"{cell}: {node.name} has {size} lines"] if size > MOST_LINES else []
    assert long == []


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_cell_with_an_import_holds_only_imports(notebook: str) -> None:
    """The documentation runs exactly the cells with an import, without the cells before them."""
    mixed = []
    for cell, source in code_of(notebook).items():
        tree = tree_of(source)
        if not EXPORTED.search(source) and any(
            isinstance(n, ast.Import | ast.ImportFrom) for n in ast.walk(tree)
        ):
            mixed += [cell] if not all(isinstance(n, ast.Import | ast.ImportFrom) for n in tree.body) else []
    assert mixed == []


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_cell_ids_are_words_and_unique(notebook: str) -> None:
    ids = [c["id"] for c in cells_of(notebook)]
    assert sorted(ids) == sorted(set(ids))
    assert [i for i in ids if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", i)] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_no_saved_output_is_an_error(notebook: str) -> None:
    outputs = [(c["id"], o) for c in cells_of(notebook) for o in c.get("outputs", [])]
    assert [
        i for i, o in outputs if o["output_type"] == "error" or "Traceback (most recent" in text_of(o)
    ] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_nothing_names_a_path_of_one_machine(notebook: str) -> None:
    found = []
    for c in cells_of(notebook):
        for text in [source_of(c), *map(text_of, c.get("outputs", []))]:
            found += [(c["id"], m[0]) for m in ONE_MACHINE.finditer(text)]
    assert found == []


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_who_quiets_the_log_lets_it_speak_again(notebook: str) -> None:
    # nbdev_test runs many notebooks in one process: a level that is left behind silences the next one
    levels = [
        ast.unparse(line.value.args[0])
        for source in code_of(notebook).values()
        for line in tree_of(source).body
        if isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Call)
        and re.match(r"logging\.(disable|getLogger\(.*\)\.setLevel)\(", ast.unparse(line.value))
    ]
    assert levels[-1:] in ([], ["logging.NOTSET"])


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_nothing_is_marked_as_unfinished(notebook: str) -> None:
    assert [c["id"] for c in cells_of(notebook) if UNFINISHED.search(source_of(c))] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_prose_is_at_least_a_third_of_the_code(notebook: str) -> None:
    kinds = [c["cell_type"] for c in cells_of(notebook)]
    assert 3 * kinds.count("markdown") >= kinds.count("code")


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_notebook_opens_with_its_name_and_a_promise(notebook: str) -> None:
    first = source_of(next(c for c in cells_of(notebook) if c["cell_type"] == "markdown"))
    assert re.match(r"# \S.*\n+> \S", first), first


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_pictures_are_small(notebook: str) -> None:
    sizes = [
        (c["id"], len("".join(o.get("data", {}).get("image/png", ""))) * 3 // 4)
        for c in cells_of(notebook)
        for o in c.get("outputs", [])
    ]
    assert [(i, n) for i, n in sizes if n > 150_000] == []
