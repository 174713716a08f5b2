"""Records of cells and rows of tables, for the tests of compatibility."""

import sys

import compatibility_results as results
from markdown_it import MarkdownIt

HERE = f'{sys.version_info[0]}.{sys.version_info[1]}'
CELL = f'onedl-newest-{HERE}'


def record(cell=CELL, tests=(), **values) -> dict:
    packages = dict(python='3.11.7', torch='2.8.0')
    return dict(
        dict(
            cell=cell,
            date='2026-01-01',
            commit='abc',
            tests=list(tests),
            versions=results.main_versions(packages),
            packages=packages,
            outcome='passed',
            reason='',
            passed=5,
            failed=0,
            errors=0,
            skipped=1,
            seconds=90,
            failing=[],
        ),
        **values,
    )


def rows(markdown: str) -> list:
    """Cells of a table's body, as text."""
    tokens = MarkdownIt().enable('table').parse(markdown)
    kinds = [token.type for token in tokens]
    body = tokens[kinds.index('tbody_open') : kinds.index('tbody_close')]
    lines = [
        ''.join(child.content for child in token.children)
        for token in body
        if token.type == 'inline'
    ]
    width = kinds.count('th_open')
    assert len(lines) % width == 0
    return [lines[i : i + width] for i in range(0, len(lines), width)]
