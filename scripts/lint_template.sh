#!/bin/sh
# The template's three linters: SAM's own validation, cfn-lint, checkov. None needs AWS credentials or the internet;
# they are kept from using what the shell has. A finding is fixed, or waived beside the resource with the reason.
# Usage: scripts/lint_template.sh [TEMPLATE]
set -eu
cd "$(dirname "$0")/.."
template=${1:-template.yaml}

clean() {
    env -i PATH="$PATH" HOME="${TMPDIR:-/tmp}" LANG=C.UTF-8 SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 \
        AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_CONFIG_FILE=/dev/null \
        AWS_SHARED_CREDENTIALS_FILE=/dev/null "$@"
}

clean .tools/sam/bin/sam validate --lint --template-file "$template" --config-file "$PWD/samconfig.toml"
clean .tools/sam/bin/cfn-lint --non-zero-exit-code informational --include-checks I -- "$template"
# --skip-download and an empty key: no platform, no policies from elsewhere.
clean .tools/lint/bin/checkov --file "$template" --framework cloudformation --skip-download --compact --quiet
