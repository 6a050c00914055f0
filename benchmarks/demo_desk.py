"""Is what the demo breaks found while it is played? Desks of many seeds, played to their end as fast as they go.

`python benchmarks/demo_desk.py [--seeds N] [--first SEED]` prints a line a seed: trading days until each loss was called degraded,
beside the best possible (median of who knows the loss), and strategies that were called so in vain. About twenty seconds a seed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import median

from trade_telemetry.cli.demo import DeskWatch, Found, play_desk
from trade_telemetry.config import Settings
from trade_telemetry.trading.simulated_desk import DeskPlan, DeskPlayer, Fate, SimulatedDesk


def played(seed: int) -> tuple[dict[Fate, Found | None], list[Found], int]:
    "What was found of everything that happened, what was called degraded in vain, and of how many."
    with tempfile.TemporaryDirectory() as name, redirect_stdout(StringIO()):
        desk = SimulatedDesk(DeskPlan(seed=seed))
        player, watch = (
            DeskPlayer(desk, Path(name)),
            DeskWatch(desk, Settings(telemetry_storage_path=Path(name))),
        )
        player.write_backtest()
        play_desk(player, watch, threading.Event(), every=10)
        player.close()
    told = {fate: watch.found.get((fate.strategy, fate.kind == "silence")) for fate in desk.fates}
    right = {fate: found if found and found.fate == fate else None for fate, found in told.items()}
    lost = {fate.strategy for fate in desk.fates if fate.kind != "silence"}
    return right, [found for found in watch.found.values() if found.fate is None], len(desk.cast) - len(lost)


def main() -> int:
    "Print a line a seed, and what they come to."
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    args = parser.parse_args()
    delays: dict[str, list[tuple[float, float]]] = {}
    vain = others = 0
    for seed in range(args.first, args.first + args.seeds):
        right, false, healthy = played(seed)
        vain, others = vain + len(false), others + healthy
        cells = []
        for fate, found in right.items():
            delays.setdefault(f"{fate.strategy}, {fate.kind}", []).append(
                (found.after, found.best) if found else (float("inf"), float("nan"))
            )
            cells.append(
                f"{fate.strategy} {found.after}/{found.best:.0f}" if found else f"{fate.strategy} never"
            )
        names = ", ".join(f"{one.strategy} on {one.day}" for one in false) or "nobody"
        print(f"seed {seed}: {'; '.join(cells)}; in vain: {names}", flush=True)
    for what, some in delays.items():
        found_in = [after for after, _ in some if after < float("inf")]
        best = median([best for _, best in some if best == best] or [float("nan")])
        print(
            f"{what}: found in {len(found_in)} of {len(some)}, median {median(x for x, _ in some):g} days, best possible {best:g}"
        )
    print(f"called degraded in vain: {vain} of {others} years of strategies to which nothing happened")
    return 0


if __name__ == "__main__":
    sys.exit(main())
