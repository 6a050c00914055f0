"""Every verb and flag that people have in their scripts is still accepted, with the same default and the same meaning."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App

from trade_telemetry.cli.main import VERBS, command, main
from trade_telemetry.engine import session
from trade_telemetry.flags import make_app

# Taken by a script from the parsers as they were when they were written by hand (argparse): name:kind=default.
# "word|word" is a choice, "words" takes several at once, "*" may be repeated, "on" takes no value.
FLAGS = {
    "demo": """
        --config:path --telemetry-dir:path --data-dir:path --no-dashboard:on --speed:float=30.0
        --strategies:int=8 --seed:int=1
        --port:int --open:on --refresh-interval:int --alert-precision-threshold:float
        --host:word=127.0.0.1 --token:optional --base-url:word=/ --public-host:words --log:path
    """,
    "backtest": """
        --config:path --telemetry-dir:path --data-dir:path --symbols:words
        --strategy:intraday|swing|both=both --start-date:word --end-date:word --session:word
        --fee-pct:float --slippage-pct:float --enable-telemetry:on --sample-rate:float --workers:int=1
    """,
    "import": """
        --config:path --telemetry-dir:path file:path --strategy:word --map:path --preset:word
        --threshold-pct:float --mode:backtest|live|paper=backtest
        --symbol:word --account:word --timezone:word --time-format:word --pair:fifo --append:word --trust:on
        --dry-run:on
    """,
    "rank": """
        --config:path --telemetry-dir:path --lake:words --as-of:word --symbols:words --strategy:word --format:table|json=table --json:on
        --trials:int --top:int=20
        --executor:local|processes|dask --workers:int --scheduler:word --insecure-scheduler:on
    """,
    "note": """
        --config:path --telemetry-dir:path --text:word --strategy:word --at:word --list:on --remove:word
        --format:table|json=table --json:on
    """,
    "compact": """
        --config:path --buckets:int=8 --keep:word --format:table|json=table --json:on
    """,
    "verify": """
        --head:word --prune:on --format:table|json=table --json:on
    """,
    "metrics": """
        --config:path --telemetry-dir:path --lake:words --as-of:word --symbols:words --strategy:word --run:word
        --format:table|json|prometheus=table --json:on
        --by:strategy|symbol|exit_reason|entry_tag|version|account|weekday|exit_weekday|hour|holding|month|direction*
        --rolling:int --features:on --session-open:word --out:path
        --executor:local|processes|dask --workers:int --scheduler:word --insecure-scheduler:on
    """,
    "compare": """
        --config:path --telemetry-dir:path --lake:words --as-of:word --symbols:words --strategy:word --run:word
        --format:table|json=table --json:on --live-vs-backtest:on
        --by:strategy|run|symbol|mode|exit_reason --labels:words --first:word=intraday
        --second:word=swing
        --executor:local|processes|dask --workers:int --scheduler:word --insecure-scheduler:on
    """,
    "reconcile": """
        --config:path --telemetry-dir:path --lake:words --as-of:word --symbols:words --strategy:word --format:table|json=table --json:on
        --account:word --backtest-account:word --live-version:word
        --backtest-version:word --start:word --end:word --unit:money|percent --tolerance:float --window:float
        --map:path --preset:word --symbol:word --time-format:word --pairs:path
        --replay:on --data-dir:path --fee-pct:float --slippage-pct:float
    """,
    "check": """
        --config:path --telemetry-dir:path --lake:words --as-of:word --symbols:words --strategy:word --format:table|json=table
        --json:on --alert-precision-threshold:float --rules:path --on-alert:word --remember:path
        --variants-tried:int --desk-wide:on --verbose:on
        --notify:words --page-url:word --notify-state:path
        --executor:local|processes|dask --workers:int --scheduler:word --insecure-scheduler:on
    """,
    "watch": """
        --config:path --telemetry-dir:path --lake:words --symbols:words --strategy:word --every:float=300.0 --once:on
        --alert-precision-threshold:float --rules:path --on-alert:word --remember:path --json:on
        --variants-tried:int --desk-wide:on --notify:words --page-url:word --notify-state:path
        --metrics-port:int --metrics-host:word=127.0.0.1 --otlp-endpoint:word
    """,
    "judge": """
        --config:path --telemetry-dir:path --lake:words --as-of:word --symbols:words --strategy:word --run:word
        --format:table|json=table --json:on --alert-precision-threshold:float --rules:path
        --variants-tried:int --desk-wide:on
        --executor:local|processes|dask --workers:int --scheduler:word --insecure-scheduler:on
    """,
    "export": """
        --config:path --telemetry-dir:path --lake:words --as-of:word --symbol:word --group-by:strategy|account|bot|version --format:json=json --out:path
        --executor:local|processes|dask --workers:int --scheduler:word --insecure-scheduler:on
    """,
    "report": """
        --config:path --telemetry-dir:path --lake:words --as-of:word --symbols:words --strategy:word --run:word --against:word
        --start:word --end:word --first:word --second:word --data-dir:path --title:word --out:path=report.html --open:on
        --executor:local|processes|dask --workers:int --scheduler:word --insecure-scheduler:on
    """,
    "dashboard": """
        --config:path --telemetry-dir:path --lake:words --as-of:word --port:int --open:on --refresh-interval:int
        --alert-precision-threshold:float --host:word=127.0.0.1 --token:optional --base-url:word=/
        --public-host:words --log:path --data-dir:path
    """,
    "engine": """
        --symbols:words --strategy:intraday|swing|both=both --on-interrupt:leave|close=leave
        --fee-pct:float --slippage-pct:float --log-level:DEBUG|INFO|WARNING|ERROR=INFO
        --feed:replay|follow=replay --data-dir:path=data --speed:float --poll-seconds:float=1.0
        --bar-minutes:int --early-close:words --enable-telemetry:on --telemetry-dir:path
        --telemetry-throttle:int --telemetry-throttle-seconds:int --telemetry-sample-rate:float
        --telemetry-throttle-mode:flush|capture=flush
    """,
}
KINDS = {
    "path": (["some/file"], Path("some/file")), "int": (["3"], 3), "float": (["0.5"], 0.5), "word": (["word"], "word"),
    "words": (["one", "two"], ("one", "two")), "on": ([], True), "optional": (["word"], ("word",)),
}  # fmt: skip
EVERY = [(verb, *flag.partition(":")[::2]) for verb, text in FLAGS.items() for flag in text.split()]
NEW = {
    "demo": {"--breaks"},
    "engine": {"--config"},
    "reconcile": {"--timezone", "--live", "--backtest"},
    "compact": {"--source", "--dest"},
    "verify": {"--source", "--lake"},
}  # taken later, by another name, or by place


@cache
def app_of(verb: str) -> App:
    if verb != "engine":
        return command()
    app = make_app("engine", "")
    app.default(session)
    return app


def parsed(verb: str, words: list[str]) -> dict[str, Any]:
    "What a verb would be called with, groups of flags opened, by flag."
    _, bound, rest = app_of(verb).parse_args(
        words if verb == "engine" else [verb, *words], print_error=False, exit_on_error=False
    )
    assert rest == {}
    bound.apply_defaults()
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        parts = (
            {f.name: getattr(value, f.name) for f in fields(value)} if is_dataclass(value) else {name: value}
        )
        assert not found.keys() & parts.keys()
        found |= parts
    return {f"--{name.replace('_', '-')}": value for name, value in found.items()}


def needed(verb: str) -> list[str]:
    return {"import": ["log.csv"], "compact": ["data", "lake"], "verify": ["data", "lake"]}.get(verb, [])


@pytest.mark.parametrize(("verb", "flag", "kind"), EVERY)
def test_a_flag_is_accepted_and_means_what_it_meant(verb: str, flag: str, kind: str) -> None:
    kind, _, default = kind.partition("=")
    name = f"--{flag}" if flag == "file" else flag.removesuffix("-seconds") if "throttle" in flag else flag
    if kind not in KINDS:
        word = next((w for w in kind.rstrip("*").split("|") if w != default), default)
        words, expected = [word], (word,) if kind.endswith("*") else word
    else:
        words, expected = KINDS[kind]  # type: ignore[assignment]
    given = words if flag == "file" else [*needed(verb), flag, *words]
    assert parsed(verb, given)[name] == expected
    if flag == "file":
        return
    kept = parsed(verb, needed(verb))[name]
    assert str(kept) == default if default else kept in (None, False, ())


def test_json_is_the_same_as_format_json_and_a_token_may_have_no_value() -> None:
    assert parsed("dashboard", ["--token", "--open"])["--token"] == ()
    for verb in ("metrics", "compare", "check", "judge"):
        assert parsed(verb, ["--json"])["--json"] is True
    assert parsed("metrics", ["--by", "hour", "--by", "month"])["--by"] == ("hour", "month")


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_and_no_flag_is_missing_from_the_table(verb: str) -> None:
    assert set(FLAGS) == set(VERBS)
    known = {flag if flag != "file" else "--file" for v, flag, _ in EVERY if v == verb}
    assert set(parsed(verb, needed(verb))) == (known | NEW.get(verb, set())) - {
        "--telemetry-throttle-seconds"
    }


@pytest.mark.parametrize("verb", VERBS)
def test_help_tells_every_flag_on_one_line_with_its_default(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "--help"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    for v, flag, kind in EVERY:
        if v == verb and flag not in ("file", "--text"):  # these have a place, not a name
            _, found, told = page.replace(",", " ").partition(f" {flag} ")
            default = kind.partition("=")[2].removesuffix(".0")
            assert found, flag
            assert not default or f"(default: {default})" in told, flag
