"""Which caching fields an origin's answers carry.

As the default index has them, none at all, and the awkward ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate

from entrepot.testing.distributions import MADE, Content
from entrepot.testing.pages import File


@dataclass(frozen=True, slots=True)
class Resource:
    """What is about to be answered."""

    kind: str
    """``page``, ``file``, ``metadata``, ``repodata``, ``missing`` (a 404) or any word that was
    given to ``Origin.add``."""
    content: Content
    max_age: int
    """The origin's ``index_max_age``, in seconds."""
    file: File | None = None

    @property
    def is_volatile(self) -> bool:
        """Whether it may be other bytes tomorrow."""
        return self.kind in ("page", "repodata", "missing")

    @property
    def etag(self) -> str:
        """A strong validator."""
        return f'"{self.content.md5}"'


Profile = Callable[[Resource], dict[str, str]]


def index_like(resource: Resource) -> dict[str, str]:
    """As the default index answers: pages fresh for a while, with a validator.

    Files immutable; 404s fresh as well.
    """
    if resource.kind == "missing":
        return {"Cache-Control": f"max-age={resource.max_age}, public"}
    if resource.kind == "repodata":
        fields = {"Cache-Control": f"public, max-age={resource.max_age}", "ETag": resource.etag}
        return fields | {"Last-Modified": _modified()}
    if resource.is_volatile:
        freshness = {"Cache-Control": f"max-age={resource.max_age}, public", "ETag": resource.etag}
        return freshness | {"Vary": "Accept, Accept-Encoding", "X-PyPI-Last-Serial": "1"}
    fields = {
        "Cache-Control": "max-age=365000000, immutable, public",
        "ETag": resource.etag,
        "Last-Modified": _modified(),
    }
    if resource.file is None:
        return fields
    kind = "bdist_wheel" if resource.file.filename.endswith(".whl") else "sdist"
    return fields | {"X-PyPI-File-Version": resource.file.version, "X-PyPI-File-Package-Type": kind}


def bare(resource: Resource) -> dict[str, str]:  # noqa: ARG001  (a profile takes it)
    """No caching field at all, as many mirrors and plain file servers have it.

    Pip alone then caches nothing.
    """
    return {}


def no_store(resource: Resource) -> dict[str, str]:
    """Everything ``no-store``, with validators."""
    return _with_validators(resource, "no-store")


def must_revalidate(resource: Resource) -> dict[str, str]:
    """Fresh as long as ``index_max_age`` says, and never to be used stale."""
    return _with_validators(resource, f"max-age={resource.max_age}, must-revalidate")


def validators_only(resource: Resource) -> dict[str, str]:
    """ETag and Last-Modified and no word about freshness, as a plain file server has it."""
    return (
        {"ETag": resource.etag, "Last-Modified": _modified()} if resource.kind != "missing" else {}
    )


def _with_validators(resource: Resource, cache_control: str) -> dict[str, str]:
    fields = {"Cache-Control": cache_control}
    if resource.kind == "missing":
        return fields
    return (
        fields
        | {"ETag": resource.etag}
        | ({"Vary": "Accept, Accept-Encoding"} if resource.kind == "page" else {})
    )


def _modified() -> str:
    return formatdate(MADE, usegmt=True)
