"""Show that a change of structure changed no figure.

python tools/compare_figures.py record DIR [--inputs INPUTS] [--python PYTHON]
    ask every verb of an environment; traces are made once, in INPUTS, and judged again by later recordings
python tools/compare_figures.py compare BEFORE AFTER [--any-words]
    counts identical, floats within 1e-9, printed numbers as printed, keys the same; what may differ is
    listed with its count and largest difference, anything else is printed and ends with exit code 1.
    New words around the same numbers that the glossary below does not know are listed once each; after
    they were read, --any-words lets them pass
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import figures_asked

CLOCK = {"generated_at", "heartbeat_at", "directory", "versions", "version", "pid", "host", "age_seconds"}
WRITTEN = re.compile(r"written \d{4}-\d\d-\d\d \d\d:\d\d(?: UTC)?|Written by trade_telemetry \S+")
CLOSE = 1e-9  # relative; also absolute, since what is near 0 is in percent

# what may differ, by the place of a number or by the words around it
KINDS = {
    "drawdown": "max drawdown: exits at one instant are one step",
    "binned": "confidence in bins: last digits of calibration",
    "p": "p < 0.001, not p = 0.000",
    "days": "days of the settings' zone, not of UTC",
    "digits": "the same number with other digits",
    "capitals": "capital letters",
    "glossary": "words of the glossary",
}
DRAWDOWN = re.compile(r"max.?draw.?down|max.?dd|deepest.fall|drawdown.pct", re.I)
BINNED = re.compile(r"calibration|brier|log.?loss|\bauc\b|reliability", re.I)
BINNED_GAP = 5e-3  # a thousand bins move a probability by at most half a thousandth
DAYS = re.compile(r"_zone/(report|export|.*(first|last)_exit)")
GLOSSARY = [  # either of these, before or after, is the same
    r"deepest fall|max drawdown|max dd",
    r"time under water|days under water|drawdown duration",
    r"mean return of a trade|return of a trade|mean trade|mean return|average trade",
    r"rows? (?:were )?set aside|rejected rows?|set aside|rejected",
    r"stated|predicted",
    r"came true|observed|right",
    r"promised|backtest",
    r"chance that it is above 0|psr",
    r"false alarms|false-alarm probability",
    r"percentage points|points|pts",
    r"calls a day|signals a day|signals/day",
    r"cumulative return|cumulative|total return",
    r"\[?# ?(?:,|to|–) ?#\]?",  # an interval
]
NUMBER = re.compile(r"(?<![\w.:-])[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?(?![\w:-])")


@dataclass
class Found:
    "What differs between two recordings."

    allowed: Counter[str] = field(default_factory=Counter)
    largest: dict[str, float] = field(default_factory=dict)
    words: Counter[tuple[str, str]] = field(default_factory=Counter)  # New words around the same numbers
    wrong: list[str] = field(default_factory=list)
    same: Counter[str] = field(default_factory=Counter)

    def note(self, kind: str, gap: float = 0.0) -> None:
        self.allowed[kind] += 1
        self.largest[kind] = max(self.largest.get(kind, 0.0), gap)

    def differ(self, where: str, before: object, after: object) -> None:
        self.wrong.append(f"{where}\n    before: {str(before)[:300]}\n    after:  {str(after)[:300]}")


def close(a: float, b: float) -> bool:
    "Equal but for rounding."
    return abs(a - b) <= CLOSE * max(abs(a), abs(b), 1.0)


def kind_of(where: str, a: float, b: float) -> str:
    "Why two numbers at a place may differ; empty where they may not."
    if DRAWDOWN.search(where) and (" " in where or abs(b) <= abs(a)):  # fewer steps are never deeper
        return "drawdown"
    if BINNED.search(where) and abs(a - b) <= BINNED_GAP:
        return "binned"
    return "days" if DAYS.search(where) else ""


def compare_values(where: str, a: Any, b: Any, found: Found) -> None:
    "Compare two parts of JSON."
    if isinstance(a, dict) and isinstance(b, dict):
        if lost_or_new := (set(a) ^ set(b)) - CLOCK:
            found.differ(f"{where}: keys", sorted(set(a) - set(b)), sorted(set(b) - set(a)))
        found.same["keys"] += len(set(a) & set(b)) if not lost_or_new else 0
        for key in sorted((set(a) & set(b)) - CLOCK):
            compare_values(f"{where}/{key}", a[key], b[key], found)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            compare_values(f"{where}/{k}", x, y, found)
    elif isinstance(a, str) and isinstance(b, str):
        compare_lines(where, a, b, found)
    elif type(a) is type(b) and not isinstance(a, float):
        found.same["counts"] += a == b
        if a != b:
            found.differ(where, a, b)
    elif isinstance(a, int | float) and isinstance(b, int | float) and not {type(a), type(b)} & {bool}:
        if close(a, b):
            found.same["floats"] += 1
        elif kind := kind_of(where, a, b):
            found.note(kind, abs(a - b))
        else:
            found.differ(where, a, b)
    else:
        found.differ(where, a, b)


def plain(line: str) -> str:
    "A line without what only lays it out."
    line = WRITTEN.sub("", line).replace("−", "-").replace("\u00a0", " ").replace("\u202f", " ")
    return " ".join(re.sub(r"─+", "", line).replace(" %", "%").split())


def without_zero(line: str) -> str:
    "A line in which a p-value of 0.000 reads as one below 0.001."
    line = re.sub(r"(?:p ?)?(?:[=<] ?)?(?<![\d.+-])0\.000(?!\d)", "p < 0.001", line)
    return re.sub(r"(?:p ?)?< ?0\.001(?!\d)", "p < 0.001", line)


def skeleton(line: str) -> tuple[str, list[str]]:
    "Words with # for each number, and the numbers."
    return NUMBER.sub("#", line), NUMBER.findall(line)


def value(number: str) -> float:
    "A printed number."
    return float(number.replace(",", ""))


def digits(number: str) -> int:
    "Digits behind the point."
    return len(number.partition(".")[2])


def compare_numbers(where: str, a: list[str], b: list[str], found: Found) -> bool:
    "Compare the printed numbers of two lines; words may have changed their order."
    if Counter(a) == Counter(b):
        return True
    if len(a) != len(b):
        return False
    kinds = []
    for x, y in zip(a, b, strict=True):
        gap, coarse = abs(value(x) - value(y)), min(digits(x), digits(y))
        if x == y or gap == 0:
            continue
        if digits(x) != digits(y) and gap <= 0.5 * 10.0**-coarse + 1e-12:
            kinds.append(("digits", gap))
        elif kind := kind_of(where, value(x), value(y)):
            kinds.append((kind, gap))
        else:
            return False
    for kind, gap in kinds:
        found.note(kind, gap)
    return True


def canonical(words: str) -> str:
    "Words in which either word of the glossary is the same."
    for place, pattern in enumerate(GLOSSARY):
        words = re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", f"<{place}>", words)
    return re.sub(r"[\s,;:.]+", " ", words).strip()


def compare_lines(where: str, a: str, b: str, found: Found) -> None:
    "Compare two lines of text."
    first, second = plain(a), plain(b)
    if first == second:
        found.same["lines"] += 1
        return
    zero_a, zero_b = without_zero(first), without_zero(second)
    if "0.000" in first and "< 0.001" in second:
        found.note("p", 0.0005)
    (words_a, numbers_a), (words_b, numbers_b) = skeleton(zero_a), skeleton(zero_b)
    if not compare_numbers(f"{where}: {a}", numbers_a, numbers_b, found):
        found.differ(where, a, b)
    elif words_a == words_b:
        found.same["lines"] += 1
    elif words_a.lower() == words_b.lower():
        found.note("capitals")
    elif canonical(words_a.lower()) == canonical(words_b.lower()):
        found.note("glossary")
    elif DAYS.search(where) and re.sub(r"\d", "#", words_a) == re.sub(r"\d", "#", words_b):
        found.note("days")
    else:
        found.words[words_a, words_b] += 1


def compare_texts(where: str, a: Sequence[str], b: Sequence[str], found: Found) -> None:
    "Compare the lines of two answers, those that are only in one of them as well."

    def keys(lines: Sequence[str]) -> list[str]:
        return [canonical(skeleton(without_zero(plain(line)))[0].lower()) for line in lines]

    for _, i, j, k, m in SequenceMatcher(None, keys(a), keys(b), autojunk=False).get_opcodes():
        shared = min(j - i, m - k)
        for x, y in zip(a[i : i + shared], b[k : k + shared], strict=True):
            compare_lines(where, x, y, found)
        for line in a[i + shared : j]:
            found.differ(f"{where}: line", line, "—")
        for line in b[k + shared : m]:
            found.differ(f"{where}: line", "—", line)


def compare(before: Path, after: Path, most: int = 40, any_words: bool = False) -> int:
    "Compare two recordings and print what differs."
    found, names = (
        Found(),
        [{p.relative_to(d).as_posix() for p in d.glob("*/*.json")} for d in (before, after)],
    )
    if not names[0] or names[0] != names[1]:
        found.differ("answers", sorted(names[0] - names[1]), sorted(names[1] - names[0]))
    for name in sorted(names[0] & names[1]):
        a, b = (json.loads((d / name).read_text(encoding="utf-8")) for d in (before, after))
        where = name.removesuffix(".json")
        compare_texts(where, a["text"], b["text"], found)
        compare_values(
            where, {"code": a["code"], "": a.get("json")}, {"code": b["code"], "": b.get("json")}, found
        )
    print(
        f"{len(names[0] & names[1])} answers; the same: "
        + ", ".join(f"{n:,} {k}" for k, n in sorted(found.same.items()))
    )
    for kind, title in KINDS.items():
        print(
            f"  {found.allowed[kind]:>6,}  {title:<50} largest difference {found.largest.get(kind, 0.0):.3g}"
        )
    print(f"  {found.words.total():>6,}  new words around the same numbers")
    print(f"  {len(found.wrong):>6,}  anything else")
    for (a, b), n in found.words.most_common(0 if any_words else None):
        print(f"{n:,} times\n    before: {a}\n    after:  {b}")
    print("\n".join(found.wrong[:most]))
    return 1 if found.wrong or (found.words and not any_words) else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    asks, judges = verbs.add_parser("record"), verbs.add_parser("compare")
    asks.add_argument("target", type=Path)
    asks.add_argument(
        "--inputs", type=Path, help="traces to judge, made there if missing (default: DIR/inputs)"
    )
    asks.add_argument(
        "--python", default=sys.executable, help="of the environment to ask (default: this one)"
    )
    judges.add_argument("before", type=Path)
    judges.add_argument("after", type=Path)
    judges.add_argument("--most", type=int, default=40, help="differences to print (default: 40)")
    judges.add_argument("--any-words", action="store_true", help="new words were read and are right")
    args = parser.parse_args()
    if args.verb == "compare":
        return compare(args.before, args.after, args.most, args.any_words)
    inputs = (args.inputs or args.target / "inputs").resolve()
    return figures_asked.record(args.target.resolve(), inputs, args.python)


if __name__ == "__main__":
    sys.exit(main())
