"""S3, as far as the pipeline calls it: writes only where nothing is, and reads.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html: 412 PreconditionFailed when the key is
taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from tests.sim.aws.errors import refused


@dataclass(frozen=True)
class Object:
    """A stored object."""

    body: bytes
    content_type: str
    metadata: dict[str, str]


@dataclass
class S3:
    """One bucket. ``stored``: what was ever stored, by key, deleted or not; the last of each."""

    objects: dict[str, Object] = field(default_factory=dict)
    stored: dict[str, Object] = field(default_factory=dict)

    def put_object(
        self, Bucket: str, Key: str, Body: bytes, ContentType: str, Metadata: dict[str, str], IfNoneMatch: str
    ) -> Any:
        """Store an object where there is none."""
        assert IfNoneMatch == "*"
        if Key in self.objects:
            raise refused("PreconditionFailed", "PutObject")
        self.objects[Key] = self.stored[Key] = Object(Body, ContentType, dict(Metadata))
        return {}

    def get_object(self, Bucket: str, Key: str) -> Any:
        """Return an object."""
        if Key not in self.objects:
            raise refused("NoSuchKey", "GetObject")
        found = self.objects[Key]
        return {"Body": BytesIO(found.body), "ContentType": found.content_type, "Metadata": dict(found.metadata)}
