"""Sends one event. Needs botocore; finds credentials and region where the AWS CLI does. INGEST_URL: in the environment.

python ingest.py event.json
"""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.session import Session

url, body = os.environ["INGEST_URL"], Path(sys.argv[1]).read_bytes()
session = Session()
signed = AWSRequest("POST", url, data=body, headers={"Content-Type": "application/json"})
SigV4Auth(session.get_credentials(), "execute-api", session.get_config_variable("region")).add_auth(signed)
request = urllib.request.Request(url, body, dict(signed.headers), method="POST")
try:
    with urllib.request.urlopen(request, timeout=60) as answer:
        print(answer.read().decode())
except urllib.error.HTTPError as error:  # 429 and 5xx: sign it anew, and send it again
    sys.exit(error.read().decode())
