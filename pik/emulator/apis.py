"""Which account and region an API belongs to: on AWS its address leads there, signed or not.

ministack looks for an API in the account of the caller's key, and in its own default one when a request has none: an
unsigned request to an API of another account would be answered 404 where AWS says 403. Runs inside the emulator's
process (see ``launcher.py``), so it imports nothing of ``pik``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext


def home(api: str) -> AbstractContextManager[None]:
    """Return the scope of a REST API, to serve a request to it in; a signed request brings its own."""
    from ministack.core.responses import request_scope
    from ministack.services import apigateway_v1

    for (account, region, stored), _ in apigateway_v1._rest_apis.all_items():
        if stored == api:
            scope: AbstractContextManager[None] = request_scope(account, region)
            return scope
    return nullcontext()
