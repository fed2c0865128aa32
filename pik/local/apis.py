"""Which account and region an API belongs to: on AWS its address leads there, signed or not.

ministack looks for an API in the account of the caller's key, and in its own default one when a request has none: an
unsigned request to an API of another account would be answered 404 where AWS says 403. Runs inside the emulator's
process (see ``launcher.py``), so it imports nothing of ``pik``.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext

_ADDRESS = re.compile(r"/restapis/([^/]+)/[^/]+/_user_request_(?:/|$)")


def home(path: str) -> AbstractContextManager[None]:
    """Return the scope of the REST API that a path leads to, to serve its request in; a signed one brings its own."""
    address = _ADDRESS.match(path)
    if not address:
        return nullcontext()
    from ministack.core.responses import request_scope
    from ministack.services import apigateway_v1

    for (account, region, api), _ in apigateway_v1._rest_apis.all_items():
        if api == address[1]:
            scope: AbstractContextManager[None] = request_scope(account, region)
            return scope
    return nullcontext()
