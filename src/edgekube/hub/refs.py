"""Which objects a pod refers to: what its node may see besides the pod (as Kubernetes' node authorizer has it)."""

from collections.abc import Iterator
from typing import NamedTuple

from edgekube.api.resource import AnyResource
from edgekube.api.types import core_v1
from edgekube.control.policies import SLICES
from edgekube.control.volumes import claims_of

CONFIG_MAPS, SECRETS, PODS = "v1/configmaps", "v1/secrets", "v1/pods"
CLAIMS, VOLUMES = "v1/persistentvolumeclaims", "v1/persistentvolumes"
POLICIES, NAMESPACES = "networking.k8s.io/v1/networkpolicies", "v1/namespaces"
OWN = frozenset({CONFIG_MAPS, SECRETS, PODS, CLAIMS, VOLUMES, POLICIES, NAMESPACES, SLICES})
"""Paths that go to single nodes; the others are for all."""


class Ref(NamedTuple):
    """An object by path, `v1/configmaps`, namespace and name."""

    path: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.path}/{self.namespace}/{self.name}"


def path_of(resource: AnyResource) -> str:
    """Return `v1/pods`, `discovery.k8s.io/v1/endpointslices`."""
    return f"{resource.api_version}/{resource.plural}"


def references(pod: core_v1.Pod) -> frozenset[Ref]:
    """Return the ConfigMaps and Secrets a pod names anywhere, and its claims."""
    namespace = pod.metadata.namespace
    claims = (Ref(CLAIMS, *key) for key, _ in claims_of(pod))
    return frozenset((*(Ref(path, namespace, name) for path, name in _names(pod.spec) if name), *claims))


def _names(spec: core_v1.PodSpec) -> Iterator[tuple[str, str]]:
    for secret in spec.image_pull_secrets:
        yield SECRETS, secret.name
    for group in (spec.init_containers, spec.containers, spec.ephemeral_containers):
        for container in group:
            yield from _of_env(container)
    for volume in spec.volumes:
        if volume.config_map is not None:
            yield CONFIG_MAPS, volume.config_map.name
        if volume.secret is not None:
            yield SECRETS, volume.secret.secret_name
        for source in volume.projected.sources if volume.projected is not None else ():
            if source.config_map is not None:
                yield CONFIG_MAPS, source.config_map.name
            if source.secret is not None:
                yield SECRETS, source.secret.name


def _of_env(container: core_v1.Container | core_v1.EphemeralContainer) -> Iterator[tuple[str, str]]:
    for variable in container.env:
        source = variable.value_from
        if source is not None and source.config_map_key_ref is not None:
            yield CONFIG_MAPS, source.config_map_key_ref.name
        if source is not None and source.secret_key_ref is not None:
            yield SECRETS, source.secret_key_ref.name
    for whole in container.env_from:
        if whole.config_map_ref is not None:
            yield CONFIG_MAPS, whole.config_map_ref.name
        if whole.secret_ref is not None:
            yield SECRETS, whole.secret_ref.name
