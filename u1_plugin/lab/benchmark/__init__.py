"""Suites of paired runs, their tables and figures."""
