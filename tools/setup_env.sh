# Sourced by demo.sh and check.sh: makes .venv of the checkout and installs the
# package into it, once. An interrupted installation goes on where it stopped;
# a change of the dependencies installs again.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=${U1_VENV:-.venv}
EXTRAS=${U1_EXTRAS:-openmmlab,mmcv-lite,test}
STAMP=$VENV/.u1_plugin-installed
WANTED="$EXTRAS $(cat setup.py setup.cfg pyproject.toml | sha256sum)"

if [ "$(cat "$STAMP" 2>/dev/null)" != "$WANTED" ]; then
    echo "Installing into $VENV (about 6 GB, minutes the first time) ..."
    mkdir -p "$VENV"
    (
        # Two commands at once take turns.
        flock 9
        [ "$(cat "$STAMP" 2>/dev/null)" = "$WANTED" ] && exit 0
        "${PYTHON:-python3}" -m venv "$VENV"
        "$VENV/bin/python" -m pip install --quiet \
            --disable-pip-version-check --editable ".[$EXTRAS]"
        echo "$WANTED" >"$STAMP.part"
        mv "$STAMP.part" "$STAMP"
    ) 9>"$VENV/.u1_plugin-lock"
fi
# Absolute, because the demo's and the tests' child processes change folder.
PYTHON=$(cd "$VENV" && pwd)/bin/python
export PYTHON
