#!/usr/bin/env bash
# Make or renew the virtual environment $1 with the exact versions of constraints.txt, this project and its tools in it.
# Further arguments go to pip. A failed install is taken up where it stopped by the next `make venv`.
set -euo pipefail

venv=$1
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(scripts/find-python.sh)
    echo "making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
fi
echo "installing the packages of constraints.txt into $venv (some minutes the first time)"
# One short line for each file fetched; errors and warnings come on standard error as they are.
"$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off --constraint constraints.txt "$@" \
    --editable '.[dev]' |
    sed -unE '/\.metadata/d; /^ *(Downloading|Building wheel|Installing collected|Successfully)/s/^ *(.{1,100}).*/  \1/p'
