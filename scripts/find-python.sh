#!/usr/bin/env bash
# Print the path of a Python that is new enough to build the virtual environment with, or say how to get one.
# $PYTHON, if set, is the only one that is looked at.
set -euo pipefail

suits='import sys; sys.exit(sys.version_info < (3, 11))'
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    path=$(command -v "$candidate" 2>/dev/null) || continue
    "$path" -c "$suits" 2>/dev/null || continue
    if ! "$path" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "$path cannot make virtual environments: apt-get install $(basename "$(readlink -f "$path")")-venv" >&2
        exit 1
    fi
    echo "$path"
    exit 0
done
echo "Python 3.11 or newer is needed; looked for: ${PYTHON:-python3, python3.11 ... python3.14}." \
    "Install one (Debian 12, Ubuntu 24.04 and later: apt-get install python3 python3-venv)" \
    "or name it: make PYTHON=/path/to/python3.12 ..." >&2
exit 1
