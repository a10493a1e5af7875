#!/usr/bin/env bash
# Print constraints.txt: the exact version of everything that the virtual environment $1 holds, but for this project.
# Local version labels (torch's "+cpu") are left out, so that the pins fit every platform's build.
set -euo pipefail

elsewhere='async-timeout==5.0.1' # redis needs it below Python 3.11.3 (Debian 12 has 3.11.2)

echo "# Exact versions of everything, for make venv and the image; renew with: make lock"
{
    echo "$elsewhere"
    "$1/bin/python" -m pip --disable-pip-version-check freeze --all --exclude-editable --exclude pip |
        sed -nE 's/^([A-Za-z0-9._-]+==[^+ ;@]+).*/\1/p'
} | LC_ALL=C sort --ignore-case --unique
