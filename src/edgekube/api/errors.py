"""Kubernetes API errors: each one is a `Status` a client can read (API conventions, "Response Status Kind")."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from edgekube.lib.errors import EdgekubeError


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong: `reason` is a CauseType such as FieldValueInvalid, `field` a path."""

    reason: str
    message: str
    field: str = ""

    def tree(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            k: v for k, v in (("reason", self.reason), ("message", self.message), ("field", self.field)) if v
        }


class StatusError(EdgekubeError):
    """An error with an HTTP code and a machine-readable reason."""

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"
    continue_: str = ""
    """Where a list that expired can be taken up again, inconsistently."""

    def __init__(
        self,
        message: str,
        *,
        group: str = "",
        kind: str = "",
        name: str = "",
        uid: str = "",
        causes: Sequence[Cause] = (),
        retry_after: int = 0,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.group, self.kind, self.name, self.uid = group, kind, name, uid
        self.causes = tuple(causes)
        self.retry_after = retry_after

    def tree(self) -> dict[str, Any]:
        """Return the `v1 Status` object as a JSON tree; `details.kind` is the plural resource."""
        details: dict[str, Any] = {
            key: value
            for key, value in (
                ("name", self.name),
                ("group", self.group),
                ("kind", self.kind),
                ("uid", self.uid),
                ("causes", [cause.tree() for cause in self.causes]),
                ("retryAfterSeconds", self.retry_after),
            )
            if value
        }
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.continue_} if self.continue_ else {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if details:
            status["details"] = details
        return status


class BadRequest(StatusError):
    """The request itself cannot be understood."""

    code, reason = 400, "BadRequest"


class Unauthorized(StatusError):
    """Nobody we know."""

    code, reason = 401, "Unauthorized"


class Forbidden(StatusError):
    """Somebody we know who may not do this."""

    code, reason = 403, "Forbidden"


class NotFound(StatusError):
    """No such object or resource."""

    code, reason = 404, "NotFound"


class MethodNotAllowed(StatusError):
    """The resource does not do this verb."""

    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(StatusError):
    """No representation the client accepts."""

    code, reason = 406, "NotAcceptable"


class AlreadyExists(StatusError):
    """The name is taken."""

    code, reason = 409, "AlreadyExists"


class Conflict(StatusError):
    """Somebody else changed the object first, or a precondition failed."""

    code, reason = 409, "Conflict"


class Expired(StatusError):
    """The revision asked for is compacted; list again."""

    code, reason = 410, "Expired"


class RequestEntityTooLarge(StatusError):
    """The body is over the limit."""

    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(StatusError):
    """The body's content type is not understood here."""

    code, reason = 415, "UnsupportedMediaType"


class Invalid(StatusError):
    """The object breaks rules; `causes` name the fields."""

    code, reason = 422, "Invalid"


class TooManyRequests(StatusError):
    """Come back after `retry_after` seconds."""

    code, reason = 429, "TooManyRequests"


class InternalError(StatusError):
    """Our own fault."""

    code, reason = 500, "InternalError"


class ServiceUnavailable(StatusError):
    """A part the request needs is away, e.g. the node's agent."""

    code, reason = 503, "ServiceUnavailable"


class Timeout(StatusError):
    """Not done in the time given."""

    code, reason = 504, "Timeout"


BY_REASON: dict[str, type[StatusError]] = {
    cls.reason: cls
    for cls in (
        BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, NotAcceptable, AlreadyExists, Conflict,
        Expired, RequestEntityTooLarge, UnsupportedMediaType, Invalid, TooManyRequests, InternalError,
        ServiceUnavailable, Timeout,
    )
}  # fmt: skip


def from_tree(status: dict[str, Any]) -> StatusError:
    """Return the error a server's `Status` object stands for."""
    details = status.get("details") or {}
    cls = BY_REASON.get(status.get("reason", ""), InternalError)
    return cls(
        status.get("message", ""),
        group=details.get("group", ""),
        kind=details.get("kind", ""),
        name=details.get("name", ""),
        uid=details.get("uid", ""),
        causes=[
            Cause(c.get("reason", ""), c.get("message", ""), c.get("field", ""))
            for c in details.get("causes", ())
        ],
        retry_after=details.get("retryAfterSeconds", 0),
    )
