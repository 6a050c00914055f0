"""Every check of `./run test`, in two lanes beside each other.

The checks that fail fastest come first, alone. Then one lane builds the documentation and runs the tests, which look at the site that was
built; the other checks the types and runs the notebooks while the tests wait for browsers. The output of the second lane is kept until it
does not stand in the middle of the tests' own; what fails is told at once and ends everything, and so does Ctrl-C. Nothing is skipped:
all is fine only when each check has ended with 0.

python tools/checks.py [pytest options]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
# Python processes that the tests start load our modules from bytecode, also where the environment says not to write any
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
PATIENCE = 20.0  # seconds that what is ended has to clear up: tests close their browsers and servers


@dataclass(frozen=True)
class Gate:
    "One check: it is passed when its command ends with 0."

    name: str
    command: tuple[str, ...]


FIRST = (
    Gate("format", ("ruff", "format", "--check", ".")),
    Gate("lint", ("ruff", "check", ".")),
)
MAIN = (
    Gate("documentation", ("python", "tools/docs.py")),
    Gate(
        "tests", ("python", "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
    ),
)
BESIDE = (
    Gate("types", ("mypy",)),
    Gate("notebooks", ("nbdev_test", "--n_workers", "1", "--timing")),
)


class FailedError(Exception):
    "A check did not pass."


class StoppedError(Exception):
    "A signal asked for the end."


came: list[int] = []  # signals; looked at where nothing is half begun


def note(number: int, _: object) -> None:
    "Hear a signal."
    came.append(number)


def say(text: str) -> None:
    "A line of our own, in its place among what the checks print themselves."
    print(text, flush=True)


@dataclass
class Running:
    "A check that has begun."

    gate: Gate
    process: subprocess.Popen[bytes]
    kept: IO[bytes] | None  # its output where that is not shown while it comes
    began: float = field(default_factory=time.monotonic)

    def told(self) -> str:
        "What it printed, where that was kept."
        if self.kept is None:
            return ""
        with self.kept as kept:
            kept.seek(0)
            return kept.read().decode(errors="replace")

    def report(self) -> str:
        "Its name, its kept output, its end and its time."
        head = f"--- {self.gate.name}\n{self.told()}" if self.kept is not None else ""
        return f"{head}--- {self.gate.name}: fine, {time.monotonic() - self.began:.0f} s"

    def end(self) -> None:
        "End it and all that it started: as Ctrl-C does, then by force."
        family: list[psutil.Process] = []
        with suppress(psutil.Error):
            own = psutil.Process(self.process.pid)
            family = [own, *own.children(recursive=True)]
        for number in (signal.SIGINT, signal.SIGKILL):
            for member in family:
                with suppress(psutil.Error):
                    member.send_signal(number)
            family = psutil.wait_procs(family, PATIENCE)[1]
        self.process.wait()
        if self.kept is not None:
            self.kept.close()


@dataclass
class Lane:
    "Checks that follow each other."

    gates: deque[Gate]
    keep: bool  # the output until the check has ended
    now: Running | None = None

    def begin(self) -> None:
        "Begin the next check, if there is one."
        if self.gates:
            gate = self.gates.popleft()
            kept: IO[bytes] | None = tempfile.TemporaryFile() if self.keep else None  # noqa: SIM115
            if kept is None:
                say(f"--- {gate.name}")
            told: dict[str, Any] = {"stdout": kept, "stderr": subprocess.STDOUT} if kept else {}
            self.now = Running(gate, subprocess.Popen(gate.command, cwd=ROOT, env=ENVIRONMENT, **told), kept)

    def look(self) -> Running | None:
        "The check that has just passed, if one has; one that failed is an error."
        running = self.now
        if running is None or running.process.poll() is None:
            return None
        if running.process.returncode:
            kept = f"\n--- {running.gate.name}\n{running.told()}" if running.kept is not None else ""
            raise FailedError(f"{kept}run: {running.gate.name} failed: {' '.join(running.gate.command)}")
        self.now = None
        return running


def check(main: Iterable[Gate], beside: Iterable[Gate] = (), pause: float = 0.1) -> None:
    "Run both lanes to their ends; whatever ends this early ends all of them."
    shown, kept = Lane(deque(main), keep=False), Lane(deque(beside), keep=True)
    waiting: list[str] = []  # reports of the second lane, until the first has come to a place for them
    try:
        for lane in (shown, kept):
            lane.begin()
        while shown.now or kept.now:
            if came:
                raise StoppedError
            if passed := kept.look():
                waiting.append(passed.report())
                kept.begin()
            if passed := shown.look():
                waiting.insert(0, passed.report())
            if shown.now is None:
                for text in waiting:
                    say(text)
                waiting.clear()
                shown.begin()
            time.sleep(pause)
    finally:
        for lane in (shown, kept):
            if lane.now:
                lane.now.end()


def main(options: list[str]) -> int:
    "All checks; `options` go to pytest."
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    documentation, tests = MAIN
    try:
        check(FIRST)
        check((documentation, Gate(tests.name, (*tests.command, *options))), BESIDE)
    except StoppedError:
        return 128 + came[0]
    except FailedError as error:
        if not came:  # Ctrl-C reaches the checks too, and they end by it
            print(error, file=sys.stderr, flush=True)
        return 128 + came[0] if came else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
