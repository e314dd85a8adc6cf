"""What every Namespace is given: the `default` ServiceAccount and the API server's CA."""

from collections.abc import Iterable

import msgspec

from edgekube.api.errors import AlreadyExists
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.control.reconcile import Controller
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context

DEFAULT = "default"
ROOT_CA = "kube-root-ca.crt"
_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


def lives(namespace: core_v1.Namespace | None) -> bool:
    """Whether objects may be made in a Namespace."""
    return namespace is not None and not namespace.metadata.deletion_timestamp


class DefaultServiceAccounts:
    """Make the `default` ServiceAccount in each Namespace. Keys are Namespaces."""

    def __init__(self, context: Context) -> None:
        self.namespaces = context.informers.of(core.NAMESPACES)
        self.accounts = context.informers.of(core.SERVICE_ACCOUNTS)
        self._writer = Writer(context.client, self.accounts)

    async def reconcile(self, key: Key) -> float | None:
        """Make it when it is missing."""
        if not lives(self.namespaces.get(key)) or self.accounts.get(Key(key.name, DEFAULT)) is not None:
            return None
        try:
            meta = meta_v1.ObjectMeta(name=DEFAULT, namespace=key.name)
            await self._writer.create(core_v1.ServiceAccount(metadata=meta))
        except AlreadyExists:
            await self._writer.live(Key(key.name, DEFAULT))
        return None


class RootCa:
    """Keep the CA in a ConfigMap of each Namespace. Keys are Namespaces."""

    def __init__(self, context: Context) -> None:
        self.namespaces = context.informers.of(core.NAMESPACES)
        # Only these: all ConfigMaps of a cluster are much to remember.
        self.maps = context.informers.of(core.CONFIG_MAPS, fields=f"metadata.name={ROOT_CA}")
        self._writer = Writer(context.client, self.maps)
        self._data = {"ca.crt": context.options.root_ca}

    async def reconcile(self, key: Key) -> float | None:
        """Make it, or mend it when somebody changed it."""
        if not self._data["ca.crt"] or not lives(self.namespaces.get(key)):
            return None
        existing = self.maps.get(Key(key.name, ROOT_CA))
        if existing is None:
            annotations = {"kubernetes.io/description": _DESCRIPTION}
            meta = meta_v1.ObjectMeta(name=ROOT_CA, namespace=key.name, annotations=annotations)
            try:
                await self._writer.create(core_v1.ConfigMap(metadata=meta, data=self._data))
            except AlreadyExists:
                await self._writer.live(Key(key.name, ROOT_CA))
        elif existing.data != self._data:
            await self._writer.update(msgspec.structs.replace(existing, data=self._data))
        return None


def _itself(namespace: core_v1.Namespace) -> Iterable[Key]:
    return [Key("", namespace.metadata.name)]


def build_service_accounts(context: Context) -> Controller[Key]:
    """Return the loop of DefaultServiceAccounts."""
    logic = DefaultServiceAccounts(context)
    controller = Controller("serviceaccount", logic)
    controller.watch(logic.namespaces, _itself)
    controller.watch(
        logic.accounts, lambda a: [Key("", a.metadata.namespace)] if a.metadata.name == DEFAULT else []
    )
    return controller


def build_root_ca(context: Context) -> Controller[Key]:
    """Return the loop of RootCa."""
    logic = RootCa(context)
    controller = Controller("root-ca", logic)
    controller.watch(logic.namespaces, _itself)
    controller.watch(logic.maps, lambda found: [Key("", found.metadata.namespace)])
    return controller
