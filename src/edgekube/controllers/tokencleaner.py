"""Deletes bootstrap tokens that have expired (pkg/controller/bootstrap/tokencleaner.go in Kubernetes)."""

import base64
import binascii

from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1
from edgekube.control.clock import seconds
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context

NAMESPACE, TYPE = "kube-system", "bootstrap.kubernetes.io/token"


def expires(secret: core_v1.Secret) -> float | None:
    """Return when (Unix seconds) a token ends: None if never, 0 if nobody can read when."""
    text = secret.data.get("expiration", "")
    if not text:
        return None
    try:
        return seconds(base64.b64decode(text).decode())
    except (binascii.Error, ValueError):
        return 0.0


class TokenCleaner:
    """Keys are Secrets."""

    def __init__(self, context: Context) -> None:
        # Only these: all Secrets of a cluster are much to remember.
        self.secrets = context.informers.of(core.SECRETS, fields=f"type={TYPE}")
        self._writer = Writer(context.client, self.secrets)
        self._clock = context.clock

    async def reconcile(self, key: Key) -> float | None:
        """Wait for one token's end, then delete it."""
        secret = self.secrets.get(key)
        due = None if secret is None or key.namespace != NAMESPACE else expires(secret)
        if secret is None or due is None:
            return None
        if due > self._clock():
            return due - self._clock()
        await self._writer.delete(secret)
        return None


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = TokenCleaner(context)
    controller = Controller("token-cleaner", logic)
    controller.watch(logic.secrets, lambda secret: [key_of(secret)])
    return controller
