#!/bin/sh
# Resolve every environment's lock file, with hashes, for all platforms. No index address is written.
set -eu
cd "$(dirname "$0")/.."
compile() {
    .tools/uv/bin/uv pip compile -q --generate-hashes --no-header --no-emit-index-url --universal --python-version 3.11 "$@"
}
for name in bootstrap emulator sam lint lambda; do
    compile "requirements/$name.in" -o "requirements/$name.lock"
done
compile pyproject.toml --group dev -o requirements/workbench.lock
