"""The script `run`: what it says when something is missing, without making an environment."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import checks  # noqa: E402

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
    for name in ("pip", "python", "trade-telemetry", "uv"):
        program = tmp_path / ".venv" / "bin" / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> calls\n')
        program.chmod(0o755)
    return tmp_path


def installs(group: str) -> list[str]:
    """What an installation calls: uv is fetched, and installs."""
    return [
        "python -m pip config list",
        "python -m pip install -qq --disable-pip-version-check uv>=0.5,<1",
        f"uv pip install -q --python .venv/bin/python --compile-bytecode -e .[{group}]",
    ]


def calls(folder: Path) -> list[str]:
    """The calls since the last look."""
    found = (folder / "calls").read_text().splitlines()
    (folder / "calls").unlink()
    return found


def test_the_demo_installs_once_and_again_only_when_something_to_install_has_changed(checkout: Path) -> None:
    assert run(checkout, "demo", "--port", "0").returncode == 0
    assert calls(checkout) == [*installs("dashboard"), "trade-telemetry demo --port 0"]
    assert run(checkout, "demo").returncode == 0
    assert calls(checkout) == ["trade-telemetry demo"]
    (checkout / "trade_telemetry" / "share" / "conf.json").write_text('{"changed": true}')
    assert run(checkout, "dashboard").returncode == 0
    assert calls(checkout) == [*installs("dashboard"), "trade-telemetry dashboard"]


def test_the_docs_are_built_and_served_by_their_own_tool(checkout: Path) -> None:
    assert run(checkout, "docs", "--build").returncode == 0
    assert calls(checkout) == [*installs("dev"), "python tools/docs.py --serve --build"]


def test_pip_installs_where_uv_fails_and_says_so(checkout: Path) -> None:
    (checkout / ".venv" / "bin" / "uv").write_text("#!/bin/sh\necho no wheel for this machine >&2; exit 1\n")
    done = run(checkout, "demo")
    assert done.returncode == 0
    assert "installing with pip" in done.stderr
    assert (checkout / ".venv" / "uv.log").read_text() == "no wheel for this machine\n"
    pip = "python -m pip install -qq --disable-pip-version-check -e .[dashboard]"
    assert calls(checkout)[2:] == [pip, "trade-telemetry demo"]


def test_an_index_that_pip_is_told_of_is_not_passed_by(checkout: Path) -> None:
    for told in (
        "global.index-url='https://example.invalid/simple'",
        ":env:.index-url='https://example.invalid'",
    ):
        (checkout / ".venv" / "bin" / "python").write_text(
            f"""#!/bin/sh\necho python "$@" >> calls\ntest "$3" != config || echo "{told}"\n"""
        )
        (checkout / ".venv" / "installed-dashboard").unlink(missing_ok=True)
        assert run(checkout, "demo").returncode == 0
        pip = "python -m pip install -qq --disable-pip-version-check -e .[dashboard]"
        assert calls(checkout) == ["python -m pip config list", pip, "trade-telemetry demo"]


def test_all_checks_are_made_by_one_tool_and_options_reach_it(checkout: Path) -> None:
    fake(checkout, "chromium", "exit 0")
    assert run(checkout, "test", "-k", "clock").returncode == 0
    assert calls(checkout)[3:] == ["python tools/checks.py -k clock"]


def test_a_failed_installation_is_not_remembered(checkout: Path) -> None:
    (checkout / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    assert run(checkout, "demo").returncode != 0
    assert not (checkout / ".venv" / "installed-dashboard").exists()


def test_the_script_is_the_one_that_ci_calls() -> None:
    assert "./run test" in (ROOT / ".ci" / "run").read_text()
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert ".ci/run" in workflow
    assert "quarto render" in workflow


def test_no_check_is_left_out_and_the_fastest_come_first() -> None:
    named = [gate.name for gate in (*checks.FIRST, *checks.MAIN, *checks.BESIDE)]
    assert named == ["format", "lint", "documentation", "tests", "types", "notebooks"]


def gate(name: str, script: str) -> checks.Gate:
    return checks.Gate(name, ("sh", "-c", script))


def test_checks_beside_each_other_are_told_one_after_the_other(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there"
    both = gate("site", f"echo first; while ! test -e {there}; do sleep 0.02; done; echo last")
    checks.check([both, gate("tests", "echo tested")], [gate("types", f"echo checked; touch {there}")], 0.01)
    words = [line.split(":")[0] for line in capfd.readouterr().out.splitlines()]
    own = ["--- site", "first", "last", "--- site", "--- tests", "tested", "--- tests"]
    assert [w for w in words if w not in ("--- types", "checked")] == own
    begin = words.index("--- types")
    assert words[begin : begin + 3] == ["--- types", "checked", "--- types"]


@pytest.mark.parametrize("beside", [False, True])
def test_a_check_that_fails_is_told_at_once_and_ends_what_runs_beside_it(
    beside: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "PATIENCE", 0.5)  # what a shell starts behind itself does not hear Ctrl-C
    started = tmp_path / "started"
    long = gate("long", f"sleep 600 & echo $! > {started}.part; mv {started}.part {started}; wait")
    bad = gate("bad", f"while ! test -e {started}; do sleep 0.02; done; echo why; exit 3")
    lanes = ([long], [bad]) if beside else ([bad, gate("never", "exit 0")], [long])
    with pytest.raises(checks.FailedError, match="run: bad failed: sh -c") as failed:
        checks.check(*lanes, pause=0.01)
    assert "why" in (str(failed.value) if beside else capfd.readouterr().out)
    left = int(started.read_text())
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_every_check(number: signal.Signals, tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, 'tools'); import checks; from checks import Gate\n"
        "checks.FIRST = ()\n"
        f"wait = lambda name: Gate(name, ('sh', '-c', 'echo $$ > {tmp_path}/' + name + '; exec sleep 600'))\n"
        "checks.MAIN, checks.BESIDE = (wait('site'), wait('tests')), (wait('types'),)\n"
        "sys.exit(checks.main([]))"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        pids = [tmp_path / "site", tmp_path / "types"]
        until = time.monotonic() + 60
        while not all(p.exists() and p.read_text() for p in pids) and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(process.pid, number)
        assert process.wait(60) == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert not (tmp_path / "tests").exists()
    assert [p.name for p in pids if psutil.pid_exists(int(p.read_text()))] == []
