"""The tool that shows that a restructuring changed no figure: what it lets pass, and what it must not."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import compare_figures
import figures_asked

ANSWER: dict[str, Any] = {
    "code": 0,
    "json": {
        "total_trades": 202, "avg_return": 0.0168339, "max_drawdown": -2.5, "calibration_error": 0.0939,
        "generated_at": "2026-01-01T00:00:00+00:00", "p_values": [0.0004, None], "verdict": "Swing leads by 0.013 points",
    },
    "text": ["precision   37.6 % [31.2, 44.5]", "mean trade, p = 0.000", "deepest fall, points   −2.50"],
}  # fmt: skip
Change = Callable[[dict[str, Any]], object]


def verdict(tmp_path: Path, change: Change, **more: Any) -> int:
    """Exit code for two recordings of which the second one was changed."""
    after = copy.deepcopy(ANSWER)
    change(after)
    for name, kept in (("before", ANSWER), ("after", after)):
        figures_asked.save(tmp_path / name / "demo" / "metrics.json", kept)
    return compare_figures.compare(tmp_path / "before", tmp_path / "after", **more)


ALLOWED: dict[str, Change] = {
    "nothing": lambda a: None,
    "a clock": lambda a: a["json"].update(generated_at="2027-02-02T00:00:00+00:00"),
    "a float by rounding": lambda a: a["json"].update(avg_return=0.0168339 * (1 + 1e-12)),
    "a drawdown that is less deep": lambda a: a["json"].update(max_drawdown=-2.4),
    "last digits of calibration": lambda a: a["json"].update(calibration_error=0.0941),
    "capital letters": lambda a: a["json"].update(verdict="swing leads by 0.013 points"),
    "the layout and the form of an interval": lambda a: a["text"].__setitem__(0, "precision 37.6% 31.2–44.5"),
    "p below 0.001": lambda a: a["text"].__setitem__(1, "mean trade, p < 0.001"),
    "a word of the glossary": lambda a: a["text"].__setitem__(2, "max drawdown, points   -2.50"),
}
REFUSED: dict[str, Change] = {
    "a count": lambda a: a["json"].update(total_trades=203),
    "a float": lambda a: a["json"].update(avg_return=0.0168340),
    "a number that became undefined": lambda a: a["json"].update(avg_return=None),
    "a deeper drawdown": lambda a: a["json"].update(max_drawdown=-2.6),
    "another calibration": lambda a: a["json"].update(calibration_error=0.12),
    "a key that is new": lambda a: a["json"].update(median=0.0),
    "a key that is gone": lambda a: a["json"].pop("avg_return"),
    "an exit code": lambda a: a.update(code=1),
    "a shorter list": lambda a: a["json"]["p_values"].pop(),
    "a number in a sentence": lambda a: a["json"].update(verdict="Swing leads by 0.014 points"),
    "other words": lambda a: a["json"].update(verdict="Swing lags by 0.013 points"),
    "a printed number": lambda a: a["text"].__setitem__(0, "precision   37.7 % [31.2, 44.5]"),
    "a line that is gone": lambda a: a["text"].pop(),
}


@pytest.mark.parametrize("change", ALLOWED.values(), ids=ALLOWED)
def test_what_the_issue_allows_passes(tmp_path: Path, change: Change) -> None:
    assert verdict(tmp_path, change) == 0


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_anything_else_is_a_difference(tmp_path: Path, change: Change) -> None:
    assert verdict(tmp_path, change) == 1


def test_what_may_differ_is_counted_with_its_largest_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict(tmp_path, ALLOWED["a drawdown that is less deep"])
    line = next(row for row in capsys.readouterr().out.splitlines() if "one step" in row)
    assert line.split()[0] == "1"
    assert line.endswith("largest difference 0.1")


def test_new_words_are_shown_until_somebody_says_that_they_are_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdict(tmp_path, REFUSED["other words"], any_words=True) == 0
    assert verdict(tmp_path, REFUSED["a printed number"], any_words=True) == 1
    assert verdict(tmp_path, REFUSED["other words"]) == 1
    assert "Swing lags by # points" in capsys.readouterr().out


def test_an_answer_that_is_missing_is_a_difference(tmp_path: Path) -> None:
    figures_asked.save(tmp_path / "after" / "demo" / "check.json", ANSWER)
    assert verdict(tmp_path, ALLOWED["nothing"]) == 1


def test_a_report_is_read_row_by_row() -> None:
    page = "<style>p {}</style><table><tr><th>win rate</th><td>47.5 %</td></tr></table><p>Closed <b>trades</b></p>"
    lines = figures_asked.Lines()
    lines.feed(page)
    assert lines.lines == ["win rate 47.5 %", "Closed trades"]
