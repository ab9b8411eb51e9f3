#!/bin/sh
# Builds command_runner.wasm from the contract in ../../wit and the Python files of this folder.
set -eu
cd "$(dirname "$0")"
contract=../../wit
exec "${COMPONENTIZE_PY:-componentize-py}" \
    -d "$contract/deps/io.wit" -d "$contract/deps/clocks.wit" -d "$contract/deps/random.wit" \
    -d "$contract/deps/filesystem.wit" -d "$contract/deps/sockets.wit" -d "$contract/deps/cli.wit" \
    -d "$contract/deps/http.wit" -d "$contract/deps/config.wit" -d "$contract/deps/keyvalue.wit" \
    -d "$contract/deps/logging.wit" \
    -d "$contract/host" -d "$contract/backend" -d wit \
    -w example:command-runner/backend \
    componentize app -p . -o "${1:-command_runner.wasm}"
