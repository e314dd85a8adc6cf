"""The provider's configuration: the ConfigMap kube-system/cloud-config, followed while it changes."""

from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.cloud.base import BadCloudConfig, Cloud
from edgekube.controllers.context import Context

KEY = Key("kube-system", "cloud-config")


class CloudConfig:
    """Hands the provider each new version once."""

    def __init__(self, context: Context, cloud: Cloud) -> None:
        self.maps = context.informers.of(core.CONFIG_MAPS, fields=f"metadata.name={KEY.name}")
        self._cloud = cloud
        self._events = context.events.recorder("cloud-controller-manager")
        self._seen = ""

    def apply(self) -> None:
        """Configure the provider if there is something new; what it cannot read it is told about in an Event."""
        found = self.maps.get(KEY)
        version = found.metadata.resource_version if found is not None else ""
        if version == self._seen:
            return
        self._seen = version
        try:
            self._cloud.configure(found.data if found is not None else {})
        except BadCloudConfig as error:
            assert found is not None
            self._events.warning(found, "BadCloudConfig", str(error))
