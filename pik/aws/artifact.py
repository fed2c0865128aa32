"""What is deployed, or would be, as two digests: the template's meaning, and the code.

The code's digest is known before anything is uploaded: ``sam`` names what it uploads by a checksum of its content,
which is worked out here in the same way.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pik.events import sha256_json

CODE = "CodeUri"  # the property that says where a function's code lies


@dataclass(frozen=True)
class Digests:
    """What is deployed, or would be: the template's meaning without where code lies, and the code."""

    template: str
    code: str


def digests(document: Mapping[str, Any], folder: Path | None = None) -> Digests:
    """Return the digests of a parsed template: built (its code lies below ``folder``), packaged or deployed.

    The template's leaves out where code lies and what changes nothing (metadata, the template's description), so that
    what was built and what ``sam deploy`` made of it are equal. The code's is taken over the names of the objects.
    """
    resources = {name: dict(_meaning(one)) for name, one in document["Resources"].items()}
    meaning = {name: item for name, item in document.items() if name not in ("Metadata", "Description")}
    locations = [one.get("Properties", {}).get(CODE) for one in document["Resources"].values()]
    names = {_object_name(location, folder) for location in locations if location is not None}
    return Digests(sha256_json(meaning | {"Resources": resources}), sha256_json(sorted(names)))


def _meaning(resource: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, item in resource.items():
        if name == "Properties":
            yield name, {key: value for key, value in item.items() if key != CODE}
        elif name != "Metadata":  # sam deploy adds some
            yield name, item


def code_digest(location: Any, folder: Path | None = None) -> str:
    """Return the digest of one function's code; of functions that share their code it is the whole code's digest."""
    return sha256_json([_object_name(location, folder)])


def _object_name(location: Any, folder: Path | None) -> str:
    """The name of the object that code is, or will be, uploaded as."""
    if isinstance(location, Mapping):
        return str(location["Key"]).rpartition("/")[2]
    if folder is not None and not str(location).startswith("s3://"):
        return checksum(folder / str(location))
    return str(location).rpartition("/")[2]


def checksum(folder: Path) -> str:
    """Return the name that ``sam`` gives the upload of a folder: MD5 over its files' names and contents.

    As ``samcli.lib.utils.hash.dir_checksum``, by which sam decides whether to upload code again; that both agree is
    tested against a real deploy.
    """
    digest = hashlib.md5(usedforsecurity=False)
    paths = [os.path.join(here, name) for here, _, names in os.walk(folder, followlinks=True) for name in names]
    for path in sorted(paths):
        content = hashlib.md5(Path(path).read_bytes(), usedforsecurity=False)
        digest.update(os.path.relpath(path, folder).encode())
        digest.update(content.hexdigest().encode())
    return digest.hexdigest()
