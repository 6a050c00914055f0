"""Numbers for Prometheus and OpenTelemetry are those of `export`; the dashboard file names no other; the unit file holds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from trade_telemetry.cli.main import main
from trade_telemetry.judgement.alert_rules import AlertReport
from trade_telemetry.judgement.exporters import UNITS, prometheus_text
from trade_telemetry.judgement.gauges import (
    MEANINGS,
    MOST_STRATEGIES,
    PREFIX,
    Figures,
    gauges_of,
    labels_of,
    prometheus_name,
)
from trade_telemetry.store.view import View
from trade_telemetry.testing import START, simulate_columns, simulate_run, write_run

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import grafana  # noqa: E402

LATER = START + timedelta(weeks=60)
Key = tuple[str, frozenset[tuple[str, str]]]
NAMES = ("gap_fade", 'trend "x"\n\\{y}')


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two strategies, one of them broken; the writer is alive."""
    folder = tmp_path_factory.mktemp("desk")
    write_run(folder / "backtest_20250106_000000", simulate_run(200, 6, 0.6, seed=1, strategies=NAMES))
    rows = []
    for k, name in enumerate(NAMES):
        gone: dict[str, Any] = {"loss_of_skill_on_day": 50, "precision_after": 0.36} if k == 0 else {}
        rows += simulate_run(80, 6, 0.6, seed=5 + k, strategies=(name,), mode="live", start=LATER, **gone)
    write_run(folder / "live", sorted(rows, key=lambda t: t.exit_timestamp or t.timestamp), mode="live")
    return folder


def asked(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    main([str(word) for word in words])
    return capsys.readouterr().out


@pytest.fixture
def exported(desk: Path, capsys: pytest.CaptureFixture[str]) -> dict[Key, float]:
    """What `export` and `check` say, under the names of the gauges."""
    state = json.loads(asked(capsys, "export", "--telemetry-dir", desk))
    checked = json.loads(asked(capsys, "check", "--telemetry-dir", desk, "--json"))
    found: dict[Key, float] = {}

    def put(name: str, value: float | None, **labels: str) -> None:
        if value is not None:
            found[name, frozenset(labels.items())] = value

    labels = labels_of(state["strategies"])
    for strategy, own in state["strategies"].items():
        share, health, name = own["precision"], state["health"][strategy], labels[strategy]
        for end, key in (("", "value"), ("_low", "low"), ("_high", "high"), ("_calls", "n")):
            put(f"precision{end}", share[key], strategy=name)
        put("mean_return", own["mean_return_pct"] / 100, strategy=name)
        put("drawdown", own["max_drawdown_pct"] / 100, strategy=name)
        put("win", own["win_rate"], strategy=name)
        put("sharpe", own["sharpe_ratio"], strategy=name)
        put("trades", own["trades"], strategy=name)
        put("health_evidence", health["evidence"], strategy=name)
        put("health_chance", health["chance"], strategy=name)
        put("health_false_alarm", health["false_alarm"], strategy=name)
        put("promised_precision", health["right_promised"], strategy=name)
        put("health_state", 1.0, strategy=name, state=health["state"])
    put("expected_false_alarms", state["health_desk"]["expected_false_alarms"])
    put("expected_false_watch", state["health_desk"]["expected_false_watch"])
    for severity in ("critical", "warning", "info"):
        put("alerts", sum(a["severity"] == severity for a in checked["alerts"]), severity=severity)
    put("writer_written", state["coverage"]["rows"])
    put("writer_offered", state["coverage"]["closes"])
    return found


def parsed(text: str) -> dict[Key, float]:
    """A page of Prometheus under our names."""
    names = {prometheus_name(name): name for name in MEANINGS}
    found = {}
    for family in text_string_to_metric_families(text):
        for s in family.samples:
            assert family.documentation == MEANINGS[names[s.name]].help
            assert family.type == ("counter" if MEANINGS[names[s.name]].grows else "gauge")
            found[names[s.name], frozenset(s.labels.items())] = s.value
    return found


def test_the_text_for_prometheus_says_what_export_says(
    desk: Path, exported: dict[Key, float], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = parsed(asked(capsys, "metrics", "--telemetry-dir", desk, "--format", "prometheus"))
    assert {key: found.get(key) for key in exported} == exported
    assert len(exported) > 30 and {name for name, _ in found} <= set(MEANINGS)
    assert sum(v for (name, _), v in found.items() if name == "health_state") == len(NAMES)
    file = tmp_path / "desk.prom"
    assert asked(capsys, "metrics", "--telemetry-dir", desk, "--format", "prometheus", "--out", file) == ""
    again = parsed(file.read_text())
    moving = {"last_trace_age", "last_look_timestamp", "writer_heartbeat_age"}
    assert {k: v for k, v in again.items() if k[0] not in moving} == {
        k: v for k, v in found.items() if k[0] not in moving
    }


class Collector(BaseHTTPRequestHandler):
    inbox: ClassVar[list[tuple[str, ExportMetricsServiceRequest]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.inbox.append((self.path, ExportMetricsServiceRequest.FromString(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("by_environment", [False, True])
def test_a_collector_is_sent_what_export_says(
    desk: Path, exported: dict[Key, float], collector: str, by_environment: bool,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    Collector.inbox.clear()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    if by_environment:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
    words = [] if by_environment else ["--otlp-endpoint", collector]
    asked(capsys, "watch", "--once", "--telemetry-dir", desk, *words)
    ((path, request),) = Collector.inbox
    assert path == "/v1/metrics"
    (resource,) = request.resource_metrics
    assert {a.key: a.value.string_value for a in resource.resource.attributes}[
        "service.name"
    ] == "trade_telemetry"
    found: dict[Key, float] = {}
    for m in resource.scope_metrics[0].metrics:
        name = m.name.removeprefix(f"{PREFIX}.")
        meaning = MEANINGS[name]
        assert (m.unit, m.description) == (UNITS[meaning.unit], meaning.help)
        kind = m.WhichOneof("data")
        assert kind == ("sum" if meaning.grows else "gauge") and (not meaning.grows or m.sum.is_monotonic)
        for point in getattr(m, kind).data_points:
            found[name, frozenset((a.key, a.value.string_value) for a in point.attributes)] = point.as_double
    assert {key: found.get(key) for key in exported} == exported


def test_so_many_strategies_are_told_and_the_rest_is_counted() -> None:
    names = [f"s{k:03}" for k in range(60)]
    rows = simulate_columns(3, 2, 0.6, mode="live", strategies=names)
    view, report = View("live", rows, None, [], []), AlertReport([], [], {})
    found = gauges_of(view, report, None, START, Figures(), most=50)
    assert (MOST_STRATEGIES, sum(s.name == "trades" for s in found)) == (500, 50)
    assert [s.value for s in found if s.name == "strategies_left_out"] == [10.0]
    assert {name for s in found for name, _ in s.labels} <= {"strategy", "state", "severity", "reason"}
    assert len(parsed(prometheus_text(found))) == len(found)


@pytest.mark.parametrize(
    ("module", "extra", "words"),
    [
        ("prometheus_client", "metrics", ["metrics", "--format", "prometheus"]),
        ("prometheus_client", "metrics", ["watch", "--metrics-port", "0"]),
        ("opentelemetry", "otlp", ["watch", "--otlp-endpoint", "http://127.0.0.1:1"]),
    ],
)
def test_what_is_not_installed_is_said_in_one_line(
    desk: Path, module: str, extra: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, module, None)
    assert main([*words, "--telemetry-dir", str(desk)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"pip install 'trade_telemetry[{extra}]' brings it" in said


def test_the_dashboard_file_is_what_the_tool_builds_and_asks_for_nothing_else() -> None:
    text = grafana.OUT.read_text(encoding="utf-8")
    assert text == grafana.text()
    board = json.loads(text)
    asked_for = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked_for += [v["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    named = set(re.findall(rf"\b{PREFIX}_\w+", " ".join(asked_for)))
    assert named <= {prometheus_name(name) for name in MEANINGS} and len(named) > 15
    for panel in board["panels"]:  # every line has a source, a place and a title
        assert panel["datasource"]["uid"] == "${datasource}" and panel["title"] and panel["gridPos"]["w"] > 0
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def unit_file() -> str:
    """The unit as the guide shows it."""
    guide = json.loads((ROOT / "nbs" / "guides" / "leave_it_on.ipynb").read_text(encoding="utf-8"))
    text = "".join("".join(cell["source"]) + "\n" for cell in guide["cells"])
    return re.findall(r"```ini\n(\[Unit\].*?)```", text, re.S)[0]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_the_unit_of_the_guide_is_one_that_systemd_understands(tmp_path: Path) -> None:
    command = tmp_path / "trade-telemetry"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    unit = tmp_path / "trade-telemetry-watch.service"
    unit.write_text(re.sub(r"ExecStart=\S+", f"ExecStart={command}", unit_file()))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    about = [line for line in (done.stdout + done.stderr).splitlines() if unit.name in line]
    assert about == [], about
