#!/usr/bin/env bash
# What a release must pass, from the outside: builds the source distribution
# and the wheel, installs the wheel into an empty environment, and there, in an
# empty folder, trains by mim and runs README's snippets for timm and PyTorch.
# Usage: bash tools/maintenance/release_check.sh [FOLDER]
#   FOLDER  new; for builds, the environment (about 6 GB) and runs; it is kept.
#           Without it a temporary one is used and removed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
SOURCE=$PWD
if [ $# -gt 0 ]; then
    mkdir "$1"
    FOLDER=$(cd "$1" && pwd)
else
    FOLDER=$(mktemp -d)
    trap 'rm -rf "$FOLDER"' EXIT
fi
# Nothing of the caller's may stand in for what the wheel lacks.
unset PYTHONPATH PYTHONHOME MPLBACKEND
# Threads of several processes would wait for each other on a busy machine.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
PASSED=0

step() { # step NAME COMMAND...: run it, say how long it took, or stop
    local name=$1 start=$SECONDS log
    shift
    log=$FOLDER/$((++PASSED)).log
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log"
        echo "FAILED: $name, after $((SECONDS - start)) s"
        exit 1
    fi
    echo "passed: $name ($((SECONDS - start)) s)"
    tail -n "${TAIL:-0}" "$log"
}

copy_source() { # what git has or would add, so that no build leaves traces
    mkdir "$FOLDER/source"
    git ls-files -co --exclude-standard -z |
        xargs -0 -I{} sh -c 'test ! -e "$1" || printf "%s\0" "$1"' sh {} |
        tar --null -T - -cf - | tar -xf - -C "$FOLDER/source"
}

check_changelog() {
    local version
    version=$(sed -n "s/^__version__ = '\(.*\)'/\1/p" u1_plugin/version.py)
    grep -F "## [$version]" CHANGELOG.md
}

make_environment() { # make_environment FOLDER PACKAGE...
    "${PYTHON:-python3}" -m venv "$1"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}"
}

build() {
    make_environment "$FOLDER/tools" build twine
    "$FOLDER/tools/bin/python" -m build --outdir "$FOLDER/dist" \
        "$FOLDER/source"
    "$FOLDER/tools/bin/python" -m twine check --strict "$FOLDER"/dist/*
}

install() {
    local wheel
    wheel=$(echo "$FOLDER"/dist/*.whl)
    make_environment "$FOLDER/env" "$wheel[openmmlab,mmcv-lite,lab,timm]"
    "$FOLDER/env/bin/python" -m pip check
}

write_config() {
    mkdir "$FOLDER/empty" && cd "$FOLDER/empty"
    "$PY" "$SITE/.mim/tools/dataset_converters/digits.py"
    echo "_base_ = ['u1_plugin::digits/resnet18-narrow_1xb64_digits_u1.py']" \
        >mine.py
}

trained() { # trained FOLDER COMMAND...: it ends, and leaves a checkpoint
    cd "$FOLDER/empty"
    "${@:2}" --work-dir "$1" --cfg-options train_cfg.max_epochs=1 \
        default_hooks.checkpoint.interval=1
    test -f "$1/epoch_1.pth"
    grep -h loss_u1 "$1"/*/*.log | tail -n 1
}

snippets() { # README's blocks for timm's task and for any loop, on a network of timm
    cd "$FOLDER/empty"
    "$PY" - "$SOURCE/README.md" >snippets.py <<'PY'
import re
import sys

text = open(sys.argv[1], encoding='utf-8').read()
blocks = re.findall(r'^```python\n(.*?)^```', text, re.M | re.S)
print('''import timm
import torch

model = timm.create_model('resnet10t', num_classes=10)
images, labels = torch.randn(4, 3, 64, 64), torch.arange(4)
criterion = torch.nn.CrossEntropyLoss()''')
for name in ('U1ClassificationTask', 'U1Branch'):
    print(next(block for block in blocks if name in block))
    print('''loss.backward()
assert loss.isfinite() and model.conv1[0].weight.grad.abs().sum() > 0
model.zero_grad()
print(f'loss {loss.item():.3f}')''')
PY
    "$PY" snippets.py
}

step 'a section of CHANGELOG.md for this version' check_changelog
step 'files to build from' copy_source
step 'source distribution and wheel; twine check' build
step 'installation into an empty environment; pip check' install
PY=$FOLDER/env/bin/python
SITE=$(cd / && "$PY" -c 'import importlib.util as util
print(util.find_spec("u1_plugin").submodule_search_locations[0])')
export PATH=$FOLDER/env/bin:$PATH
step 'digits, and a config that inherits the installed one' write_config
TAIL=2 step "README's snippets for timm and PyTorch" snippets
# By its path: stock tools know no `u1_plugin::`, as they do not import it.
CONFIG=$SITE/.mim/configs/digits/resnet18-narrow_1xb64_digits_u1.py
TRAIN=$(dirname "$SITE")/mmpretrain/.mim/tools/train.py
TAIL=1 step "MMPretrain's own tools/train.py" trained own "$PY" "$TRAIN" "$CONFIG"
step 'mim' "$PY" -m pip install --quiet --disable-pip-version-check openmim
TAIL=1 step 'mim train mmpretrain' \
    trained mim mim train mmpretrain "$CONFIG" --gpus 0
TAIL=1 step 'mim train u1_plugin' \
    trained plugin mim train u1_plugin mine.py --gpus 0
echo "release check: $PASSED passed, 0 failed ($SECONDS s)"
