"""A module imports only from floors below its own: the number of its notebook is its floor."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIB = "trade_telemetry"
LOWERED = {
    "lines": 1.4,  # numbered beside the writer that uses it
    "ledger": 1.5,  # numbered where reading begins, but the writer keeps it
    "plots": 9,  # numbered with the pages, but takes plain arrays only, so that the analyzer may draw
    "significance": 12.4,  # numbered beside the comparison that reads it
    "sequential": 12.5,  # numbered beside the alerts that read it, but takes plain arrays only
    "breakdown": 12.6,  # read after the analyzer, but built on columns, so that the analyzer may cut trades into parts
    "comparison": 12.5,  # read after the analyzer, but built on columns, so that the analyzer may compare
    "live_vs_backtest": 15.5,  # read after the page's state, but built on columns, so that the page may say the same
}


def floors() -> dict[str, float]:
    found: dict[str, float] = {}
    for notebook in sorted((ROOT / "nbs").glob("[0-9][0-9]_*.ipynb")):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        for source in ("".join(c["source"]) for c in cells):
            if exported := re.search(r"^#\|\s*default_exp\s+(\w+)", source, re.M):
                found[exported[1]] = int(notebook.name[:2])
    return found | LOWERED


def part(dotted: str, i: int) -> str:
    """The i-th part of a dotted name, empty where there is none."""
    return dict(enumerate(dotted.split("."))).get(i, "")


def imports(source: str) -> Iterator[tuple[str, str]]:
    """Every (module of ours, name) that `source` imports, in functions and by `import_module` too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((part(a.name, 1), "") for a in node.names if part(a.name, 0) == LIB)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:  # relative: all our modules lie side by side
                names = [a.name for a in node.names]
                yield from ((module or ("" if n == "__version__" else n), n) for n in names)
            elif part(module, 0) == LIB:
                yield from ((part(module, 1), a.name) for a in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0].value if isinstance(node.args[0], ast.Constant) else ""
            if part(str(name), 0) == LIB:
                yield part(str(name), 1), ""


def upward(module: str, source: str, floor: dict[str, float]) -> list[str]:
    """What is wrong with the imports of one module."""
    bad = []
    for target, name in imports(source):
        if not target:
            if name != "__version__":
                bad.append(f"{module} imports {name or LIB} from the top of the package; name its module")
        elif target not in floor:
            bad.append(f"{module} imports {target}, which no numbered notebook exports")
        elif floor[target] >= floor[module] and target != module:
            bad.append(f"{module} (floor {floor[module]}) imports {target} (floor {floor[target]})")
    return bad


def test_every_module_comes_from_a_numbered_notebook() -> None:
    modules = {p.stem for p in (ROOT / LIB).glob("*.py")} - {"__init__", "_modidx"}
    assert modules == set(floors())


def test_no_module_imports_from_its_own_floor_or_above() -> None:
    floor = floors()
    bad = [
        line
        for m in sorted(floor)
        for line in upward(m, (ROOT / LIB / f"{m}.py").read_text(encoding="utf-8"), floor)
    ]
    assert bad == []


@pytest.mark.parametrize(
    "source",
    [
        "from trade_telemetry.store import load_columns",
        "def f():\n    from trade_telemetry.store import load_columns",
        "import trade_telemetry.store as s",
        "from .store import load_columns",
        "from . import store",
        "import importlib\nimportlib.import_module('trade_telemetry.store')",
        "from trade_telemetry import load_columns",
        "from . import __version__, store",
        "import trade_telemetry",
        "from trade_telemetry.elsewhere import thing",
    ],
)
def test_the_walk_sees_every_way_to_import_upward(source: str) -> None:
    assert len(upward("writer", source, {"writer": 2, "store": 10})) == 1
    assert upward("panels", "from trade_telemetry.store import x", {"panels": 21, "store": 10}) == []
