"""The trading process: a closed position becomes a trace, and the loop that made it never waits.

The names below are imported when they are first used, so that a trading process pays for nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trade_telemetry.capture.hook import TelemetryHook as TelemetryHook
    from trade_telemetry.capture.hook import open_hook as open_hook
    from trade_telemetry.capture.run_record import WriterStats as WriterStats
    from trade_telemetry.capture.run_record import run_directory as run_directory
    from trade_telemetry.capture.writer import TelemetryWriter as TelemetryWriter

_ROOM_OF = {
    "TelemetryHook": "hook",
    "TelemetryWriter": "writer",
    "WriterStats": "run_record",
    "open_hook": "hook",
    "run_directory": "run_record",
}
__all__ = ["TelemetryHook", "TelemetryWriter", "WriterStats", "open_hook", "run_directory"]


def __getattr__(name: str) -> object:
    """Import `name` from its room on first use and keep it here."""
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List what can be imported, loaded or not."""
    return sorted({*globals(), *__all__})
