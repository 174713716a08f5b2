#!/usr/bin/env bash
# What a new release of a dependency breaks: runs the fast suite with the newest
# packages and compares with the last record of docs/compatibility.jsonl. Prints
# tests that fail now and did not, and the versions that changed; exit status 1
# if there are such tests, or if nothing could be run.
# Usage: bash tools/maintenance/weekly.sh [CELL...] [-- OPTIONS OF PYTEST]
set -euo pipefail
source "$(dirname "$0")/../setup_env.sh"
case ${1:---} in --) set -- openmmlab-newest-3.13 onedl-newest-3.13 "$@" ;; esac
exec "$PYTHON" tools/maintenance/compatibility.py --again --compare --cells "$@"
