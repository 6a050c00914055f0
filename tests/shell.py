"""Questions to the command line, as a shell would ask them: in this process, or in one of their own where the process is the question."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from trade_telemetry.cli.main import main

ROOT = Path(__file__).parents[1]
RUN = "import sys; from trade_telemetry.cli.main import main; sys.exit(main())"
COMMAND = [sys.executable, "-W", "error", "-c", RUN]
OURS = ("TELEMETRY_", "DASHBOARD_")


def clean(**environment: str) -> dict[str, str]:
    """Environment without settings of the machine that runs the tests."""
    return {k: v for k, v in os.environ.items() if not k.startswith(OURS)} | environment


def asked(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What `main` prints and returns, without a new interpreter for each question."""
    out, err = StringIO(), StringIO()
    with (
        chdir(cwd),
        patch.dict(os.environ, clean(**environment), clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = main([str(word) for word in words])
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def asked_in_a_process(
    *words: str | Path, cwd: Path, package: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, as a shell starts it; a warning is an error."""
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True, text=True, timeout=300, check=False, cwd=cwd,
        env=clean(**environment) | {"PYTHONPATH": str(package)},
    )  # fmt: skip
