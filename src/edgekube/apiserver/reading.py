"""Collections: list and watch, with resource versions, pages and bookmarks (Kubernetes docs, "API Concepts")."""

import base64
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from edgekube.api.errors import BadRequest, Cause, Expired, Invalid, Timeout
from edgekube.api.resource import AnyResource, Key
from edgekube.api.selectors import FieldMatcher, LabelMatcher, parse_labels
from edgekube.apiserver import fields
from edgekube.apiserver.cache import EntryPage, ResourceCache
from edgekube.apiserver.caches import Caches
from edgekube.apiserver.codec import join_list
from edgekube.apiserver.registry import problems
from edgekube.apiserver.request import Tree, truthy
from edgekube.apiserver.route import Target
from edgekube.apiserver.watching import Events, Terms, follow, refused

MATCHES = ("", "NotOlderThan", "Exact")
WATCH_SECONDS = (1800, 3600)
"""A watch without timeoutSeconds ends after a random time in between."""
RELIST = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)
INCONSISTENT = -1
"""The revision in a token that goes on with whatever there is now."""


class Token(msgspec.Struct, frozen=True):
    """A continue token: list on after `after`, as of revision `rv`."""

    rv: int
    after: str

    def text(self) -> str:
        """Return what clients see."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "Token":
        """Read it back; raises BadRequest."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            return msgspec.json.decode(raw, type=cls)
        except (ValueError, msgspec.DecodeError) as error:
            raise BadRequest(f"continue key is not valid: {error}") from error


@dataclass(frozen=True, slots=True)
class Choice:
    """The objects a request is about."""

    target: Target
    labels: LabelMatcher
    fields: FieldMatcher


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a list asks for, read from the query."""

    choice: Choice
    limit: int
    token: Token | None
    version: int | None
    exact: bool


class Reading:
    """Lists and watches of every resource."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches

    async def list(self, target: Target, query: Mapping[str, str]) -> bytes:
        """Return a `…List`."""
        page = await self._page(_wish(target, query))
        metadata: Tree = {"resourceVersion": str(page.revision)}
        if page.next:
            metadata["continue"] = Token(page.revision, page.next).text()
            if page.remaining is not None:
                metadata["remainingItemCount"] = page.remaining
        return join_list(target.row, [entry.raw for entry in page.entries], metadata)

    async def keys(self, target: Target, query: Mapping[str, str]) -> Sequence[Key]:
        """Return the keys of what the selectors choose."""
        return [entry.key for entry in (await self._page(_wish(target, query))).entries]

    async def _page(self, wish: _Wish) -> EntryPage:
        target = wish.choice.target
        cache = await self._fresh(target.row, wish.version or 0)
        at = max(wish.token.rv, 0) if wish.token else (wish.version or 0) if wish.exact else 0
        try:
            return cache.page(
                target.namespace, labels=wish.choice.labels, fields=wish.choice.fields, limit=wish.limit,
                after=wish.token.after if wish.token else "", at=at,
            )  # fmt: skip
        except Expired as error:
            if wish.token is None:
                raise Expired(f"The resourceVersion for the provided list is too old: {at}") from error
            expired = Expired(RELIST)
            expired.continue_ = Token(INCONSISTENT, wish.token.after).text()
            raise expired from error

    async def _fresh(self, row: AnyResource, version: int) -> ResourceCache:
        """Return the cache once it shows all of our writes; raises Timeout for a version yet to come."""
        cache = await self._caches.fresh(row)
        if version > cache.revision and version > await self._caches.store.revision():
            raise too_large(version)
        return cache

    async def watch(self, target: Target, query: Mapping[str, str]) -> Events:
        """Return the events from the version asked for on; they end after timeoutSeconds."""
        choice = choice_of(target, query)
        version = _version(query)
        initial = truthy(query.get("sendInitialEvents"))
        _check_initial(query, initial=initial)
        seconds = _number(query, "timeoutSeconds") or random.randint(*WATCH_SECONDS)  # noqa: S311 - spreading
        terms = Terms(
            seconds=float(seconds), bookmarks=truthy(query.get("allowWatchBookmarks")), marked=initial
        )
        try:
            cache = await self._fresh(target.row, version or 0)
            after = None if initial or not version else version
            watcher = cache.watch(
                after, namespace=target.namespace, labels=choice.labels, fields=choice.fields
            )
        except (Expired, Timeout) as error:
            return refused(error)
        return follow(target.row, watcher, terms)


def choice_of(target: Target, query: Mapping[str, str]) -> Choice:
    """Return what the selectors choose; raises BadRequest."""
    labels: LabelMatcher = parse_labels(query.get("labelSelector", ""))
    chosen: FieldMatcher = fields.matcher(target.row, query.get("fieldSelector", ""), target.name)
    return Choice(target, labels, chosen)


def _wish(target: Target, query: Mapping[str, str]) -> _Wish:
    match = query.get("resourceVersionMatch", "")
    _check_match(query, match)
    version = _version(query)
    token = Token.parse(query["continue"]) if query.get("continue") else None
    if token and version:
        raise BadRequest("specifying resource version is not allowed when using continue")
    exact = match == "Exact" or (not match and _implied(query, version))
    return _Wish(choice_of(target, query), _number(query, "limit"), token, version, exact)


def _implied(query: Mapping[str, str], version: int | None) -> bool:
    """A version with a limit and no match means exactly that version (API concepts, legacy rule)."""
    return bool(version) and query.get("limit") not in {None, "", "0"}


def _check_match(query: Mapping[str, str], match: str) -> None:
    """Raise Invalid for combinations that a list cannot have."""
    text = query.get("resourceVersion", "")
    why = ""
    if match not in MATCHES:
        why = f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan", ""'
    elif match and query.get("continue"):
        why = "Forbidden: resourceVersionMatch is forbidden when continue is provided"
    elif match and not text:
        why = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
    elif match == "Exact" and text == "0":
        why = 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
    elif "sendInitialEvents" in query:
        raise _list_invalid("sendInitialEvents", "Forbidden: sendInitialEvents is forbidden for list")
    if why:
        raise _list_invalid("resourceVersionMatch", why)


def _version(query: Mapping[str, str]) -> int | None:
    """Return the resourceVersion asked for; None when there is none. Raises BadRequest."""
    text = query.get("resourceVersion", "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise BadRequest(
            f'invalid resource version "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    if len(text) > 20 or int(text) >= 2**64:
        raise BadRequest(
            f'invalid resource version "{text}": strconv.ParseUint: parsing "{text}": value out of range'
        )
    return int(text)


def _check_initial(query: Mapping[str, str], *, initial: bool) -> None:
    match = query.get("resourceVersionMatch", "")
    if "sendInitialEvents" in query and match != "NotOlderThan":
        raise _list_invalid(
            "resourceVersionMatch",
            "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )
    if match and "sendInitialEvents" not in query:
        raise _list_invalid(
            "resourceVersionMatch",
            "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )
    if initial and not truthy(query.get("allowWatchBookmarks")):
        raise _list_invalid("sendInitialEvents", "Forbidden: sendInitialEvents requires allowWatchBookmarks")


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "")
    try:
        return max(int(text), 0) if text else 0
    except ValueError as error:
        raise BadRequest(f"{name}: {text!r} is not a number") from error


def _list_invalid(field: str, message: str) -> Invalid:
    return problems.invalid("ListOptions", "meta.k8s.io", "", [Cause("FieldValueInvalid", message, field)])


def too_large(version: int) -> Timeout:
    """Return the answer to a version that is yet to come."""
    cause = Cause("ResourceVersionTooLarge", "Too large resource version")
    return Timeout(f"Too large resource version: {version}", retry_after=1, causes=[cause])
