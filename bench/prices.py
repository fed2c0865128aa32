"""What AWS charges in us-east-1, in US dollars, first tier, no free tier. Data: check it before you rely on it.

Each price names AWS's own page, the page on which the figure was read (AWS renders its figures with scripts, so stored
copies of its pages often lack them), and the date of that reading.
"""

from __future__ import annotations

from typing import NamedTuple


class Price(NamedTuple):
    """Dollars for one ``unit``; ``page`` is AWS's, ``read_at`` where the figure was seen on ``read``."""

    dollars: float
    unit: str
    page: str
    read_at: str
    read: str


REGION = "us-east-1"
_READ = "2026-11-23"

API_REQUEST = Price(
    3.50 / 1e6,
    "REST API request",
    "https://aws.amazon.com/api-gateway/pricing/",
    "https://docs.aws.amazon.com/whitepapers/latest/best-practices-api-gateway-private-apis-integration/cost-optimization.html",
    _READ,
)
LAMBDA_REQUEST = Price(
    0.20 / 1e6,
    "Lambda request",
    "https://aws.amazon.com/lambda/pricing/",
    "https://cloudchipr.com/blog/aws-lambda-pricing",
    _READ,
)
LAMBDA_GB_SECOND = Price(
    0.0000133334,
    "Lambda GB-second (arm64)",
    "https://aws.amazon.com/lambda/pricing/",
    "https://cloudchipr.com/blog/aws-lambda-pricing",
    _READ,
)
S3_PUT = Price(
    0.005 / 1e3,
    "S3 Standard PUT",
    "https://aws.amazon.com/s3/pricing/",
    "https://c3x.dev/blog/s3-request-fees-explained",
    _READ,
)
S3_GET = Price(
    0.0004 / 1e3,
    "S3 Standard GET",
    "https://aws.amazon.com/s3/pricing/",
    "https://c3x.dev/blog/s3-request-fees-explained",
    _READ,
)
WRITE_UNIT = Price(
    0.625 / 1e6,
    "DynamoDB on-demand write unit",
    "https://aws.amazon.com/dynamodb/pricing/on-demand/",
    "https://airbyte.com/data-engineering-resources/dynamodb-pricing",
    _READ,
)
READ_UNIT = Price(
    0.125 / 1e6,
    "DynamoDB on-demand read unit",
    "https://aws.amazon.com/dynamodb/pricing/on-demand/",
    "https://airbyte.com/data-engineering-resources/dynamodb-pricing",
    _READ,
)
LOG_GB = Price(
    0.50,
    "CloudWatch Logs GB ingested",
    "https://aws.amazon.com/cloudwatch/pricing/",
    "https://c3x.dev/blog/cloudwatch-logs-cost-optimization",
    _READ,
)

_AGAIN = "2026-11-27"
_CLOUDWATCH = "https://github.com/api-evangelist/cloudwatch/blob/main/plans/cloudwatch-plans-pricing.yml"
_GIST = "https://gist.github.com/allenheltondev/d028926b7fe3b0656c96af9140ab55e3"  # of 2020

TABLE_GB = Price(
    0.25,
    "DynamoDB Standard GB stored for a month",
    "https://aws.amazon.com/dynamodb/pricing/on-demand/",
    "https://aws.amazon.com/dynamodb/pricing/",
    _AGAIN,
)
RECOVERY_GB = Price(
    0.20,
    "DynamoDB point-in-time recovery, GB for a month",
    "https://aws.amazon.com/dynamodb/pricing/on-demand/",
    _GIST,
    _AGAIN,
)
S3_GB = Price(0.023, "S3 Standard GB stored for a month", "https://aws.amazon.com/s3/pricing/", _GIST, _AGAIN)
LOG_STORED_GB = Price(
    0.03, "CloudWatch Logs GB stored for a month", "https://aws.amazon.com/cloudwatch/pricing/", _CLOUDWATCH, _AGAIN
)
ALARM = Price(0.10, "CloudWatch alarm for a month", "https://aws.amazon.com/cloudwatch/pricing/", _CLOUDWATCH, _AGAIN)
METRIC = Price(
    0.30, "CloudWatch custom metric for a month", "https://aws.amazon.com/cloudwatch/pricing/", _CLOUDWATCH, _AGAIN
)
DASHBOARD = Price(
    3.00,
    "CloudWatch dashboard for a month",
    "https://aws.amazon.com/cloudwatch/pricing/",
    "https://www.factualminds.com/blog/amazon-cloudwatch-pricing-metrics-logs-alarms-dashboards/",
    _AGAIN,
)
SQS_REQUEST = Price(
    0.40 / 1e6,
    "SQS standard request",
    "https://aws.amazon.com/sqs/pricing/",
    "https://www.factualminds.com/blog/amazon-sqs-pricing-64kb-rule-fifo-vs-standard/",
    _AGAIN,
)

KEEPING = (TABLE_GB, RECOVERY_GB, S3_GB, LOG_STORED_GB, ALARM, METRIC, DASHBOARD, SQS_REQUEST)
ALL = (API_REQUEST, LAMBDA_REQUEST, LAMBDA_GB_SECOND, S3_PUT, S3_GET, WRITE_UNIT, READ_UNIT, LOG_GB)
NOT_INCLUDED = "data transfer out, X-Ray, and (they are in the next section) storage and an idle stack"
