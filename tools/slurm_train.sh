#!/usr/bin/env bash
# Usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS as in MMPretrain. GRES is
# what slurm calls a GPU, "gpu" if unset; empty asks for none, on CPUs.
set -euo pipefail
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
WORK_DIR=$4
TOOLS=$(cd "$(dirname "$0")" && pwd)
GRES=${GRES-gpu}

# SRUN_ARGS is a list of options in one variable, so it must split.
# shellcheck disable=SC2086
exec srun --partition="$PARTITION" \
    --job-name="$JOB_NAME" \
    ${GRES:+--gres="$GRES:${GPUS_PER_NODE:-8}"} \
    --ntasks="${GPUS:-8}" \
    --ntasks-per-node="${GPUS_PER_NODE:-8}" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$TOOLS/train.py" "$CONFIG" \
    --work-dir="$WORK_DIR" --launcher=slurm "${@:5}"
