"""What an installation brings: the commands, the groups of dependencies, and a template that Voilà finds."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SHARED = ROOT / "trade_telemetry" / "share"
TEMPLATES = Path("jupyter", "voila", "templates", "trade_telemetry")


def shared_files() -> list[str]:
    return sorted(p.relative_to(SHARED).as_posix() for p in SHARED.rglob("*") if p.is_file())


def test_jupyter_finds_the_template_and_it_is_the_one_of_this_checkout() -> None:
    paths = subprocess.run(
        [sys.executable, "-m", "jupyter_core", "--paths"], capture_output=True, text=True, check=True
    ).stdout
    there = [Path(p.strip()).parent / TEMPLATES for p in paths.split("data:")[1].splitlines() if "/" in p]
    found = next((p for p in there if (p / "conf.json").exists()), None)
    assert found is not None, "Voilà would not find its template; run: pip install -e ."
    for source in (SHARED / TEMPLATES).rglob("*"):
        if source.is_file():
            copy = found / source.relative_to(SHARED / TEMPLATES)
            assert copy.read_bytes() == source.read_bytes(), f"{copy.name} is stale; run: pip install -e ."


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Contents of the wheel that people install and of the one behind `pip install -e`."""
    work = tmp_path_factory.mktemp("build")
    for folder in ("trade_telemetry", "tools", "nbs"):
        shutil.copytree(ROOT / folder, work / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "MANIFEST.in"):
        shutil.copy(ROOT / name, work)
    script = "import sys; sys.path.insert(0, 'tools'); import build_backend as b; getattr(b, sys.argv[1])(sys.argv[2])"
    contents = {}
    for kind in ("build_wheel", "build_editable"):
        target = work / kind
        target.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", script, kind, str(target)],
            cwd=work,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with zipfile.ZipFile(next(target.glob("*.whl"))) as wheel:
            contents[kind] = {n: wheel.read(n) for n in wheel.namelist()}
    return contents


@pytest.mark.parametrize("kind", ["build_wheel", "build_editable"])
def test_both_kinds_of_wheel_bring_the_template_and_list_it(
    wheels: dict[str, dict[str, bytes]], kind: str
) -> None:
    files = wheels[kind]
    record = next(c for n, c in files.items() if n.endswith(".dist-info/RECORD")).decode()
    for shared in shared_files():
        name = f"trade_telemetry-{importlib.metadata.version('trade_telemetry')}.data/data/share/{shared}"
        assert files[name] == (SHARED / shared).read_bytes()
        assert f"{name},sha256=" in record


def test_a_wheel_holds_everything_that_is_read_at_run_time(wheels: dict[str, dict[str, bytes]]) -> None:
    package = ROOT / "trade_telemetry"
    needed = [p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    missing = [p.name for p in needed if p.relative_to(ROOT).as_posix() not in wheels["build_wheel"]]
    assert missing == []
    for notebook in ("dashboard.ipynb", "accuracy_report.ipynb"):
        assert wheels["build_wheel"][f"trade_telemetry/{notebook}"] == (ROOT / "nbs" / notebook).read_bytes()
    assert not [n for n in wheels["build_wheel"] if n.startswith(("tests/", "nbs/", "data/"))]


def test_every_dependency_has_a_lower_bound_and_the_groups_build_on_each_other() -> None:
    groups = PROJECT["project"]["optional-dependencies"]
    stubs = ("types-", "pandas-stubs", "scipy-stubs", "trade_telemetry[")
    for need in [*PROJECT["project"]["dependencies"], *(n for g in groups.values() for n in g)]:
        assert ">=" in need or need.startswith(stubs), need
    assert "trade_telemetry[analysis]" in groups["dashboard"]
    assert "trade_telemetry[report]" in groups["dashboard"]
    assert "trade_telemetry[dashboard]" in groups["dev"]


def test_what_is_installed_satisfies_the_bounds() -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
