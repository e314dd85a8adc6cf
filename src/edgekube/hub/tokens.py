"""Upward: tokens for ServiceAccounts, only of pods that run on the node that asks (KEP-1205)."""

import msgspec

from edgekube.api.errors import Forbidden, StatusError
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import authentication_v1, core_v1
from edgekube.client.base import Unreachable
from edgekube.client.typed import Client
from edgekube.control.informer import Informers
from edgekube.transport.wire import TOKEN, Reply, Request, Token, TokenRequest


class TokenDesk:
    """Answers requests of nodes."""

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self._pods = informers.of(core.PODS)

    async def answer(self, node: str, request: Request) -> Reply:
        """Return the answer, also when it is a refusal."""
        try:
            if request.subject != TOKEN:
                return Reply(request.id, f"unknown subject {request.subject!r}", b"")
            wish = msgspec.msgpack.decode(request.body, type=TokenRequest)
            token = await self._token(node, wish)
        except (StatusError, Unreachable, msgspec.DecodeError) as error:
            return Reply(request.id, str(error), b"")
        return Reply(request.id, "", msgspec.msgpack.encode(token))

    async def _token(self, node: str, wish: TokenRequest) -> Token:
        pod = self._pods.get(Key(wish.namespace, wish.pod))
        if not may_ask(node, wish, pod):
            raise Forbidden(f"no pod {wish.namespace}/{wish.pod} of {wish.name} runs on node {node}")
        body = authentication_v1.TokenRequest(
            spec=authentication_v1.TokenRequestSpec(
                audiences=(wish.audience,) if wish.audience else (),
                expiration_seconds=wish.seconds or None,
                bound_object_ref=authentication_v1.BoundObjectReference(
                    api_version="v1", kind="Pod", name=wish.pod, uid=wish.uid
                ),
            )
        )
        key = Key(wish.namespace, wish.name)
        raw = await self._client.post(core.SERVICE_ACCOUNTS, key, "token", body)
        status = msgspec.json.decode(raw, type=authentication_v1.TokenRequest).status
        return Token(status.token, status.expiration_timestamp)


def may_ask(node: str, wish: TokenRequest, pod: core_v1.Pod | None) -> bool:
    """Tell whether `node` runs that very pod under that account."""
    return (
        pod is not None
        and pod.metadata.uid == wish.uid
        and pod.spec.node_name == node
        and (pod.spec.service_account_name or "default") == wish.name
    )
