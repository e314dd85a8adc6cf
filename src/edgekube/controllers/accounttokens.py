"""
Tokens kept in Secrets of type kubernetes.io/service-account-token (pkg/controller/serviceaccount/tokens_controller.go).

Such a token lives as long as its Secret: it is bound to it, and has practically no end.
"""

import base64

import msgspec

from edgekube.api.errors import NotFound
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context

TYPE = "kubernetes.io/service-account-token"
NAME, UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
SECONDS = 1 << 32
"""The longest life that a token can be asked for."""


class AccountTokens:
    """Keys are Secrets."""

    def __init__(self, context: Context) -> None:
        self.secrets = context.informers.of(core.SECRETS, fields=f"type={TYPE}")
        self.accounts = context.informers.of(core.SERVICE_ACCOUNTS)
        self._client = context.client
        self._writer = Writer(context.client, self.secrets)
        self._root_ca = context.options.root_ca

    async def reconcile(self, key: Key) -> None:
        """Fill one Secret, or delete it when its account is gone."""
        secret = self.secrets.get(key)
        if secret is None or secret.metadata.deletion_timestamp or secret.type != TYPE:
            return
        account = await self._account(secret)
        if account is None or _stranger(secret, account):
            await self._writer.delete(secret)
            return
        missing = await self._missing(secret, account)
        if missing is not None:
            await self._writer.patch(key, missing)

    async def _account(self, secret: core_v1.Secret) -> core_v1.ServiceAccount | None:
        """Return the account as the API has it: a deletion must not be for a cache that is behind."""
        key = Key(secret.metadata.namespace, secret.metadata.annotations.get(NAME, ""))
        found = self.accounts.get(key)
        if found is not None and not _stranger(secret, found):
            return found
        if not key.name:
            return None
        try:
            found = await self._client.get(core.SERVICE_ACCOUNTS, key)
        except NotFound:
            return None
        return found

    async def _missing(self, secret: core_v1.Secret, account: core_v1.ServiceAccount) -> object | None:
        """Return the patch that makes a Secret complete; None when it is."""
        wished = {"namespace": secret.metadata.namespace}
        if self._root_ca:
            wished["ca.crt"] = self._root_ca
        data = {
            name: text for name, value in wished.items() if secret.data.get(name) != (text := _coded(value))
        }
        if not secret.data.get("token"):
            data["token"] = _coded(await self._token(secret, account))
        named = secret.metadata.annotations.get(UID) == account.metadata.uid
        if not data and named:
            return None
        annotations = {UID: account.metadata.uid}
        meta = {"resourceVersion": secret.metadata.resource_version, "annotations": annotations}
        return {"metadata": meta, "data": data}

    async def _token(self, secret: core_v1.Secret, account: core_v1.ServiceAccount) -> str:
        meta = secret.metadata
        reference = {"kind": "Secret", "apiVersion": "v1", "name": meta.name, "uid": meta.uid}
        wish = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": SECONDS, "boundObjectRef": reference},
        }
        body = await self._client.post(core.SERVICE_ACCOUNTS, key_of(account), "token", wish)
        return str(msgspec.json.decode(body)["status"]["token"])

    def of_account(self, account: core_v1.ServiceAccount) -> list[Key]:
        """Return the Secrets of an account."""
        meta = account.metadata
        return [
            key_of(secret)
            for secret in self.secrets
            if secret.metadata.namespace == meta.namespace
            and secret.metadata.annotations.get(NAME) == meta.name
        ]


def _stranger(secret: core_v1.Secret, account: core_v1.ServiceAccount) -> bool:
    """Whether the Secret was made for an earlier account of that name."""
    return secret.metadata.annotations.get(UID, account.metadata.uid) != account.metadata.uid


def _coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = AccountTokens(context)
    controller = Controller("service-account-tokens", logic)
    controller.watch(logic.secrets, lambda secret: [key_of(secret)])
    controller.watch(logic.accounts, logic.of_account)
    return controller
