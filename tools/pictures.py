"""The pictures of README and guides, made from the real page: `python tools/pictures.py [demo] [guide] [report]` (default: all of them).

*demo* runs `trade-telemetry demo` as it is, watches its page until both strategies that lose their skill are called degraded, and keeps
the page of that moment (dashboard.png) and a recording of twenty seconds (desk.gif) with what the terminal said below it. *guide* and
*report* show two strategies of the simulated desk. Needs Chromium and Playwright (extra dev); two to three minutes on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from trade_telemetry.trading.simulated_desk import DeskPlan, DeskPlayer, SimulatedDesk  # noqa: E402

IMAGES = ROOT / "nbs" / "images"
COMMAND = [sys.executable, "-c", "import sys; from trade_telemetry.cli.main import main; sys.exit(main())"]
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
HOSTILE = '<img src=x onerror="window.hacked=1">'
GIF_BYTES, GIF_SECONDS = 3_000_000, 20.0


class Program:
    "A verb that serves a page, and what it has said so far."

    def __init__(self, *words: str | Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, words)], stdout=subprocess.PIPE, text=True, env=environment, cwd=tempfile.gettempdir()
        )  # fmt: skip
        self.lines: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def wait_for(self, pattern: str, seconds: float = 180.0) -> re.Match[str]:
        "Wait until it has said something."
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            for line in list(self.lines):
                if found := re.search(pattern, line):
                    return found
            time.sleep(0.1)
        raise SystemExit(f"{pattern!r} was not said; the last lines: {self.lines[-5:]}")


@contextmanager
def running(*words: str | Path) -> Iterator[tuple[Program, str]]:
    "A verb with its page, ended at the end of the block."
    program = Program(*words)
    try:
        yield program, program.wait_for(r"http://\S+")[0]
    finally:
        program.process.send_signal(signal.SIGINT)
        try:
            program.process.wait(30)
        except subprocess.TimeoutExpired:
            program.process.kill()


@contextmanager
def viewing(browser: Browser, url: str, width: int, height: int, dark: bool = False) -> Iterator[Page]:
    "The page with all its panels."
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", locale="en-US"
    )
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector(".tt-clock[data-ack]", timeout=90_000)
    settle(page)
    yield page
    context.close()


def settle(page: Page, seconds: float = 45.0) -> None:
    "Wait until nothing is being worked out any more, and for what moves on the screen."
    page.wait_for_timeout(1500)
    until = time.monotonic() + seconds
    while time.monotonic() < until and page.get_attribute(".tt-clock", "data-waiting") == "true":
        page.wait_for_timeout(200)
    page.wait_for_timeout(1000)


def palette_of(frames: list[Image.Image], colors: int) -> Image.Image:
    "Colors of some frames; vivid ones count although few pixels have them."
    shown = [np.asarray(frame).reshape(-1, 3) for frame in frames[:: max(1, len(frames) // 4)]]
    pixels = np.concatenate(shown)
    vivid = pixels[np.ptp(pixels.astype(np.int16), axis=1) > 60]
    some = np.concatenate([pixels[::7], *[vivid] * max(1, len(pixels) // 7 // max(1, len(vivid)))])
    square = some[: len(some) // 256 * 256].reshape(-1, 256, 3)
    return Image.fromarray(square).quantize(colors, dither=Image.Dither.NONE)


def keep(page: Page, name: str, width: int = 1000) -> None:
    "Save what is on the screen, so many pixels wide, with 256 colors."
    shot = Image.open(BytesIO(page.screenshot())).convert("RGB")
    size = width, round(shot.height * width / shot.width)
    shot = shot if size == shot.size else shot.resize(size, Image.Resampling.LANCZOS)
    shot.quantize(palette=palette_of([shot], 256), dither=Image.Dither.NONE).save(
        IMAGES / name, optimize=True
    )
    print(f"{name}: {(IMAGES / name).stat().st_size / 1000:.0f} kB", flush=True)


# ------------------------------------------------------------------ the demo


def captioned(shot: Image.Image, lines: list[str]) -> Image.Image:
    "A screenshot with the last lines of the terminal below it."
    font = ImageFont.truetype(str(FONTS / "DejaVuSansMono.ttf"), 12)
    high, most = 18, int((shot.width - 24) / font.getlength("m"))
    whole = Image.new("RGB", (shot.width, shot.height + 4 * high + 16), "#11161f")
    whole.paste(shot, (0, 0))
    draw = ImageDraw.Draw(whole)
    for k, line in enumerate(lines[-4:]):
        text = line if len(line) <= most else f"{line[: most - 1]}…"
        color = "#ff9c8f" if "found after" in line else "#8fd18f" if "is told" in line else "#d7dde8"
        draw.text((12, shot.height + 8 + k * high), text, font=font, fill=color)
    return whole


def told(program: Program) -> list[str]:
    "What was said of the desk, without the sentences that explain it."
    wanted = r"at 20|simulated desk, seed|a year of backtest each|.+: found after|the silence of"
    return [line for line in program.lines if re.match(wanted, line)]


def save_recording(frames: list[Image.Image], path: Path) -> None:
    "A GIF of twenty seconds below three megabytes; fewer colors, then fewer frames, where it is larger."
    for colors, every in ((200, 1), (100, 1), (50, 1), (32, 2)):
        some = frames[::every][:-1] + frames[-1:]
        step = int(1000 * GIF_SECONDS / (len(some) + 5))
        palette = palette_of(some, colors)
        flat = [one.quantize(palette=palette, dither=Image.Dither.NONE) for one in some]
        flat[0].save(
            path,
            save_all=True,
            append_images=flat[1:],
            duration=[step] * (len(flat) - 1) + [6 * step],
            loop=0,
            optimize=True,
        )
        if path.stat().st_size <= GIF_BYTES:
            break
    print(f"{path.name}: {len(flat)} frames, {path.stat().st_size / 1000:.0f} kB", flush=True)


BOTH = "(document.body.innerText.match(/lost its edge/g) ?? []).length >= 2"


def picture_demo(browser: Browser, folder: Path) -> None:
    "The desk when both breaks are found, and how it came to that."
    words = ("demo", "--telemetry-dir", folder / "analytics", "--data-dir", ROOT / "data", "--port", "0")
    with running(*words) as (program, url), viewing(browser, url, 1280, 860) as page:
        frames, found = list[Image.Image](), 0.0
        until = time.monotonic() + 300
        while time.monotonic() < until and not (found and time.monotonic() - found > 4):
            page.evaluate("document.querySelector('.tt-refresh')?.click()")
            page.wait_for_timeout(700)
            shot = Image.open(BytesIO(page.screenshot())).convert("RGB")
            frames.append(captioned(shot.resize((960, 645), Image.Resampling.LANCZOS), told(program)))
            found = found or (time.monotonic() if page.evaluate(BOTH) else 0.0)
        if not found:
            raise SystemExit("the page did not show both breaks within five minutes")
        keep(page, "dashboard.png", 1280)
        print("\n".join(told(program)))
    wanted = min(len(frames), 48)
    chosen = [frames[round(k * (len(frames) - 1) / (wanted - 1))] for k in range(wanted)]
    save_recording(chosen, IMAGES / "desk.gif")


# ------------------------------------------------------------------ the guides


def played(folder: Path, *names: str, breaks: tuple[str, ...], until: date) -> Path:
    "A simulated desk of some strategies, as far as a day."
    player = DeskPlayer(SimulatedDesk(DeskPlan(seed=1, names=names, breaks=breaks)), folder)
    player.write_backtest()
    while player.day is not None and player.day <= until:
        player.play()
    player.close()
    return folder


def two_strategies(folder: Path) -> Path:
    "A desk of two, of which one has lost its skill; made once."
    two, breaks = folder / "two", ("intraday@2025-04-14", "swing@2025-12-31")
    return two if two.exists() else played(two, "intraday", "swing", breaks=breaks, until=date(2025, 5, 30))


def picture_guide(browser: Browser, folder: Path) -> None:
    "Two strategies on the page, of which one has lost its skill; the tabs; a phone; a page that lost its server."
    two = two_strategies(folder)
    words: tuple[str | Path, ...] = ("dashboard", "--port", "0", "--alert-precision-threshold", "0.48")
    with running(*words, "--telemetry-dir", two) as (_, url):
        with viewing(browser, url, 1280, 980) as page:
            keep(page, "dashboard_light.png")
            page.locator(".tt-confusion button").first.click()
            settle(page)
            page.locator(".tt-trades, .tt-trade-table").first.scroll_into_view_if_needed()
            keep(page, "dashboard_trades.png")
        with viewing(browser, f"{url}#tab=confidence", 1280, 472) as page:
            keep(page, "dashboard_details.png")
        with viewing(browser, url, 430, 1340, dark=True) as page:
            keep(page, "dashboard_mobile.png", 430)
    one = played(folder / "one", HOSTILE, breaks=(f"{HOSTILE}@2025-12-31",), until=date(2025, 3, 14))
    with running(*words, "--telemetry-dir", one) as (program, url), viewing(browser, url, 1280, 980) as page:
        program.process.send_signal(signal.SIGINT)
        page.wait_for_selector(".tt-clock[data-state=lost]", timeout=120_000)
        page.wait_for_timeout(1500)
        keep(page, "dashboard_lost.png")


def picture_report(browser: Browser, folder: Path) -> None:
    "The first page of a report on the same two strategies."
    two = two_strategies(folder)
    out = folder / "report.html"
    subprocess.run(
        [*COMMAND, "report", "--telemetry-dir", str(two), "--out", str(out)],
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    context = browser.new_context(viewport={"width": 1000, "height": 1180}, color_scheme="light")
    page = context.new_page()
    page.goto(out.as_uri())
    page.wait_for_timeout(500)
    keep(page, "report.png")
    context.close()


def main() -> int:
    "Make the pictures."
    jobs = {"demo": picture_demo, "guide": picture_guide, "report": picture_report}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="*", help=f"{', '.join(jobs)} (default: all)")
    asked = parser.parse_args().what or list(jobs)
    if wrong := set(asked) - set(jobs):
        parser.error(f"no pictures {', '.join(sorted(wrong))}; there are {', '.join(jobs)}")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        )
        for what in asked:
            began = time.monotonic()
            jobs[what](browser, Path(name))
            print(f"{what}: {time.monotonic() - began:.0f} s", flush=True)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
