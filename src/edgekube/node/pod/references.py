"""Which ConfigMaps and Secrets of its namespace a pod uses, by name."""

from edgekube.api.types import core_v1
from edgekube.node.pod.spec import every_container


def config_maps_of(pod: core_v1.Pod) -> set[str]:
    """Return names of ConfigMaps that volumes and environments come from."""
    found = {volume.config_map.name for volume in pod.spec.volumes if volume.config_map}
    for source in _projections(pod):
        if source.config_map:
            found.add(source.config_map.name)
    for container in every_container(pod):
        found |= {source.config_map_ref.name for source in container.env_from if source.config_map_ref}
        for variable in container.env:
            if variable.value_from and variable.value_from.config_map_key_ref:
                found.add(variable.value_from.config_map_key_ref.name)
    return found


def secrets_of(pod: core_v1.Pod) -> set[str]:
    """Return names of Secrets that volumes, environments and image pulls use."""
    found = {volume.secret.secret_name for volume in pod.spec.volumes if volume.secret}
    found |= {reference.name for reference in pod.spec.image_pull_secrets}
    for source in _projections(pod):
        if source.secret:
            found.add(source.secret.name)
    for container in every_container(pod):
        found |= {source.secret_ref.name for source in container.env_from if source.secret_ref}
        for variable in container.env:
            if variable.value_from and variable.value_from.secret_key_ref:
                found.add(variable.value_from.secret_key_ref.name)
    return found


def _projections(pod: core_v1.Pod) -> list[core_v1.VolumeProjection]:
    return [source for volume in pod.spec.volumes if volume.projected for source in volume.projected.sources]
