#!/usr/bin/env bash
# Lint, types and tests. Usage: bash tools/check.sh [options of pytest]
set -euo pipefail
source "$(dirname "$0")/setup_env.sh"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy --strict -p u1_plugin.geometry -p u1_plugin.nn \
    -p u1_plugin.memory -p u1_plugin.measure
# One process a core, and one thread a process, or they would fight for cores.
export OMP_NUM_THREADS=1
# Neighbours stay together, so that what a file prepares is prepared once.
exec "$PYTHON" -m pytest -n "${U1_TEST_PROCESSES:-auto}" --dist worksteal "$@"
