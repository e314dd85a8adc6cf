"""The loop over certificate requests: approve, sign, and in the end delete."""

import asyncio
import base64
from collections.abc import Sequence

from edgekube.api.kinds.certificates_v1 import CERTIFICATE_SIGNING_REQUESTS
from edgekube.api.resource import Key, Resource, Scope, key_of
from edgekube.api.types import authorization_v1 as authorization
from edgekube.api.types import certificates_v1 as certificates
from edgekube.control.clock import seconds, stamp
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.controllers.certificates import signers
from edgekube.controllers.context import Context

GROUP = "certificates.k8s.io"
REVIEWS = Resource(
    "authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews",
    authorization.SubjectAccessReview, scope=Scope.CLUSTER,
)  # fmt: skip

Request = certificates.CertificateSigningRequest


class CertificateRequests:
    """Keys are requests."""

    def __init__(self, context: Context) -> None:
        self.requests = context.informers.of(CERTIFICATE_SIGNING_REQUESTS)
        self._client = context.client
        self._writer = Writer(context.client, self.requests)
        self._clock = context.clock
        self._sign = context.options.sign

    async def reconcile(self, key: Key) -> float | None:
        """Take one request a step on; return when it is to be looked at again."""
        request = self.requests.get(key)
        if request is None:
            return None
        state = signers.state(request.status)
        begun = seconds(signers.since(request))
        due = (begun or self._clock()) + signers.KEPT[state]
        if due <= self._clock():
            await self._writer.delete(request)
            return None
        if state == "Pending":
            await self._approve(request)
        elif state == "Approved":
            await self._issue(request)
        return due - self._clock()

    async def _approve(self, request: Request) -> None:
        """Approve a kubelet's request for its own certificate, when it has the right to that."""
        if request.spec.signer_name != signers.KUBELET_CLIENT:
            return
        asked = await asyncio.to_thread(_parsed, request.spec.request)
        for right, what in signers.recognized(request, asked) if asked else ():
            if await self._may(request, right):
                message = f"Auto approving {what} after SubjectAccessReview."
                await self._condition(request, "Approved", "AutoApproved", message, part="approval")
                return

    async def _may(self, request: Request, right: str) -> bool:
        spec = request.spec
        attributes = authorization.ResourceAttributes(
            group=GROUP, resource="certificatesigningrequests", verb="create", subresource=right
        )
        wish = authorization.SubjectAccessReviewSpec(
            user=spec.username,
            uid=spec.uid,
            groups=spec.groups,
            extra=spec.extra,
            resource_attributes=attributes,
        )
        review = await self._client.create(REVIEWS, authorization.SubjectAccessReview(spec=wish))
        return bool(review.status and review.status.allowed)

    async def _issue(self, request: Request) -> None:
        """Sign, or say why not."""
        rule = signers.RULES.get(request.spec.signer_name)
        if rule is None or self._sign is None:
            return
        asked = await asyncio.to_thread(_parsed, request.spec.request)
        wrong = rule(asked, frozenset(request.spec.usages)) if asked else "not a PEM certificate request"
        if wrong:
            await self._condition(request, "Failed", "SignerValidationFailure", wrong, part="status")
            return
        sign = self._sign
        made = await asyncio.to_thread(
            sign, request.spec.request, request.spec.usages, signers.lifetime(request)
        )
        patch = {
            "metadata": {"resourceVersion": request.metadata.resource_version},
            "status": {"certificate": base64.b64encode(made).decode()},
        }
        await self._writer.patch(key_of(request), patch, subresource="status")

    async def _condition(self, request: Request, kind: str, reason: str, message: str, *, part: str) -> None:
        now = stamp(self._clock())
        new = {"type": kind, "status": "True", "reason": reason, "message": message, "lastUpdateTime": now}
        conditions = [*_trees(request.status.conditions), new]
        patch = {
            "metadata": {"resourceVersion": request.metadata.resource_version},
            "status": {"conditions": conditions},
        }
        await self._writer.patch(key_of(request), patch, subresource=part)


def _parsed(text: str) -> signers.Asked | None:
    """Read a request; in a thread, for it loads a large library once."""
    from edgekube.lib import x509  # noqa: PLC0415

    return x509.parse_request(text)


def _trees(conditions: Sequence[certificates.CertificateSigningRequestCondition]) -> list[dict[str, str]]:
    names = {
        "type": "type", "status": "status", "reason": "reason", "message": "message",
        "last_update_time": "lastUpdateTime", "last_transition_time": "lastTransitionTime",
    }  # fmt: skip
    return [
        {name: value for field, name in names.items() if (value := getattr(each, field))}
        for each in conditions
    ]


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = CertificateRequests(context)
    controller = Controller("certificate-requests", logic)
    controller.watch(logic.requests, lambda request: [key_of(request)])
    return controller
