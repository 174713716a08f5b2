"""Comparison of training recipes: suites, runs, tables."""
