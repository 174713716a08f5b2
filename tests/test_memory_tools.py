"""The study's statistics, and the benchmark as a command."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest


@pytest.fixture(scope='module')
def study(root):
    path = root / 'tools/memory_study.py'
    spec = importlib.util.spec_from_file_location('memory_study', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_summary_counts_gains_and_losses(study):
    plain = np.array([True, True, False, False] * 5)
    better = np.array([True, False, True, True] * 5)
    rights = [dict(pixel=plain, image=better)] * 2
    rights.append(dict(pixel=plain, image=plain))
    summary = study.summarise(rights)
    assert summary['pixel'] == dict(accuracy=[50.0] * 3)
    row = summary['image']
    assert row['accuracy'] == [75.0, 75.0, 50.0]
    assert row['difference']['mean'] == pytest.approx(50 / 3)
    assert (row['gained'], row['lost']) == (20, 10)
    # Twice the binomial tail of 20 or more heads in 30 tosses.
    assert row['mcnemar'] == pytest.approx(0.0987, abs=1e-4)


def test_benchmark(root, environment, tmp_path):
    command = [
        *(sys.executable, str(root / 'tools/benchmarks/memory_search.py')),
        *('--sizes', '300', '--queries', '4', '--channels', '8'),
        *('--repeat', '2', '--threads', '1', '--out', 'bench.json'),
        *('--engines', 'exact', 'sklearn'),
    ]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    records = json.loads((tmp_path / 'bench.json').read_text())
    assert [r['engine'] for r in records] == ['exact', 'sklearn']
    assert all(len(r['rates']) == 2 and min(r['rates']) > 0 for r in records)
    again = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert again.returncode and 'exists' in again.stderr
