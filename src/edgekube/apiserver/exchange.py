"""One request on its way to a verb or subresource, and the parts of the server that serve it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from edgekube.api.errors import BadRequest
from edgekube.api.scheme import Scheme
from edgekube.apiserver.admission.base import Attributes
from edgekube.apiserver.authn.accounts import ServiceAccountTokens
from edgekube.apiserver.authn.base import Authentication
from edgekube.apiserver.authz import Authorization
from edgekube.apiserver.codec import Codec, check_kind, decode
from edgekube.apiserver.negotiate import Media
from edgekube.apiserver.rbac.authorizer import Rbac
from edgekube.apiserver.reading import Reading
from edgekube.apiserver.registry import problems
from edgekube.apiserver.registry.registry import Action, Outcome, Registry
from edgekube.apiserver.request import Request, Response, Tree
from edgekube.apiserver.route import Target
from edgekube.apiserver.versions import Versions, View

LONGEST_MANAGER = 128
DRY_RUN = ("", "All")
WHOLE = frozenset({"", "status"})
"""Subresources that show the object itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything a verb may need."""

    scheme: Scheme
    codec: Codec
    registry: Registry
    reading: Reading
    authentication: Authentication
    authorization: Authorization
    rbac: Rbac
    versions: Versions = field(default_factory=Versions)
    tokens: ServiceAccountTokens | None = None


@dataclass(slots=True)
class Exchange:
    """A request whose target and verb are known and allowed."""

    parts: Parts
    request: Request
    verb: str
    target: Target
    media: Media
    warnings: list[str] = field(default_factory=list)
    view: View | None = None
    """How the version asked for is served, when it is not the one that is stored."""
    sent: Tree | None = None
    """The body as it is stored, once it was converted."""

    @property
    def query(self) -> Mapping[str, str]:
        """The query parameters."""
        return self.request.query

    def _manager(self) -> str:
        """Return who owns what this request writes: what it says, or else the program's name."""
        named = self.query.get("fieldManager", "")
        if len(named.encode()) > LONGEST_MANAGER or not named.isprintable():
            raise BadRequest(
                f"fieldManager: Invalid value: {named!r}: must be printable, and at most 128 bytes long"
            )
        agent = self.request.headers.get("user-agent", "").partition("/")[0]
        return named or agent[:LONGEST_MANAGER] or "unknown"

    def tree(self) -> Tree:
        """Decode the body; raises BadRequest or UnsupportedMediaType."""
        if self.sent is not None:
            return self.sent
        return decode(self.request.body, self.request.headers.get("content-type", ""))

    def action(self) -> Action:
        """Return the write that is asked for."""
        dry_run = self.query.get("dryRun", "")
        if dry_run not in DRY_RUN:
            raise BadRequest(f'dryRun: Unsupported value: "{dry_run}": supported values: "All"')
        return Action(
            target=self.target,
            user=self.request.user,
            dry_run=bool(dry_run),
            validation=self.query.get("fieldValidation", ""),
            manager=self._manager(),
            version=self.view.row.api_version if self.view and self.target.subresource in WHOLE else "",
            warnings=self.warnings,
            notes=self.request.notes,
        )

    async def review(
        self, asked: Tree, kind: tuple[str, str], *, verb: str = "create", old: Tree | None = None,
        target: Target | None = None,
    ) -> Tree:  # fmt: skip
        """Show webhooks and policies what is asked of a subresource; return what they made of it."""
        attributes = Attributes(
            verb=verb, target=target or self.target, obj=asked, old=old, user=self.request.user,
            dry_run=bool(self.query.get("dryRun")), kind=kind,
            warnings=self.warnings, notes=self.request.notes,
        )  # fmt: skip
        await self.parts.registry.admission.review(attributes)
        return attributes.obj


def checked(exchange: Exchange, tree: Tree, api_version: str, kind: str) -> Tree:
    """Return a body that must be of `kind`, cleaned; raises BadRequest or Invalid."""
    check_kind(tree, api_version, kind)
    validation = exchange.query.get("fieldValidation", "")
    found = exchange.parts.codec.check(tree, api_version, kind, validation, exchange.warnings)
    if found.missing:
        group = api_version.rpartition("/")[0]
        raise problems.invalid(kind, group, exchange.target.name, found.missing)
    return found.tree


Serve = Callable[[Exchange], Awaitable[Response]]


def answer(outcome: Outcome) -> Response:
    """Return the object a write left."""
    return Response(code=201 if outcome.created else 200, body=outcome.body)


def success(exchange: Exchange, *, code: int = 200, uid: str = "") -> Response:
    """Return a `Status` that says Success."""
    target = exchange.target
    details = {"name": target.name, "group": target.row.group, "kind": target.row.plural, "uid": uid}
    status: Tree = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if code == 200:
        status["details"] = {name: value for name, value in details.items() if value}
    else:
        status["code"] = code
    return Response(code=code, body=msgspec.json.encode(status))
