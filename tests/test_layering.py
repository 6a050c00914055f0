"""The house stands on its floors: a module imports only from lower wings, and within its wing from lower notebooks."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIB = "trade_telemetry"
# Lowest first; "" is the ground of single rooms, a name without a wing of its own is a single room.
WINGS = ["", "capture", "store", "testing", "trading", "metrics", "scale", "importers", "judgement", "analyzer", "engine",
         "dashboard", "report", "cli"]  # fmt: skip
Place = tuple[int, int]  # Position of the wing, number of the notebook


def rooms() -> dict[str, Place]:
    """Every module that a notebook exports, dotted below the package, with its place."""
    found: dict[str, Place] = {}
    for notebook in sorted((ROOT / "nbs").rglob("[0-9][0-9]_*.ipynb")):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        for source in ("".join(c["source"]) for c in cells):
            if exported := re.search(r"^#\|\s*default_exp\s+([\w.]+)", source, re.M):
                name = exported[1]
                wing = name if name in WINGS else name.rpartition(".")[0]
                found[name] = (WINGS.index(wing), int(notebook.name[:2]))
    return found


def modules() -> dict[str, Path]:
    """Every module of the package that is not written by hand."""
    paths = [p for p in (ROOT / LIB).rglob("*.py") if p.name not in ("__init__.py", "_modidx.py")]
    return {".".join(p.relative_to(ROOT / LIB).with_suffix("").parts): p for p in paths}


def imported(module: str, source: str) -> Iterator[tuple[str, str]]:
    """Every (dotted name below the package, name taken) that `source` imports, in functions and by `import_module` too."""
    here = module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((a.name[len(LIB) + 1 :], "") for a in node.names if a.name.split(".")[0] == LIB)
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".") if node.module else []
            if node.level:
                base = here[: len(here) - node.level + 1] if node.level <= len(here) + 1 else []
                yield from ((".".join(base + parts), a.name) for a in node.names)
            elif parts[:1] == [LIB]:
                yield from ((".".join(parts[1:]), a.name) for a in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
            if str(name).split(".")[0] == LIB:
                yield str(name)[len(LIB) + 1 :], ""


def upward(module: str, source: str, place: dict[str, Place]) -> list[str]:
    """What is wrong with the imports of one module."""
    bad = []
    for target, name in imported(module, source):
        inner = f"{target}.{name}".strip(".")
        room = inner if inner in place else target
        if room == "" and name == "__version__":
            continue
        if room not in place:
            bad.append(f"{module} imports {inner or LIB}: name the room, not its wing")
        elif place[room] >= place[module] and room != module:
            bad.append(f"{module} {place[module]} imports {room} {place[room]}")
        elif room == module:
            bad.append(f"{module} imports itself")
    return bad


def test_every_module_comes_from_a_numbered_notebook() -> None:
    assert set(modules()) == set(rooms())


def test_a_notebook_lies_in_the_folder_of_its_wing_and_bears_the_name_of_its_module() -> None:
    wrong = []
    for notebook in (ROOT / "nbs").rglob("[0-9][0-9]_*.ipynb"):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        (name,) = re.findall(
            r"^#\|\s*default_exp\s+([\w.]+)", "\n".join("".join(c["source"]) for c in cells), re.M
        )
        folder = notebook.parent.relative_to(ROOT / "nbs").as_posix().strip(".")
        if (folder, notebook.stem[3:]) != (name.rpartition(".")[0], name.rpartition(".")[2]):
            wrong.append(notebook.name)
    assert wrong == []


def test_no_two_notebooks_of_a_wing_share_a_floor() -> None:
    by_place = sorted((place, name) for name, place in rooms().items())
    assert [(a, b) for (p, a), (q, b) in pairwise(by_place) if p == q] == []


def test_no_module_imports_from_its_own_floor_or_above() -> None:
    place, files = rooms(), modules()
    assert [
        line for m in sorted(place) for line in upward(m, files[m].read_text(encoding="utf-8"), place)
    ] == []


def test_a_wing_is_entered_by_its_rooms_and_its_init_imports_nothing_at_once() -> None:
    """Hand-written `__init__` modules hand names on when they are asked, and not before."""
    for init in (ROOT / LIB).rglob("__init__.py"):
        tree = ast.parse(init.read_text(encoding="utf-8"))
        at_once = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        assert all(LIB not in ast.unparse(n) and "from ." not in ast.unparse(n) for n in at_once), init


@pytest.mark.parametrize(
    "source",
    [
        "from trade_telemetry.store.runs import RunInfo",
        "def f():\n    from trade_telemetry.store.runs import RunInfo",
        "import trade_telemetry.store.runs as s",
        "from ..store.runs import RunInfo",
        "from ..store import runs",
        "from .hook import TelemetryHook",
        "from . import hook",
        "import importlib\nimportlib.import_module('trade_telemetry.store.runs')",
        "from trade_telemetry import load_columns",
        "from .. import load_columns",
        "import trade_telemetry",
        "from trade_telemetry.store import RunInfo",
        "from trade_telemetry.elsewhere import thing",
        "from .writer import itself",
    ],
)
def test_the_walk_sees_every_way_to_import_upward(source: str) -> None:
    place = {"trace": (0, 1), "capture.writer": (1, 5), "capture.hook": (1, 6), "store.runs": (2, 1)}
    assert len(upward("capture.writer", source, place)) == 1
    assert (
        upward("store.runs", "from ..capture.hook import x\nfrom .. import __version__, trace", place) == []
    )
