"""The clock of AWS, which is not the operator's.

https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html and every SDK's clock skew correction exist
because of it. Installed before anything else is imported, in the emulator and (see ``worker/sitecustomize.py``) in its
functions; monotonic clocks stay as they are. Imports nothing of this package: a function loads this file alone.
"""

from __future__ import annotations

import datetime as datetime_module
import time
from datetime import timedelta, tzinfo
from typing import Any


def install(ahead: float) -> None:
    """Let this process's wall clock be ``ahead`` seconds ahead from now on."""
    real_time, real_time_ns, real = time.time, time.time_ns, datetime_module.datetime
    time.time = lambda: real_time() + ahead
    time.time_ns = lambda: real_time_ns() + int(ahead * 1e9)
    shift = timedelta(seconds=ahead)

    class Kind(type):
        """Takes every datetime for one of these: C code makes the plain ones."""

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, real)

        def __subclasscheck__(cls, other: type) -> bool:
            return issubclass(other, real)

    class datetime(real, metaclass=Kind):  # type: ignore[valid-type, misc]  # noqa: N801
        """``datetime.datetime`` on the other clock."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return super().now(tz) + shift

        @classmethod
        def utcnow(cls) -> Any:
            return super().now(datetime_module.UTC).replace(tzinfo=None) + shift

        @classmethod
        def today(cls) -> Any:
            return cls.now()

    datetime.__module__, datetime.__qualname__ = "datetime", "datetime"  # where pickle finds it
    datetime_module.datetime = datetime  # type: ignore[misc]
