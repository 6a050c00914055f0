"""Build the dashboard file for Grafana from the names of our gauges.

python tools/grafana.py          write trade_telemetry/share/grafana/trade_telemetry.json
python tools/grafana.py --check  exit 1 where that file is not what would be written

The file was never loaded in Grafana here: that it has the form of one is what grafana-foundation-sdk promises.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableRefresh,
)

from trade_telemetry.judgement.gauges import prometheus_name

OUT = Path(__file__).resolve().parents[1] / "trade_telemetry" / "share" / "grafana" / "trade_telemetry.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
CHOSEN = 'strategy=~"$strategy"'
STATES = {"0": ("fine", "green"), "1": ("watch", "orange"), "2": ("degraded", "red")}


def metric(name: str, *labels: str) -> str:
    "A selector of one of our gauges; KeyError for a name that is none."
    inside = ",".join(labels)
    return f"{prometheus_name(name)}{{{inside}}}" if inside else prometheus_name(name)


def query(expression: str, legend: str = "", ref: str = "A") -> prometheus.Dataquery:
    "One line of a panel."
    return prometheus.Dataquery().expr(expression).legend_format(legend or "__auto").ref_id(ref)


def number(title: str, expression: str, about: str, bad: bool = False, unit: str = "short") -> stat.Panel:
    "One number; red from one on where it counts something bad."
    levels = [Threshold(None, "green"), Threshold(1, "red")] if bad else [Threshold(None, "blue")]
    colors = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(levels)
    panel = stat.Panel().title(title).description(about).datasource(SOURCE).unit(unit).height(4).span(4)
    return panel.thresholds(colors).graph_mode(BigValueGraphMode.NONE).with_target(query(expression))


def lines(title: str, about: str, unit: str, *queries: tuple[str, str]) -> timeseries.Panel:
    "Curves on a time axis: expressions and their legends."
    panel = (
        timeseries.Panel().title(title).description(about).datasource(SOURCE).unit(unit).height(8).span(12)
    )
    hover = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
    words = (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    panel = panel.fill_opacity(0).tooltip(hover).legend(words)
    for k, (expression, legend) in enumerate(queries):
        panel = panel.with_target(query(expression, legend, chr(ord("A") + k)))
    return panel


def with_ends(name: str) -> list[tuple[str, str]]:
    "A figure and the ends of its interval."
    kinds = {"": "", "_low": " low", "_high": " high"}
    return [(metric(f"{name}{end}", CHOSEN), f"{{{{strategy}}}}{word}") for end, word in kinds.items()]


def states() -> statetimeline.Panel:
    "Health over time, a row a strategy."
    labels = [('state="watch"', CHOSEN), ('state="degraded"', CHOSEN)]
    watch, lost = (f"max by (strategy) ({metric('health_state', *some)})" for some in labels)
    words = ValueMap({value: ValueMappingResult(text, color) for value, (text, color) in STATES.items()})
    panel = (
        statetimeline.Panel()
        .title("Health")
        .description("Fine, on watch or degraded, as trade-telemetry check says it.")
    )
    panel = panel.datasource(SOURCE).height(10).span(24).mappings([words])
    panel = panel.row_height(0.8).show_value(VisibilityMode.NEVER)
    return panel.with_target(query(f"{watch} + 2 * {lost}", "{{strategy}}"))


def build() -> dashboard.Dashboard:
    "The whole dashboard."
    source = dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    names = f"label_values({metric('trades')}, strategy)"
    strategy = dashboard.QueryVariable("strategy").label("Strategy").datasource(SOURCE).query(names)
    strategy = strategy.multi(True).include_all(True).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    age = f"time() - {metric('last_look_timestamp')}"
    lost = [
        (f"sum by (reason) (increase({metric(f'writer_{kind}')}[1h]))", f"{kind}: {{{{reason}}}}")
        for kind in ("dropped", "failed")
    ]
    handed = [
        (f"rate({metric(f'writer_{kind}')}[5m])", kind.replace("_", " "))
        for kind in ("offered", "written", "sampled_out")
    ]
    board = (
        dashboard.Dashboard("Trading strategies")
        .uid("trade-telemetry")
        .tags(["trade_telemetry"])
        .refresh("1m")
    )
    board = (
        board.description("Do the strategies still do what their backtests promised?")
        .time("now-30d", "now")
        .timezone("browser")
    )
    board = board.with_variable(source).with_variable(strategy)
    panels = [
        number("Degraded", metric("strategies", 'state="degraded"'), "Strategies that lost their edge.", bad=True),
        number("On watch", metric("strategies", 'state="watch"'), "Strategies that may be losing it."),
        number("Critical alerts", metric("alerts", 'severity="critical"'), "Alerts that are on.", bad=True),
        number("Silent writers", metric("writer_silent"), "Writers that died and were not replaced.", bad=True),
        number("False alarms a year", metric("expected_false_alarms"), "Expected over all strategies, if all are as promised."),
        number("Last look", age, "Time since these numbers were found out.", unit="s"),
        states(),
        lines("Chance that it still is what the backtest promised", "", "percentunit", (metric("health_chance", CHOSEN), "{{strategy}}")),
        lines("Evidence against the promise", "Natural logarithm.", "short", (metric("health_evidence", CHOSEN), "{{strategy}}")),
        lines("Precision", "With its 95 % interval.", "percentunit", *with_ends("precision"),
              (metric("promised_precision", CHOSEN), "{{strategy}} promised")),
        lines("Mean return of a trade", "Fraction of the stake, with its 95 % interval.", "percentunit", *with_ends("mean_return")),
        lines("Deepest fall", "Of the cumulative return, fraction of the stake.", "percentunit", (metric("drawdown", CHOSEN), "{{strategy}}")),
        lines("Since the last trade", "", "s", (metric("last_trace_age", CHOSEN), "{{strategy}}")),
        lines("Traces handed to writers", "", "cps", *handed),
        lines("Traces lost in an hour", "By reason.", "short", *lost),
    ]  # fmt: skip
    for panel in panels:
        board = board.with_panel(panel)
    return board


def text() -> str:
    "The file."
    return JSONEncoder(sort_keys=True, indent=1, ensure_ascii=False).encode(build().build()) + "\n"


def main(words: list[str]) -> int:
    "Write it, or say whether it is current."
    if words == ["--check"]:
        return int(not OUT.is_file() or OUT.read_text(encoding="utf-8") != text())
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
