#!/bin/sh
# Sends one event. Needs curl 7.86 or newer, INGEST_URL, AWS_REGION and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and,
# with a role, AWS_SESSION_TOKEN in the environment. The secrets reach curl on standard input, not as arguments.
#
#     sh ingest.sh event.json
curl_config() {
    printf 'user = "%s:%s"\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"
    test -z "${AWS_SESSION_TOKEN:-}" || printf 'header = "X-Amz-Security-Token: %s"\n' "$AWS_SESSION_TOKEN"
}
curl_config | curl --config - --silent --show-error --fail-with-body \
    --retry 5 --max-time 60 \
    --aws-sigv4 "aws:amz:$AWS_REGION:execute-api" \
    --header 'Content-Type: application/json' \
    --data-binary "@$1" \
    "$INGEST_URL"
