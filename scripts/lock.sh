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
compile pyproject.toml -o requirements/workbench.lock
# What only tests and linters need comes on top of the workbench, in the same environment: hence the same versions.
compile --group dev -c requirements/workbench.lock -o requirements/dev.lock
# The site is built in an environment of its own, which imports pik from the workbench: hence the same versions here too.
compile -c requirements/workbench.lock requirements/docs.in -o requirements/docs.lock
.tools/uv/bin/python scripts/environment_yml.py
