"""The script `run`: what it says when something is missing, without making an environment."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")


def run(folder: Path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Call a copy of the script in `folder`, where there is no .venv."""
    shutil.copy(ROOT / "run", folder)
    environment = {"PATH": f"{folder / 'bin'}:{path or '/usr/bin:/bin'}"}
    return subprocess.run(
        ["/bin/sh", "run", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def fake(folder: Path, name: str, script: str) -> None:
    """Put a program of this name before all others."""
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin" / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


PYTHONS = ["python3", "python", *(f"python3.{minor}" for minor in (11, 12, 13, 14))]


@pytest.mark.parametrize("arguments", [(), ("help",), ("--help",)])
def test_help_lists_the_verbs(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 0
    assert all(f"./run {verb}" in done.stdout for verb in ("demo", "dashboard", "docs", "test", "soak"))


def test_an_unknown_verb_is_one_clear_line_and_exit_code_2(tmp_path: Path) -> None:
    done = run(tmp_path, "dmeo")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "run: unknown verb 'dmeo'"


def test_a_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    for name in PYTHONS:
        fake(tmp_path, name, 'test "$1" = --version && echo Python 3.9.2; exit 1')
    done = run(tmp_path, "demo")
    assert done.returncode == 2
    assert done.stderr.startswith("run: needs Python 3.11 or newer, found Python 3.9.2;")
    assert not (tmp_path / ".venv").exists()


def test_a_python_without_venv_is_named_with_the_remedy(tmp_path: Path) -> None:
    for name in PYTHONS:  # new enough, but what Debian ships without python3-venv
        fake(tmp_path, name, 'case "$2" in *ensurepip*) exit 1;; *) exit 0;; esac')
    done = run(tmp_path, "demo")
    assert done.returncode == 2
    assert (
        done.stderr.strip() == "run: python3 has no venv; on Debian and Ubuntu: apt-get install python3-venv"
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with an environment whose pip and programs only write down that they were called."""
    for name in ("pyproject.toml", "tools/build_backend.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "trade_telemetry" / "share").mkdir(parents=True)
    (tmp_path / "trade_telemetry" / "share" / "conf.json").write_text("{}")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("pip", "python", "trade-telemetry"):
        program = tmp_path / ".venv" / "bin" / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> calls\n')
        program.chmod(0o755)
    return tmp_path


def calls(folder: Path) -> list[str]:
    """The calls since the last look."""
    found = (folder / "calls").read_text().splitlines()
    (folder / "calls").unlink()
    return found


def test_the_demo_installs_once_and_again_only_when_something_to_install_has_changed(checkout: Path) -> None:
    install = "python -m pip install -qq --disable-pip-version-check -e .[dashboard]"
    assert run(checkout, "demo", "--port", "0").returncode == 0
    assert calls(checkout) == [install, "trade-telemetry demo --port 0"]
    assert run(checkout, "demo").returncode == 0
    assert calls(checkout) == ["trade-telemetry demo"]
    (checkout / "trade_telemetry" / "share" / "conf.json").write_text('{"changed": true}')
    assert run(checkout, "dashboard").returncode == 0
    assert calls(checkout) == [install, "trade-telemetry dashboard"]


def test_the_docs_are_built_and_served_by_their_own_tool(checkout: Path) -> None:
    assert run(checkout, "docs", "--build").returncode == 0
    assert calls(checkout) == [
        "python -m pip install -qq --disable-pip-version-check -e .[dev]",
        "python tools/docs.py --serve --build",
    ]


def test_a_failed_installation_is_not_remembered(checkout: Path) -> None:
    (checkout / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    assert run(checkout, "demo").returncode != 0
    assert not (checkout / ".venv" / "installed-dashboard").exists()


def test_the_script_is_the_one_that_ci_calls() -> None:
    assert "./run test" in (ROOT / ".ci" / "run").read_text()
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert ".ci/run" in workflow
    assert "quarto render" in workflow
