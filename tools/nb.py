"""Notebooks from the shell: write them as text, run them, export them.

python tools/nb.py run nbs/10_trace.ipynb …     format, export, execute and clean, outputs kept as evidence
python tools/nb.py text nbs/10_trace.ipynb      print the sources as text (`# %% id`, `# %% [markdown] id`)
python tools/nb.py build trace.txt nbs/10_trace.ipynb     the way back from that text, then `run`
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from execnb.nbio import mk_cell, new_nb, read_nb, write_nb

ROOT = Path(__file__).resolve().parents[1]
Cell = dict[str, Any]
MARK = re.compile(r"^# %%(?: \[(markdown|raw)\])? ?([\w-]*)$")


def _source(cell: Cell) -> str:
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def to_text(path: Path) -> str:
    "Sources of a notebook, each cell under a marker line with its kind and id."
    parts = []
    for c in read_nb(path).cells:
        kind = "" if c.cell_type == "code" else f" [{c.cell_type}]"
        parts.append(f"# %%{kind} {c.id}\n{_source(c)}\n")
    return "\n".join(parts)


def from_text(text: str) -> Cell:
    "A notebook without outputs from the form that `to_text` prints."
    cells: list[Cell] = []
    lines: list[str] = []
    kind = cid = ""

    def done() -> None:
        if kind:
            extra: Cell = {"execution_count": None, "outputs": []} if kind == "code" else {}
            cells.append(mk_cell("\n".join(lines).strip("\n"), kind, id=cid, **extra))

    for line in text.splitlines():
        if m := MARK.match(line):
            done()
            kind, cid, lines = m[1] or "code", m[2], []
        else:
            lines.append(line)
    done()
    ids = [c["id"] for c in cells]
    if twice := sorted({i for i in ids if ids.count(i) > 1 or not i}):
        raise SystemExit(f"cell ids must be unique and not empty: {twice}")
    nb: Cell = new_nb(cells)
    nb["metadata"] = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    nb["nbformat"], nb["nbformat_minor"] = 4, 5
    return nb


def keep_tags(nb: Cell, target: Path) -> None:
    "Carry over what the text does not show: the metadata of cells whose ids the target has already."
    if target.exists():
        old = {c.id: c.metadata for c in read_nb(target).cells}
        for cell in nb["cells"]:
            cell["metadata"] = old.get(cell["id"], {})


def execute(path: Path) -> bool:
    "Run every cell in a fresh interpreter, keep the outputs; False and a printed traceback on an error."
    from execnb.shell import CaptureShell

    nb = read_nb(path)
    os.chdir(path.parent)
    sys.path.insert(0, str(ROOT))
    shell = CaptureShell(mpl_format="png")
    failed = None
    for c in nb.cells:
        if c.cell_type != "code":
            continue
        c["outputs"], c["execution_count"] = [], None
        if failed is None and not re.search(r"^#\|\s*eval:\s*false", _source(c), re.M):
            c["outputs"] = shell.run(_source(c))
            if shell.exc:
                failed = c
    write_nb(nb, path)
    if failed is not None:
        print(f"{path.name}: cell {failed['id']} failed\n{_source(failed)}\n")
        print("".join(failed["outputs"][-1].get("traceback", [])))
    return failed is None


def run(path: Path) -> bool:
    "Format, export, execute and clean one notebook."
    from nbdev.clean import clean_nb, process_write
    from nbdev.export import nb_export

    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(path)], check=True, cwd=ROOT)
    os.chdir(ROOT)
    nb_export(str(path), lib_path="trade_telemetry")
    ok = subprocess.run([sys.executable, __file__, "_execute", str(path)], check=False).returncode == 0
    process_write(
        f"could not clean {path}", partial(clean_nb, allowed_cell_metadata_keys=["tags"]), str(path)
    )
    print(f"{path.name}: {'ok' if ok else 'FAILED'}")
    return ok


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=["run", "text", "build", "_execute"])
    parser.add_argument("paths", nargs="+", type=Path)
    args = parser.parse_args()
    paths = [p.resolve() for p in args.paths]
    if args.verb == "text":
        print(to_text(paths[0]), end="")
        return 0
    if args.verb == "_execute":
        return 0 if execute(paths[0]) else 1
    if args.verb == "build":
        source, target = paths
        nb = from_text(source.read_text())
        keep_tags(nb, target)
        write_nb(nb, target)
        paths = [target]
    done = [run(p) for p in paths]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
