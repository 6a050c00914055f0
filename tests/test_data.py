"""The bars in data/ are what data/README.md says they are."""

import csv
import hashlib
import re
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

DATA = Path(__file__).parents[1] / "data"
README = (DATA / "README.md").read_text(encoding="utf-8")
CHECKSUMS = dict(reversed(line.split("  ")) for line in re.findall(r"^[0-9a-f]{64}  \S+$", README, re.M))
DAILY = sorted(name for name in CHECKSUMS if name.startswith("daily/"))


def rows_of(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def hours() -> list[datetime]:
    form = "%d.%m.%Y %H:%M:%S.%f"
    return [datetime.strptime(r["Time"], form).replace(tzinfo=UTC) for r in rows_of("fx_hourly/EURUSD.csv")]


def test_every_file_of_bars_has_a_checksum_and_matches_it() -> None:
    there = {str(p.relative_to(DATA)) for p in DATA.glob("*/*.csv")}
    assert set(CHECKSUMS) == there
    wrong = [n for n, c in CHECKSUMS.items() if hashlib.sha256((DATA / n).read_bytes()).hexdigest() != c]
    assert wrong == []


def test_rows_and_spans_are_those_of_the_table() -> None:
    table = re.findall(r"^\| `(\S+\.csv)` \| 1 \w+ \| (\d+) \| ([\d-]+)[^|]*\| ([\d-]+)", README, re.M)
    assert {name for name, *_ in table} == set(CHECKSUMS)
    for name, n, first, last in table:
        days = [h.date() for h in hours()] if "fx" in name else [r["Date"] for r in rows_of(name)]
        assert (len(days), str(days[0]), str(days[-1])) == (int(n), first, last), name


@pytest.mark.parametrize("name", sorted(CHECKSUMS))
def test_high_and_low_enclose_open_and_close_and_every_bar_has_volume(name: str) -> None:
    for r in rows_of(name):
        low, high = float(r["Low"]), float(r["High"])
        assert 0 < low <= min(float(r["Open"]), float(r["Close"]))
        assert high >= max(float(r["Open"]), float(r["Close"]))
        assert float(r["Volume"]) > 0


def test_every_currency_week_opens_at_17_in_new_york_if_the_stamps_are_utc() -> None:
    gaps = [(a, b) for a, b in pairwise(hours()) if b - a != timedelta(hours=1)]
    openings = [b.astimezone(ZoneInfo("America/New_York")) for _, b in gaps]
    late = [o for o in openings if o.hour != 17]
    assert [o.date() for o in late] == [date(2017, 12, 24)]
    weekends = [o for o in openings if o.weekday() == 6]
    assert len(weekends) == 51
    assert [str(a) for a, b in gaps if b.weekday() != 6] == ["2017-12-25 07:00:00+00:00"]
    summer = [b.date() for _, b in gaps if b.hour == 21]
    assert (summer[0], summer[-1]) == (date(2017, 3, 12), date(2017, 10, 29))


@pytest.mark.parametrize("name", DAILY)
def test_dates_increase_and_the_longest_gap_is_that_of_september_2001(name: str) -> None:
    days = [date.fromisoformat(r["Date"]) for r in rows_of(name)]
    steps = {b: (b - a).days for a, b in pairwise(days)}
    assert min(steps.values()) > 0
    assert max(steps.values()) == (7 if days[0].year == 2000 else 5)
    if days[0].year == 2000:
        assert [b for b, gap in steps.items() if gap == 7] == [date(2001, 9, 17)]


def test_the_large_moves_are_the_listed_ones_and_adjusting_removes_the_splits() -> None:
    listed = re.findall(r"^\| `(daily/\S+)` \| ([\d-]{10}) \| (\S+) % \| (\S+) % \|", README, re.M)
    found = []
    for name in DAILY:
        for a, b in pairwise(rows_of(name)):
            raw, adjusted = (100 * (float(b[k]) / float(a[k]) - 1) for k in ("Close", "Adj Close"))
            if abs(raw) > 35:
                found.append((name, b["Date"], f"{raw:+.1f}", f"{adjusted:+.1f}"))
    assert found == [tuple(c.replace("−", "-") for c in row) for row in listed]
