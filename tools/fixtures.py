"""Run the frameworks that traders use, each in an environment of its own, and keep what they export.

Each framework runs one strategy of two crossing averages (long and short) over the bars in `data/`, in a fresh virtual environment
in a temporary folder: their pins exclude each other and ours. What it exports, and what it prints about it, is kept in
`tests/data/frameworks/<framework>/`; `made.json` there says the version, the command, the totals that the framework itself printed
and, per file, what an import of it has to give. The tests read these files only, so nothing here runs in CI.

python tools/fixtures.py backtesting            make one again
python tools/fixtures.py all                    all of them, one after the other (some minutes, and 1 GB for each for a while)
python tools/fixtures.py jesse --python python3.12 --keep /somewhere      another interpreter; keep the environment there
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BARS = "data/fx_hourly/EURUSD.csv"
KEPT = ROOT / "tests" / "data" / "frameworks"
NEEDED = "orjson"  # of our own dependencies, what recording inside a framework imports
LARGEST = 100_000  # bytes of a kept file


class Framework(NamedTuple):
    "How one framework is installed."

    packages: tuple[str, ...]  # For pip
    python: str = "python3"  # The interpreter that it needs


FRAMEWORKS = {
    "backtesting": Framework(("backtesting",)),
    "backtrader": Framework(("backtrader",)),
    "vectorbt": Framework(("vectorbt",)),
    "nautilus_trader": Framework(("nautilus_trader",), "python3.12"),
    "freqtrade": Framework(("freqtrade",)),
    "jesse": Framework(("jesse",)),
}


def install(framework: Framework, folder: Path, python: str) -> Path:
    "Make the environment, unless it is there; its interpreter."
    found = folder / "bin" / "python"
    if not found.exists():
        if shutil.which(python) is None:
            raise SystemExit(f"{python} is not here: name an interpreter with --python")
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        subprocess.run(
            [str(found), "-m", "pip", "install", "-q", "--prefer-binary", *framework.packages, NEEDED],
            check=True,
        )
    return found


def keep(name: str, made: Path) -> list[Path]:
    "Move what a run left into the repository, with the command in its note."
    told = json.loads((made / "made.json").read_text(encoding="utf-8"))
    told = {"framework": name, "version": told.pop("version"), "command": f"python tools/fixtures.py {name}",
            "bars": BARS} | told  # fmt: skip
    (made / "made.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if large := [p.name for p in made.iterdir() if p.stat().st_size > LARGEST]:
        raise SystemExit(f"{name}: {', '.join(large)} would be larger than {LARGEST:,} bytes")
    shutil.rmtree(KEPT / name, ignore_errors=True)
    shutil.copytree(made, KEPT / name)
    return sorted((KEPT / name).iterdir())


def make(name: str, python: str | None, environments: Path) -> None:
    "Install, run, keep."
    framework = FRAMEWORKS[name]
    interpreter = install(framework, environments / name, python or framework.python)
    with tempfile.TemporaryDirectory() as made:
        script = ROOT / "tools" / "frameworks" / f"run_{name}.py"
        work, out = Path(made) / "work", Path(made) / "out"
        work.mkdir()
        out.mkdir()
        told = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run(
            [str(interpreter), str(script), str(ROOT / BARS), str(out)], check=True, cwd=work, env=told
        )
        for path in keep(name, out):
            print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")


def main() -> int:
    "Read the arguments."
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("framework", choices=[*FRAMEWORKS, "all"])
    parser.add_argument(
        "--python", help="interpreter of the environment (default: %(default)s)", default=None
    )
    parser.add_argument(
        "--keep", type=Path, help="folder that keeps the environments; default: a temporary one"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for name in FRAMEWORKS if args.framework == "all" else [args.framework]:
            make(name, args.python, args.keep or Path(temporary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
