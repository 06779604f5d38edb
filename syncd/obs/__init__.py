"""Observability: logs without secrets, metrics, and the clock."""
