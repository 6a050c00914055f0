"""Launching the dashboard: who is let in, from where it starts, what is left when it ends."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_WR, create_connection, create_server, socket
from typing import Any
from urllib.parse import urlsplit

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from pages import (
    ALL_PANELS,
    LIMIT,
    NOTEBOOK,
    ROOT,
    Server,
    needs_browser,
    rows,
    sample_traces,
    serving,
    until,
    viewing,
)
from playwright.sync_api import Browser, expect

from trade_telemetry.dashboard.server import VOILA

COMMAND = [sys.executable, "-c", "import sys; from trade_telemetry.cli.main import main; sys.exit(main())"]
KERNEL_ID = "JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
BEATS = """window.beats = [], new MutationObserver(() => beats.push(performance.now()))
  .observe(document.querySelector('.tt-clock'), { attributeFilter: ['data-beat'] })"""
NOBODY = "00000000-0000-0000-0000-000000000000"  # a kernel that is not there


@pytest.fixture(scope="module")
def analytics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_traces(tmp_path_factory.mktemp("analytics"))


def clean(**environment: str) -> dict[str, str]:
    """Environment without settings of the machine that runs the tests."""
    ours = ("TELEMETRY_", "DASHBOARD_", "JUPYTER_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | environment


def call(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, words)], cwd=cwd, env=clean(**{"PYTHONPATH": str(ROOT)} | environment),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@contextmanager
def launched(*words: str | Path, cwd: Path, **environment: str) -> Iterator[Server]:
    """Run `trade-telemetry dashboard …` until the block ends; `url` is the address that it prints."""
    with subprocess.Popen(
        [*COMMAND, *map(str, words)], cwd=cwd, env=clean(**{"PYTHONPATH": str(ROOT)} | environment),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        server, family = Server(process, ""), []
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            line = next((text for text in process.stdout if "http://" in text), "")
            found = re.search(r"http://\S+", line)
            assert found, process.stderr.read()
            server.url = found[0]
            family = server.family()
            yield server
        finally:
            family += server.family()
            process.terminate()
            for left in psutil.wait_procs(set(family), 20)[1]:
                left.kill()


def ask(url: str, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    """Answer to a request, whatever it is; the path counts from the page's own."""
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)) as connection:
        connection.request(method, parts.path + path, headers=headers)
        answer = connection.getresponse()
        if answer.status != 101:
            answer.read()
        return answer


def page_of(server: Server) -> str:
    """The page without what a browser does with it: a kernel is taken for it, nobody connects."""
    with closing(
        http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port, timeout=LIMIT / 1000)
    ) as connection:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()


# ------------------------------------------------------------------------------------------- who may look


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.0.2.7"])
def test_an_address_that_others_reach_is_refused_without_a_secret(host: str, tmp_path: Path) -> None:
    for verb in ("dashboard", "demo"):
        done = call(verb, "--host", host, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert "lets other machines reach the page, so it needs --token" in done.stderr
    assert list(tmp_path.iterdir()) == []


@needs_browser
def test_without_the_token_the_server_answers_nothing_that_matters(
    browser: Browser, analytics: Path, tmp_path: Path
) -> None:
    words = ("dashboard", "--telemetry-dir", analytics, "--token", "--port", "0")
    with launched(*words, cwd=tmp_path) as server:
        url, _, token = server.url.partition("?token=")
        assert len(token) > 20
        assert not any(token in word for p in server.family() for word in p.cmdline())
        with viewing(browser, server) as (page, seen):
            kernel = page.evaluate(KERNEL_ID)
            for headers in ({}, {"Authorization": "token wrong"}, {"Cookie": "username-127-0-0-1=me"}):
                assert ask(url, "", **headers).status == 302  # to the form that asks for it
                assert ask(url, f"api/kernels/{kernel}", **headers).status == 403
                assert ask(url, f"api/kernels/{kernel}/channels", **headers, **UPGRADE).status == 403
                for method, path in (("DELETE", "api/kernels/"), ("POST", "voila/api/shutdown/")):
                    assert ask(url, path + kernel, method, **headers).status == 403
                assert ask(url, "api/kernels", "POST", **headers).status in (403, 404)
                assert ask(url, "voila/files/dashboard.ipynb", **headers).status == 403
            known = {"Authorization": f"token {token}"}
            assert ask(url, f"api/kernels/{kernel}", **known).status == 200
            assert rows(page) == 3200
            page.goto(url, wait_until="commit")  # the cookie is enough from now on
            page.wait_for_function(ALL_PANELS, polling="raf")
            assert seen.complaints == []
        stranger = browser.new_context()
        page = stranger.new_page()
        page.goto(url)
        expect(page.locator("#password_input")).to_be_visible()
        assert page.locator(".tt-app").count() == 0
        stranger.close()


@needs_browser
def test_a_password_opens_the_page_and_its_hash_stays_out_of_sight(
    browser: Browser, analytics: Path, tmp_path: Path
) -> None:
    from jupyter_server.auth import passwd

    hashed = passwd("open sesame", "sha1")
    settings = {"DASHBOARD_PASSWORD_HASH": hashed, "TELEMETRY_STORAGE_PATH": str(analytics)}
    with launched("dashboard", "--port", "0", cwd=tmp_path, **settings) as server:
        assert ask(server.url, f"api/kernels/{NOBODY}").status == 403
        inside = [p for p in server.family() if p.pid != server.process.pid]
        assert not any("DASHBOARD_PASSWORD_HASH" in p.environ() for p in inside)
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.url)
        page.fill("#password_input", "open barley")
        page.click("#login_submit")
        expect(page.locator(".message")).to_contain_text("Invalid credentials")
        page.fill("#password_input", "open sesame")
        page.click("#login_submit")
        page.wait_for_function(ALL_PANELS, polling="raf", timeout=LIMIT)
        assert rows(page) == 3200
        context.close()


@pytest.fixture(scope="module")
def bare(analytics: Path) -> Iterator[Server]:
    """`voila nbs/dashboard.ipynb` from the root, as the README says."""
    with serving(NOTEBOOK.relative_to(ROOT), analytics, by_hand=True) as server:
        yield server


@needs_browser
def test_a_page_that_rebinds_its_own_name_to_this_machine_is_refused(browser: Browser, bare: Server) -> None:
    with viewing(browser, bare) as (page, _):
        kernel = page.evaluate(KERNEL_ID)
        port = urlsplit(bare.url).port
        for name in ("evil.test", f"evil.test:{port}", "192.168.1.10"):
            assert ask(bare.url, "", Host=name).status == 403
            assert ask(bare.url, f"api/kernels/{kernel}", Host=name).status == 403
            assert ask(bare.url, f"api/kernels/{kernel}/channels", Host=name, **UPGRADE).status == 403
        for name in ("localhost", f"127.0.0.1:{port}", "[::1]"):
            assert ask(bare.url, f"api/kernels/{kernel}", Host=name).status == 200
        foreign = {"Origin": "http://evil.test", **UPGRADE}
        assert ask(bare.url, f"api/kernels/{kernel}/channels", **foreign).status == 403
        assert ask(bare.url, f"api/kernels/{kernel}", "DELETE").status == 403


@contextmanager
def listening_elsewhere(body: str = "") -> Iterator[tuple[str, list[str]]]:
    """A server that is not ours: its address, and what it was asked for."""
    asked: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()
            self.wfile.write(body.encode())

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://elsewhere.test:{server.server_port}/", asked
        server.shutdown()


@needs_browser
def test_the_page_can_reach_no_other_host_and_no_other_page_can_frame_it(
    browser: Browser, bare: Server
) -> None:
    with listening_elsewhere() as (elsewhere, asked), viewing(browser, bare) as (page, _):
        refused = page.evaluate(
            """async (there) => {
                const refused = new Set();
                document.addEventListener('securitypolicyviolation', (e) => refused.add(e.effectiveDirective));
                const add = (tag, attributes) => document.body.append(Object.assign(document.createElement(tag), attributes));
                add('img', { src: there + 'img' });
                add('script', { src: there + 'script' });
                add('link', { rel: 'stylesheet', href: there + 'style' });
                add('iframe', { src: there + 'frame' });
                navigator.sendBeacon(there + 'beacon');
                try { new WebSocket(there.replace('http', 'ws') + 'socket'); } catch {}
                const fetched = await fetch(there + 'fetch').then(() => true, () => false);
                await new Promise((done) => setTimeout(done, 500));
                return { fetched, refused: [...refused].sort() };
            }""",
            elsewhere,
        )
        assert asked == []
        assert not refused["fetched"]
        assert {"connect-src", "frame-src", "img-src", "script-src-elem", "style-src-elem"} <= set(
            refused["refused"]
        )
        policy = ask(bare.url, f"api/kernels/{NOBODY}").headers["Content-Security-Policy"]
        assert "frame-ancestors 'self'" in policy
    with listening_elsewhere(f"<iframe src='{bare.url}'></iframe>") as (elsewhere, asked):
        context = browser.new_context()
        page = context.new_page()
        page.goto(elsewhere, wait_until="load")
        assert asked[0] == "/"
        assert page.frames[1].locator(".tt-app").count() == 0
        assert page.frames[1].url.startswith("chrome-error:")
        context.close()
    assert bare.kernels() > 0


# ----------------------------------------------------------------------------------------- from where, and how


@needs_browser
def test_settings_come_from_flags_environment_and_file_in_this_order(
    browser: Browser, analytics: Path, tmp_path: Path
) -> None:
    (tmp_path / "trade_telemetry.yaml").write_text(
        f"telemetry_storage_path: {analytics}\ndashboard_refresh_interval: 7\ndashboard_alert_precision_threshold: 0.9\n"
    )
    flags = ("--alert-precision-threshold", "0.1", "--port", "0", "--log", "server.log")
    with (
        launched("dashboard", *flags, cwd=tmp_path, DASHBOARD_REFRESH_INTERVAL="5") as server,
        viewing(browser, server) as (page, seen),
    ):
        assert rows(page) == 3200  # the file's directory
        log = tmp_path / "server.log"
        assert "is running at" in log.read_text(encoding="utf-8")
        assert log.stat().st_mode & 0o077 == 0
        expect(page.locator(".tt-alerts")).not_to_contain_text("Precision below")  # the flag's threshold
        page.evaluate(
            BEATS
        )  # the environment's interval: a busy machine makes it longer, nothing makes it shorter
        page.wait_for_function("beats.slice(1).some((at, i) => at - beats[i] < 6_900)", timeout=LIMIT)
        assert seen.complaints == []


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as a wheel brings it, without a checkout around it."""
    work, target = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("site")
    for folder in ("trade_telemetry", "tools", "nbs"):
        shutil.copytree(ROOT / folder, work / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "MANIFEST.in"):
        shutil.copy(ROOT / name, work)
    build = "import sys; sys.path.insert(0, 'tools'); import build_backend as b; b.build_wheel('dist')"
    (work / "dist").mkdir()
    subprocess.run([sys.executable, "-c", build], cwd=work, check=True, capture_output=True)
    (wheel,) = (work / "dist").glob("*.whl")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target), str(wheel)],
        check=True, capture_output=True,
    )  # fmt: skip
    shutil.rmtree(work)
    return target


def test_the_server_starts_without_a_grammar_that_nobody_asks_for() -> None:
    command = [sys.executable, "-X", "importtime", "-c", VOILA, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    names = {line.split("|")[2].strip() for line in done.stderr.splitlines() if line.count("|") == 2}
    assert {"voila.app", "jsonschema"} <= names
    assert names & {"lark", "rfc3987_syntax.syntax_helpers"} == set()


@needs_browser
def test_an_installed_package_serves_the_page_from_any_directory(
    browser: Browser, installed: Path, analytics: Path, tmp_path: Path
) -> None:
    (installed / "trade_telemetry.yaml").write_text("nonsense: 1\n")  # above the notebook, but not asked for
    words = ("dashboard", "--telemetry-dir", analytics, "--port", "0")
    with launched(*words, cwd=tmp_path, PYTHONPATH=str(installed)) as server:
        served = [word for p in server.family() for word in p.cmdline() if word.endswith(".ipynb")]
        assert served == [str(installed / "trade_telemetry" / "dashboard.ipynb")]
        with viewing(browser, server) as (page, seen):
            assert rows(page) == 3200
            assert page.evaluate("document.documentElement.classList.contains('tt-page')")  # our template
            assert seen.off_host() == []
            assert seen.complaints == []
    assert list(tmp_path.iterdir()) == []


def pump(source: socket, sink: socket) -> None:
    with source, sink:
        try:
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(SHUT_WR)
        except OSError:
            pass  # one side has gone


@contextmanager
def proxy(port: int) -> Iterator[int]:
    """What a reverse proxy does that keeps path and Host header: hand on bytes both ways."""

    def accept(listener: socket) -> None:
        while True:
            try:
                viewer, _ = listener.accept()
            except OSError:
                return
            server = create_connection(("127.0.0.1", port))
            for pair in ((viewer, server), (server, viewer)):
                threading.Thread(target=pump, args=[one.dup() for one in pair], daemon=True).start()
            viewer.close()
            server.close()

    with create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(2)


@needs_browser
def test_behind_a_proxy_the_page_has_a_path_and_a_public_name(
    browser: Browser, analytics: Path, tmp_path: Path
) -> None:
    words = ("dashboard", "--telemetry-dir", analytics, "--port", "0")
    flags = ("--base-url", "desk/telemetry", "--public-host", "desk.test")
    with launched(*words, *flags, cwd=tmp_path) as server, ExitStack() as stack:
        assert urlsplit(server.url).path == "/desk/telemetry/"
        public = stack.enter_context(proxy(urlsplit(server.url).port or 0))
        assert ask(server.url, "", Host="other.test").status == 403
        server.url = f"http://desk.test:{public}/desk/telemetry/"
        with viewing(browser, server) as (page, seen):
            assert rows(page) == 3200
            assert {urlsplit(url).hostname for url in seen.requests if url.startswith(("http", "ws"))} == {
                "desk.test"
            }
            page.reload(wait_until="commit")
            page.wait_for_function(ALL_PANELS, polling="raf")
            assert until(lambda: server.kernels() == 2, page)  # its own, and the one that waits
            assert seen.complaints == []
        idle = browser.new_page()
        assert until(lambda: server.kernels() == 1, idle)
        idle.close()


# ------------------------------------------------------------------------------------------------ how it ends


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = call("dashboard", "--port", port, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"trade-telemetry dashboard: cannot listen on 127.0.0.1, port {port}: Address already in use; "
        "leave --port out to get a free one\n"
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_whatever_ends_the_launcher_ends_server_and_kernels(name: str, tmp_path: Path) -> None:
    with launched("dashboard", "--port", "0", cwd=tmp_path, TMPDIR=str(tmp_path)) as server:
        assert server.process.stdout is not None
        assert server.process.stderr is not None
        family = server.family()
        assert len(family) >= 2
        server.process.send_signal(getattr(signal, name))
        killed = name == "SIGKILL"
        assert server.process.wait(20) == (-signal.SIGKILL if killed else 0)
        _, alive = psutil.wait_procs(family, 30)
        assert alive == []
        assert server.process.stderr.read() == ""
        assert killed or list(tmp_path.iterdir()) == []
        assert [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(p.info["cmdline"])] == []


def test_a_server_that_dies_is_told_by_the_launcher(tmp_path: Path) -> None:
    with launched("dashboard", "--port", "0", cwd=tmp_path) as server:
        assert server.process.stderr is not None
        _, voila, *_ = server.family()
        voila.kill()
        assert server.process.wait(20) == 2
        assert "trade-telemetry dashboard: the dashboard's server ended by itself" in (
            server.process.stderr.read()
        )


# ---------------------------------------------------------------------------------------------------- kernels


def test_a_kernel_that_waited_long_is_not_culled_between_page_and_connection(analytics: Path) -> None:
    short = ("--MappingKernelManager.cull_idle_timeout=3", "--MappingKernelManager.cull_interval=1")
    with serving(NOTEBOOK, analytics, *short) as server:
        (waiting,) = [p for p in server.family() if "ipykernel_launcher" in " ".join(p.cmdline())]
        with pytest.raises(psutil.TimeoutExpired):
            waiting.wait(6)  # it waits for a viewer longer than the limit
        assert "tt-app" in page_of(server)  # as a browser does, which connects to the kernel later
        with pytest.raises(psutil.TimeoutExpired):
            waiting.wait(2)  # two looks of the culler
        waiting.wait(10)  # a viewer who never connects is forgotten in the end


@needs_browser
def test_a_page_whose_kernel_has_gone_says_so_and_loads_itself_again_once(
    browser: Browser, bare: Server
) -> None:
    context = browser.new_context()
    page, loads = context.new_page(), []
    outdated = re.sub(r'("kernelId": ?)"[^"]+"', rf'\1"{NOBODY}"', page_of(bare))
    assert outdated.count(NOBODY) == 1
    page.on("request", lambda request: loads.append(request.url) if request.url == bare.url else None)
    page.route(bare.url, lambda route: route.fulfill(body=outdated, content_type="text/html"))
    page.goto(bare.url)
    expect(page.locator(".tt-no-kernel")).to_contain_text("Loading it again")
    expect(page.locator(".tt-no-kernel")).to_contain_text("Reload it", timeout=LIMIT)
    assert not until(lambda: len(loads) > 2, page, 4)  # it does not go on for ever
    assert len(loads) == 2
    page.unroute(bare.url)
    page.reload(wait_until="commit")
    page.wait_for_function(ALL_PANELS, polling="raf", timeout=LIMIT)
    assert page.locator(".tt-no-kernel").count() == 0
    page.wait_for_function(
        "sessionStorage.getItem('tt-loaded-again') === null", timeout=LIMIT
    )  # a look a second
    with page.expect_event("close"):
        page.close(run_before_unload=True)
    context.close()


def test_the_notebook_runs_as_a_plain_notebook_too(analytics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in JupyterLab, without template, server settings and launcher: the page is made, and beats are answered."""
    for name in [n for n in os.environ if n.startswith(("TELEMETRY_", "DASHBOARD_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TELEMETRY_STORAGE_PATH", str(analytics))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    beat = "clock = dashboard.clock; clock.beat += 1; assert clock.ack == clock.beat; print(clock.rows)"
    notebook.cells.append(nbformat.v4.new_code_cell(beat))
    NotebookClient(notebook, timeout=180, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    *_, page, answer = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "application/vnd.jupyter.widget-view+json" in page.outputs[-1].data
    assert [output.text for output in answer.outputs] == ["3200\n"]
    assert not any(
        o.output_type in ("error", "stream") for c in notebook.cells[:-1] for o in c.get("outputs", [])
    )


@needs_browser
def test_the_demo_serves_a_page_that_moves_and_ends_with_everything_it_started(
    browser: Browser, tmp_path: Path
) -> None:
    words = ("demo", "--telemetry-dir", tmp_path / "traces", "--data-dir", ROOT / "data", "--port", "0")
    words += ("--strategies", "3")  # so few are shown one by one, in all panels
    with launched(*words, cwd=tmp_path) as server:
        with viewing(browser, server) as (page, seen):
            assert page.get_attribute(".tt-clock", "data-mode") == "simulated"
            before = rows(page)
            refresh = "document.querySelector('.tt-refresh').click(), document.querySelector('.tt-clock').dataset.rows"
            page.wait_for_function(f"({refresh}) > {before}", polling=500)
            assert seen.complaints == []
        family = server.family()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 0
        assert psutil.wait_procs(family, 20)[1] == []
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""
