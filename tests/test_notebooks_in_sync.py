"""The notebooks are the source: cleaning and exporting a copy of them must change nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIB = "trade_telemetry"
PASSING = {"__pycache__", ".ipynb_checkpoints"}


def content(root: Path) -> dict[str, bytes]:
    """Every notebook and module below `root`, by its path."""
    return {
        str(p.relative_to(root)): p.read_bytes()
        for folder in ("nbs", LIB)
        for p in sorted((root / folder).rglob("*"))
        if p.suffix in {".py", ".ipynb"} and not PASSING & set(p.parts)
    }


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for folder in ("nbs", LIB):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns(*PASSING))
    shutil.copy(ROOT / "settings.ini", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(tool: str, folder: Path) -> None:
    """Run one of nbdev's tools; a message about a notebook it could not handle is a failure, whatever the exit code says."""
    env = {
        k: v for k, v in os.environ.items() if k != "IN_TEST"
    }  # set, it would turn the export into nothing
    done = subprocess.run(
        [str(Path(sys.executable).with_name(tool))],
        cwd=folder,
        env=env | {"HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Failed" not in done.stderr, done.stderr


def test_cleaning_changes_no_notebook(copied: Path) -> None:
    before = content(copied)
    run("nbdev_clean", copied)
    after = content(copied)
    assert [n for n in before if before[n] != after[n]] == [], "run nbdev_clean and commit"


def test_exporting_makes_exactly_the_modules_that_are_there(copied: Path) -> None:
    before = content(copied)
    for module in (copied / LIB).rglob("*.py"):  # one that no notebook makes any more must not survive
        if module.name != "__init__.py":
            module.unlink()
    run("nbdev_export", copied)
    after = content(copied)
    assert sorted(after) == sorted(before)
    assert [n for n in before if before[n] != after[n]] == [], "run nbdev_export and commit"
