"""Bars in, closed trades out: sessions, strategies, the state machine, backtester and live loop."""
