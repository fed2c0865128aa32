#!/bin/sh
# Resolve every environment's lock file, with hashes, for all platforms. No index address is written.
set -eu
cd "$(dirname "$0")/.."
compile() {
    .tools/uv/bin/uv pip compile -q --generate-hashes --no-header --no-emit-index-url --universal --python-version 3.11 "$@"
}
for name in bootstrap emulator sam lint; do
    compile "requirements/$name.in" -o "requirements/$name.lock"
done
# What the Lambda runtime brings along is not in the artifact.
compile --no-emit-package botocore --no-emit-package urllib3 --no-emit-package python-dateutil --no-emit-package six \
    requirements/lambda.in -o requirements/lambda.lock
compile pyproject.toml --group dev -o requirements/workbench.lock
.tools/uv/bin/python scripts/environment_yml.py
