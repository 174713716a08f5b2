#!/usr/bin/env bash
# Digits, one-hot against one-hot + U(1), five seeds: table and picture.
# Usage: bash tools/demo.sh [options of tools/demo.py]
set -euo pipefail
source "$(dirname "$0")/setup_env.sh"
exec "$PYTHON" tools/demo.py "$@"
