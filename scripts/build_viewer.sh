#!/usr/bin/env bash
# Build the viewer's JavaScript from browser/viewer into worker/web/static/viewer, with Node and npm.
# What comes out is committed, so that nothing else needs Node; a test compares it with its sources.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

sources=browser/viewer out=worker/web/static/viewer place=build/viewer
if ! command -v npm >/dev/null; then
    echo "npm is needed to build the viewer: apt-get install nodejs npm" >&2
    exit 1
fi
mkdir -p "$place" "$out"
cp "$sources/package.json" "$sources/package-lock.json" "$sources/.npmrc" "$place/"
(cd "$place" && npm ci --no-audit --no-fund --loglevel=error)
node "$sources/build.mjs" "$sources" "$place/node_modules" "$out"
