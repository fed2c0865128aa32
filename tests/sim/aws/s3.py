"""S3, as far as the kit calls it: writes only where nothing is, reads, lists; what is deleted can be put back.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html: 412 PreconditionFailed when the key is
taken. https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel: a read or a list that begins
after a write sees it.
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
        self,
        Bucket: str,
        Key: str,
        Body: bytes,
        ContentType: str,
        IfNoneMatch: str,
        Metadata: dict[str, str] | None = None,
    ) -> Any:
        """Store an object where there is none."""
        assert IfNoneMatch == "*"
        if Key in self.objects:
            raise refused("PreconditionFailed", "PutObject")
        self.objects[Key] = self.stored[Key] = Object(Body, ContentType, dict(Metadata or {}))
        return {}

    def get_object(self, Bucket: str, Key: str) -> Any:
        """Return an object."""
        if Key not in self.objects:
            raise refused("NoSuchKey", "GetObject")
        found = self.objects[Key]
        return {"Body": BytesIO(found.body), "ContentType": found.content_type, "Metadata": dict(found.metadata)}

    def list_objects_v2(self, Bucket: str, Prefix: str, Delimiter: str = "") -> Any:
        """Return the keys below a prefix; with a delimiter, those just below it, and the folders there."""
        keys, folders = list[str](), dict[str, None]()
        for key in sorted(self.objects):
            if not key.startswith(Prefix):
                continue
            inner, cut, _ = key[len(Prefix) :].partition(Delimiter) if Delimiter else (key, "", "")
            if cut:
                folders[f"{Prefix}{inner}{cut}"] = None
            else:
                keys.append(key)
        contents = [{"Key": key, "Size": len(self.objects[key].body)} for key in keys]
        return {"Contents": contents, "CommonPrefixes": [{"Prefix": one} for one in folders]}

    def undelete(self) -> None:
        """Put back what was deleted: somebody removed the delete markers."""
        self.objects |= self.stored
