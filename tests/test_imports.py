"""What an import costs: a trading process does not load what only the judgement and the page need."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import trade_telemetry

HEAVY = {
    "pandas",
    "scipy",
    "matplotlib",
    "seaborn",
    "pyarrow",
    "ipywidgets",
    "voila",
    "sklearn",
    "tqdm",
    "IPython",
}
SHELL = {"cyclopts", "attr", "rich"}
DEVELOPMENT = {"fastcore", "nbdev", "execnb", "pytest", "hypothesis"}


def loaded(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter imports for `statement`."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement], capture_output=True, text=True, check=True
    )
    names = re.findall(r"^import time:\s*\d+ \|\s*\d+ \|\s*(\S+)$", done.stderr, re.M)
    assert "trade_telemetry" in names
    return {n.split(".")[0] for n in names}


def test_a_trading_process_loads_neither_analysis_nor_dashboard() -> None:
    found = loaded("import trade_telemetry.capture.hook, trade_telemetry.capture.writer")
    assert found & (HEAVY | DEVELOPMENT | SHELL | {"numpy", "pydantic", "yaml"}) == set()
    assert "orjson" in found


def test_taking_hook_and_writer_from_the_top_level_costs_no_more() -> None:
    found = loaded("from trade_telemetry import TelemetryHook, TelemetryWriter, PredictionTrace")
    assert found & (HEAVY | DEVELOPMENT | {"numpy", "pydantic", "yaml"}) == set()


@pytest.mark.parametrize(
    "module",
    [
        "trading.backtester",
        "engine",
        "store.store",
        "metrics.returns",
        "metrics.classification",
        "judgement.comparison",
        "judgement.alerts",
        "analyzer",
        "cli.main",
    ],
)
def test_running_and_judging_start_with_numpy_alone(module: str) -> None:
    assert loaded(f"import trade_telemetry.{module}") & (HEAVY | DEVELOPMENT) == set()


def test_a_wrong_verb_is_said_before_anything_is_loaded_and_only_help_needs_rich() -> None:
    found = loaded("from trade_telemetry.cli.main import main; main(['fly'])")
    assert found & (HEAVY | DEVELOPMENT | {"numpy", "pydantic", "yaml"}) == set()
    found = loaded("from trade_telemetry.cli.main import main; main(['check', '--telemetry-dir', 'none'])")
    assert found & (HEAVY | DEVELOPMENT | {"yaml", "rich"}) == set()


def test_only_the_shell_loads_the_parser_of_flags() -> None:
    modules = "trading.live_loop, trade_telemetry.analyzer, trade_telemetry.judgement.alerts, trade_telemetry.dashboard.page"
    assert loaded(f"import trade_telemetry.{modules}") & {"cyclopts", "attr"} == set()


def test_the_first_paint_of_the_page_does_without_pandas_and_matplotlib() -> None:
    found = loaded("import trade_telemetry.dashboard.page")
    assert found & {"pandas", "scipy", "seaborn", "matplotlib", "pyarrow", "plotly", *DEVELOPMENT} == set()


def test_the_top_level_loads_nothing_until_a_name_is_used() -> None:
    script = (
        "import sys, trade_telemetry as t; before = [m for m in sys.modules if m.startswith('trade_telemetry.')];"
        "t.PredictionTrace; assert before == [], before; assert 'PredictionTrace' in vars(t)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("name", trade_telemetry.__all__)
def test_every_public_name_can_be_imported_from_the_top(name: str) -> None:
    assert getattr(trade_telemetry, name) is not None
    assert name in dir(trade_telemetry)


def test_a_star_import_brings_every_public_name() -> None:
    scope: dict[str, object] = {}
    exec("from trade_telemetry import *", scope)
    assert set(trade_telemetry.__all__) <= set(scope)


def test_an_unknown_name_is_a_clear_error() -> None:
    with pytest.raises(AttributeError, match="module 'trade_telemetry' has no attribute 'Analyser'"):
        _ = trade_telemetry.Analyser
    with pytest.raises(ImportError, match="Analyser"):
        exec("from trade_telemetry import Analyser")


def test_the_version_is_that_of_the_settings() -> None:
    from nbdev.config import get_config

    assert trade_telemetry.__version__ == get_config().version
