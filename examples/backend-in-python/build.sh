#!/bin/sh
# Builds command_runner.wasm from the contract in ../../wit and the Python files of this folder.
set -eu
cd "$(dirname "$0")"
exec "${COMPONENTIZE_PY:-componentize-py}" \
    -d ../../wit -d wit \
    -w example:command-runner/backend \
    componentize app -p . -o "${1:-command_runner.wasm}"
