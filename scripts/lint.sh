#!/usr/bin/env bash
# Everything that is checked without running the code, with the tools of the virtual environment $1.
set -euo pipefail

bin=$1/bin
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() {
    echo "== $*" >&2
    "$bin/$@"
}
step ruff check .
step ruff format --check .
step mypy
step lint-imports --no-logo
step codespell
for script in scripts/*.sh .ci/run; do
    bash -n "$script"
done
# The client needs no engine for this; where it is missing, tests/unit/test_project.py reads the file all the same.
if docker compose version >/dev/null 2>&1; then
    echo "== docker compose config" >&2
    docker compose config --quiet
    docker compose --file docker-compose.yml --file deploy/gpu.yml config --quiet
fi
