"""Hooks that users put into their configs."""
