"""Real bars, as vendors ship them, and rows that nobody should trust."""

from __future__ import annotations

import csv
import gzip
import itertools
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trade_telemetry.trading.bar_files import BarReport, find_bars, load_bars
from trade_telemetry.trading.bars import Bars
from trade_telemetry.trading.sessions import MINUTE, MarketError, calendar_days, find_session, session_bounds
from trade_telemetry.trading.simulation import simulate_bars

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"
SHARED = ROOT.parent / "shared" / "data"
shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real 1-minute bars beside the checkout")
NEW_YORK = ZoneInfo("America/New_York")


def per_day(bars: Bars) -> list[int]:
    return list(Counter(bars.day.tolist()).values())


def ends(bars: Bars) -> list[datetime]:
    return [datetime.fromtimestamp(t / 1e6, UTC) for t in bars.end[bars.last].tolist()]


def accounted(report: BarReport) -> bool:
    return report.rows == report.kept + report.outside_session + sum(map(len, report.rejected.values()))


# --- real one-minute bars ---


@shared
@pytest.mark.parametrize(
    ("name", "session", "expected", "outside"),
    [
        ("SPY_2013-10", "NYSE", [390] * 6, 2499),
        ("BAC_2013-10", "NYSE", [390] * 6, 1126),
        ("AIG_2013-10", "NYSE", [390, 389, 390, 390, 390, 390], 219),
        ("NIFTY50_2019-01", "NSE", [375] * 4, 9),
        ("YESBANK_2019-07", "NSE", [375] * 3, 5),
    ],
)
def test_real_minutes_fall_into_their_sessions(
    name: str, session: str, expected: list[int], outside: int
) -> None:
    path = SHARED / "intraday_1m" / f"{name}.csv"
    bars, report = load_bars(path, session=session)
    assert per_day(bars) == expected
    assert report.outside_session == outside
    assert report.rejected == {}
    assert bars.symbol == name.split("_")[0]
    assert bars.last.sum() == len(expected)  # the file ends with its session
    assert {(e.astimezone(ZoneInfo(bars.session.timezone)).time()) for e in ends(bars)} == {
        bars.session.close
    }


@shared
def test_pre_and_after_market_bars_come_on_request_and_move_the_last_bar() -> None:
    path = SHARED / "intraday_1m" / "SPY_2013-10.csv"
    bars, report = load_bars(path, extended=True)
    assert (report.kept, report.outside_session) == (4839, 0)
    assert len(np.unique(bars.day)) == bars.last.sum() == 6
    assert all(e.astimezone(NEW_YORK).hour >= 19 for e in ends(bars))


@shared
def test_a_file_that_stops_in_mid_session_has_an_open_end(tmp_path: Path) -> None:
    lines = (SHARED / "intraday_1m" / "NIFTY50_2019-01.csv").read_text().splitlines()
    (tmp_path / "CUT.csv").write_text("\n".join(lines[:900]) + "\n")
    bars, _ = load_bars(tmp_path / "CUT.csv", session="NSE")
    assert not bars.last[-1]
    assert bars.last.sum() == len(np.unique(bars.day)) - 1


@shared
@pytest.mark.parametrize(("name", "session"), [("SPY_2013-10", "NYSE"), ("YESBANK_2019-07", "NSE")])
def test_stamps_without_offset_mean_the_exchange_clock(name: str, session: str, tmp_path: Path) -> None:
    path = SHARED / "intraday_1m" / f"{name}.csv"
    with path.open() as f, (tmp_path / f"{name}.csv").open("w") as out:
        out.write(next(f))
        for line in f:
            stamp, rest = line.split(",", 1)
            out.write(f"{stamp[:-6].replace('T', ' ')},{rest}")
    known, _ = load_bars(path, session=session)
    naive, _ = load_bars(tmp_path / f"{name}.csv", session=session)
    assert np.array_equal(known.time, naive.time)
    assert np.array_equal(known.day, naive.day)


@shared
def test_two_weeks_of_currency_minutes_keep_to_the_trading_week() -> None:
    bars, report = load_bars(SHARED / "intraday_1m" / "EURUSD_2014-05.csv", session="FX")
    assert (report.kept, report.outside_session) == (15366, 0)
    days = [date.fromordinal(d) for d in np.unique(bars.day).tolist()]
    assert all(d.isoweekday() <= 5 for d in days)
    assert days[0] == date(2014, 5, 1)
    assert not bars.last[-1]  # the file ends at 23:59 UTC, in the middle of the 16th
    assert {e.astimezone(NEW_YORK).hour for e in ends(bars)} <= {16, 17}


@shared
def test_a_gap_of_seven_hours_stays_a_gap() -> None:
    bars, report = load_bars(SHARED / "intraday_1m" / "BTCUSD_2018-04.csv", session="24H")
    assert report.kept == 3887
    assert np.diff(bars.time).max() == 433 * MINUTE
    assert bars.bar_minutes == 1
    assert (bars.end - bars.time).max() == MINUTE  # the bar before the gap is not stretched over it


@shared
@pytest.mark.parametrize(
    ("symbol", "bonus_days"),
    [("RELIANCE", ["2017-09-07"]), ("TCS", ["2018-05-31"]), ("INFY", ["2015-06-15", "2018-09-04"])],
)
def test_bonus_issues_are_named_and_removed_when_the_owner_says_so(
    symbol: str, bonus_days: list[str]
) -> None:
    path = SHARED / "daily" / f"{symbol}.csv"
    raw, report = load_bars(path, session="NSE")
    assert [j.day.isoformat() for j in report.jumps] == bonus_days
    assert all(-55 < j.move_pct < -45 for j in report.jumps)
    assert [path.read_text().splitlines()[j.line - 1][:10] for j in report.jumps] == bonus_days
    bars, report = load_bars(path, session="NSE", splits=dict.fromkeys(bonus_days, 2.0))
    assert report.jumps == []
    assert bars.close[-1] == raw.close[-1]
    assert bars.close[0] == raw.close[0] / 2 ** len(bonus_days)


@shared
def test_an_index_whose_opens_lie_outside_the_range_loses_those_days_and_says_so() -> None:
    _, report = load_bars(SHARED / "daily" / "VIX.csv")
    assert len(report.rejected["open or close outside low to high"]) == 47
    assert accounted(report)


@shared
def test_every_shared_file_is_read_without_a_rejected_row_but_the_vix() -> None:
    sessions = {"NIFTY50": "NSE", "YESBANK": "NSE", "BTCUSD": "24H", "EURUSD": "FX"}
    for path in [*(SHARED / "intraday_1m").glob("*.csv"), *(SHARED / "daily").glob("*.csv")]:
        if path.stem != "VIX":
            _, report = load_bars(path, session=sessions.get(path.stem.split("_")[0], "NYSE"), strict=True)
            assert accounted(report)


# --- the bars that come with the project ---


def test_a_year_of_currency_hours_has_its_trading_days_and_weekends() -> None:
    bars, report = load_bars(DATA / "fx_hourly" / "EURUSD.csv", session="FX")
    assert (report.kept, bars.bar_minutes, report.outside_session) == (6225, 60, 0)
    days = [date.fromordinal(d) for d in np.unique(bars.day).tolist()]
    assert len(days) == 260
    assert {d.isoweekday() for d in days} == {1, 2, 3, 4, 5}
    local = [e.astimezone(NEW_YORK) for e in ends(bars)]
    assert [e.date() for e in local] == days  # named by the date it ends on, in summer and in winter
    odd = [e for e in local if (e.hour, e.minute) != (17, 0)]
    assert [(e.date(), e.hour) for e in odd] == [(date(2017, 12, 25), 3)]  # Christmas: a half day of its own
    assert sorted(per_day(bars))[:3] == [9, 24, 24]


def test_adjusted_prices_have_no_splits_left_and_end_at_the_adjusted_close() -> None:
    path = DATA / "daily" / "AAPL.csv"
    bars, report = load_bars(path)
    assert report.adjusted
    assert [j.day for j in report.jumps] == [date(2000, 9, 29)]  # a profit warning, not a split
    raw, report = load_bars(path, adjust=False)
    assert [j.day for j in report.jumps] == [date(2000, 6, 21), date(2000, 9, 29), date(2005, 2, 28)]
    with path.open() as f:
        adjusted = [float(row["Adj Close"]) for row in csv.DictReader(f)]
    assert np.allclose(bars.close, adjusted, rtol=1e-12)
    assert np.allclose(bars.high / bars.low, raw.high / raw.low, rtol=1e-12)


def test_every_symbol_of_the_data_folder_is_found() -> None:
    assert sorted(find_bars(DATA)) == ["AAPL", "EURUSD", "FB", "GOOG", "IBM", "MSFT"]
    assert find_bars(DATA, ["IBM"])["IBM"].name == "IBM.csv"


# --- files as vendors write them ---

VENDORS = {
    "a broker, newest first, with dollars": (
        'Date,Close/Last,Volume,Open,High,Low\n07/15/2024,$12.00,"1,000",$11.00,$12.50,$10.00\n'
        '07/12/2024,$11.00,"2,000",$10.00,$11.50,$9.00\n'
    ),
    "a portal, newest first, with abbreviated volumes": (
        '"Date","Price","Open","High","Low","Vol.","Change %"\n'
        '"07/15/2024","12.00","11.00","12.50","10.00","1.00K","9.1%"\n'
        '"07/12/2024","11.00","10.00","11.50","9.00","2.00K","0.0%"\n'
    ),
    "an exchange, newest first, with names of months": (
        '"Date ","OPEN ","HIGH ","LOW ","PREV. CLOSE ","close ","vwap ","VOLUME "\n'
        '"15-Jul-2024","11.00","12.50","10.00","11.00","12.00","11.4","1,000"\n'
        '"12-Jul-2024","10.00","11.50","9.00","10.00","11.00","10.4","2,000"\n'
    ),
    "an archive, with angle brackets": (
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>\n"
        "ACME,D,20240712,000000,10,11.5,9,11,2000\nACME,D,20240715,000000,11,12.5,10,12,1000\n"
    ),
    "a download with midnights of the exchange": (
        "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits\n"
        "2024-07-12 00:00:00-04:00,10,11.5,9,11,2000,0,0\n"
        "2024-07-15 00:00:00-04:00,11,12.5,10,12,1000,0,0\n"
    ),
    "a spreadsheet of Europe": (
        "Datum;Date;Open;High;Low;Close;Volume\n"
        "x;12.07.2024;10,0;11,5;9,0;11,0;2.000,0\nx;15.07.2024;11,0;12,5;10,0;12,0;1.000,0\n"
    ),
    "a data frame whose index had no name": (
        ",open,high,low,close,volume\n2024-07-12,10,11.5,9,11,2000\n2024-07-15,11,12.5,10,12,1000\n"
    ),
}


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_same_two_days_are_read_from_every_vendors_file(vendor: str, tmp_path: Path) -> None:
    (tmp_path / "ACME.csv").write_text(VENDORS[vendor])
    bars, report = load_bars(tmp_path / "ACME.csv", strict=True)
    assert [date.fromordinal(d) for d in bars.day.tolist()] == [date(2024, 7, 12), date(2024, 7, 15)]
    columns = [c.tolist() for c in (bars.open, bars.high, bars.low, bars.close, bars.volume)]
    assert columns == [[10, 11], [11.5, 12.5], [9, 10], [11, 12], [2000, 1000]]
    assert report.newest_first == ("newest first" in vendor)
    assert bars.bar_minutes == 1440


def test_a_symbol_may_hold_a_dot(tmp_path: Path) -> None:
    (tmp_path / "BRK.B.csv").write_text("Date,Open,High,Low,Close\n2024-01-02,1,2,1,2\n")
    assert load_bars(find_bars(tmp_path)["BRK.B"])[0].symbol == "BRK.B"


# --- calendars and clocks ---


def test_around_the_clock_stamps_without_offset_survive_both_clock_changes(tmp_path: Path) -> None:
    first = datetime(2024, 3, 1, 5, tzinfo=UTC)
    hours = [first + timedelta(hours=h) for h in range(24 * 260)]
    with (tmp_path / "X.csv").open("w") as f:
        f.write("date,time,open,high,low,close\n")
        f.writelines(f"{h.astimezone(NEW_YORK):%Y-%m-%d,%H:%M},1,1,1,1\n" for h in hours)
    bars, report = load_bars(tmp_path / "X.csv", session="24H", timezone="America/New_York", strict=True)
    assert bars.time.tolist() == [int(h.timestamp()) * 10**6 for h in hours]
    assert report.rejected == {}


def test_a_stamp_that_the_clock_change_skipped_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "X.csv").write_text(
        "time,open,high,low,close\n"
        + "".join(f"2024-03-10 0{h}:30,1,1,1,1\n" for h in range(5))
        + "2024-03-10 02:45,1,1,1,1\n"
    )
    bars, report = load_bars(tmp_path / "X.csv", session="24H", timezone="America/New_York")
    assert report.rejected == {"time skipped by the clock change": [4, 7]}
    assert np.diff(bars.time).tolist() == [60 * MINUTE] * 3


def test_half_days_are_known_from_their_bars_alone(tmp_path: Path) -> None:
    made = simulate_bars("ACME", days=3, start="2024-07-02", half_days=["2024-07-03"])
    with (tmp_path / "ACME.csv").open("w") as f:
        f.write("timestamp,open,high,low,close,volume\n")
        f.writelines(
            f"{datetime.fromtimestamp(b.time / 1e6, UTC).isoformat()},{b.open},{b.high},{b.low},{b.close},{b.volume}\n"
            for b in made.rows()
        )
    read, _ = load_bars(tmp_path / "ACME.csv")
    assert per_day(read) == [390, 210, 390]
    assert list(read.rows()) == list(made.rows())  # through a file and back, bit for bit


def test_gzip_utf16_and_a_byte_order_mark_are_no_obstacle(tmp_path: Path) -> None:
    text = "Date,Open,High,Low,Close\n2024-01-02,1,2,1,2\n"
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "b.csv").write_bytes(text.encode("utf-16"))
    (tmp_path / "c.csv").write_bytes(text.encode("utf-8-sig"))
    for path in tmp_path.iterdir():
        assert load_bars(path)[0].close.tolist() == [2.0]
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(text.encode())[:-9])
    with pytest.raises(MarketError, match="cannot read"):
        load_bars(tmp_path / "torn.csv.gz")


def test_a_far_future_row_is_reported_with_what_it_shadows(tmp_path: Path) -> None:
    (tmp_path / "X.csv").write_text(
        "Date,Open,High,Low,Close\n2024-01-02,1,1,1,1\n2042-01-03,1,1,1,1\n2024-01-04,1,1,1,1\n"
    )
    _, report = load_bars(tmp_path / "X.csv")
    assert report.rejected == {"decreasing timestamp": [4]}


def test_weekly_and_tick_files_are_refused(tmp_path: Path) -> None:
    for steps in (["2024-01-02", "2024-01-09", "2024-01-16"], ["2024-01-02 10:00:01", "2024-01-02 10:00:02"]):
        (tmp_path / "X.csv").write_text(
            "time,open,high,low,close\n" + "".join(f"{s},1,1,1,1\n" for s in steps)
        )
        with pytest.raises(MarketError, match="whole minutes, at most a day"):
            load_bars(tmp_path / "X.csv")


# --- anything at all ---

CELLS = st.one_of(
    st.sampled_from(["2024-01-02 10:00", "2024-01-02 10:01", "2024-01-02", "1", "2", "-1", "nan", "inf", "", "x", '"']),
    st.text(max_size=8),
    st.floats(allow_nan=True).map(str),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(CELLS, min_size=4, max_size=7).map(",".join), max_size=12))
def test_no_file_whatever_breaks_the_reader_or_hides_a_row(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "X.csv"
    good = [f"2024-01-03 10:0{i},1,2,1,2" for i in range(3)]
    path.write_bytes("\n".join(["time,open,high,low,close", *good, *lines]).encode("utf-8", "surrogatepass"))
    try:
        bars, report = load_bars(path, day_first=True)
    except MarketError as e:
        assert "\n" not in str(e).replace(repr(str(path)), "")
        return
    assert accounted(report)
    assert (np.diff(bars.time) > 0).all()
    assert (bars.end > bars.time).all()
    assert all(lines == sorted(set(lines)) for lines in report.rejected.values())
    every = list(itertools.chain.from_iterable(report.rejected.values()))
    assert len(every) == len(set(every))  # each row is rejected once, under one reason
    prices = np.array([bars.open, bars.high, bars.low, bars.close])
    assert np.isfinite(prices).all() and (prices > 0).all()


# --- holidays and half days ---


def test_the_calendar_of_new_york_knows_every_day_on_which_a_share_was_traded() -> None:
    """Thirteen years of real daily bars, with 11 September and hurricane Sandy among them."""
    bars, _ = load_bars(DATA / "daily" / "AAPL.csv")
    every = np.arange(bars.day[0], bars.day[-1] + 1)
    trades, _, _ = calendar_days("XNYS", every)
    assert every[trades].tolist() == bars.day.tolist()


def test_the_calendar_of_new_york_knows_the_half_days_that_were_announced() -> None:
    years = np.arange(date(2010, 1, 1).toordinal(), date(2025, 1, 1).toordinal())
    trades, opens, closes = calendar_days("XNYS", years)
    short = {date.fromordinal(d) for d in years[trades & (closes - opens < 390 * MINUTE)].tolist()}
    thanksgiving = [
        date(y, 11, 1) + timedelta((3 - date(y, 11, 1).weekday()) % 7 + 21) for y in range(2010, 2025)
    ]
    assert {d + timedelta(1) for d in thanksgiving} <= short  # the day after
    christmas = {date(y, 12, 24) for y in range(2010, 2025) if date(y, 12, 24).weekday() < 4}
    assert christmas <= short  # 24 December, where it is followed by a day off in the week
    july = {d for d in short if d.month == 7}
    assert july == {date(y, 7, 3) for y in (2012, 2013, 2014, 2017, 2018, 2019, 2023, 2024)}
    assert len(short) == len(thanksgiving) + len(christmas) + len(july)


def test_bars_on_a_holiday_and_on_the_afternoon_of_a_half_day_are_outside_where_the_user_said_so(
    tmp_path: Path,
) -> None:
    made = simulate_bars("ACME", days=4, start="2024-11-27")  # a vendor that knows no holiday
    path = tmp_path / "ACME.csv"
    with path.open("w") as out:
        out.write("timestamp,open,high,low,close,volume\n")
        for b in made.rows():
            stamp = datetime.fromtimestamp(b.time // 1_000_000, UTC).isoformat()
            out.write(f"{stamp},{b.open},{b.high},{b.low},{b.close},{b.volume}\n")
    nominal, report = load_bars(path, session="NYSE")
    assert (per_day(nominal), report.outside_session) == ([390] * 4, 0)
    known, report = load_bars(path, session="XNYS")
    assert (per_day(known), report.outside_session) == ([390, 210, 390], 390 + 180)
    assert accounted(report)
    assert [t.hour for t in ends(known)] == [21, 18, 21]  # UTC; 13:00 in New York on the half day
    assert known.last.sum() == 3


def test_daily_bars_of_a_half_day_end_when_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "ACME.csv"
    path.write_text(
        "Date,Open,High,Low,Close,Volume\n" + "".join(f"2024-11-{d},1,1,1,1,1\n" for d in (27, 28, 29))
    )
    known, report = load_bars(path, session="XNYS")
    assert [(t.day, t.hour) for t in ends(known)] == [(27, 21), (29, 18)]
    assert report.outside_session == 1  # nobody trades on Thanksgiving


@pytest.mark.parametrize("name", ["XLON", "XTKS", "CMES", "XHKG", "24/7"])
def test_the_sessions_of_other_exchanges_have_the_bounds_of_their_calendars(name: str) -> None:
    session = find_session(name)
    days = np.arange(date(2023, 1, 2).toordinal(), date(2024, 1, 1).toordinal())
    trades, opens, closes = calendar_days(name, days)
    assert trades.any()
    found = session_bounds(days[trades], session)
    assert (found[0] == opens[trades]).all() and (found[1] == closes[trades]).all()
    made = simulate_bars("X", session=name, days=5, start="2023-12-20", minutes=30)
    assert set(made.day.tolist()) <= set(days[trades].tolist()) and made.last.sum() == 5
