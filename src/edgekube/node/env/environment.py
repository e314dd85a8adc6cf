"""A container's environment: envFrom, env, valueFrom, services (kubelet's makeEnvironmentVariables). Pure."""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.lib.errors import EdgekubeError
from edgekube.node.env.downward import Place, field_value, resource_value
from edgekube.node.env.envfile import BadEnvFile, parse
from edgekube.node.env.expand import expand


class ConfigError(EdgekubeError):
    """The container refers to what is not there: CreateContainerConfigError."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where values come from: live copies, and where the pod is."""

    config_map: Callable[[Key], core_v1.ConfigMap | None]
    secret: Callable[[Key], core_v1.Secret | None]
    services: Mapping[str, str]
    """What service_environment returned."""
    place: Place
    file: Callable[[str, str], str | None] = lambda _volume, _path: None
    """(volume, path in it) → the text of a file; None when it is not there."""


def environment(pod: core_v1.Pod, container: core_v1.Container, sources: Sources) -> dict[str, str]:
    """Return the variables; raises ConfigError, UnknownField."""
    found: dict[str, str] = {}
    for source in container.env_from:
        found.update(_env_from(pod, source, sources))
    for variable in container.env:
        if variable.value_from is None:
            found[variable.name] = expand(variable.value, {**sources.services, **found})
            continue
        value = _value_from(pod, container, variable.value_from, sources)
        if value is not None:
            found[variable.name] = value
    return {**sources.services, **found}


def config_map_data(config_map: core_v1.ConfigMap) -> dict[str, bytes]:
    """Return a ConfigMap's entries as bytes."""
    text = {key: value.encode() for key, value in config_map.data.items()}
    return text | {key: decode(value) for key, value in config_map.binary_data.items()}


def secret_data(secret: core_v1.Secret) -> dict[str, bytes]:
    """Return a Secret's entries as bytes."""
    return {key: decode(value) for key, value in secret.data.items()}


def decode(text: str) -> bytes:
    """Decode base64; what is none counts as empty."""
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""


def _env_from(pod: core_v1.Pod, source: core_v1.EnvFromSource, sources: Sources) -> dict[str, str]:
    space = pod.metadata.namespace
    found: dict[str, str] = {}
    if source.config_map_ref is not None:
        reference = source.config_map_ref
        config_map = sources.config_map(Key(space, reference.name))
        if config_map is not None:
            found |= config_map.data
        elif not reference.optional:
            raise ConfigError(f'configmap "{reference.name}" not found')
    if source.secret_ref is not None:
        name, optional = source.secret_ref.name, source.secret_ref.optional
        secret = sources.secret(Key(space, name))
        if secret is not None:
            found |= {key: value.decode(errors="replace") for key, value in secret_data(secret).items()}
        elif not optional:
            raise ConfigError(f'secret "{name}" not found')
    return {source.prefix + key: value for key, value in found.items() if "=" not in key}


def _value_from(
    pod: core_v1.Pod, container: core_v1.Container, source: core_v1.EnvVarSource, sources: Sources
) -> str | None:
    if source.field_ref is not None:
        return field_value(pod, source.field_ref.field_path, sources.place)
    if source.resource_field_ref is not None:
        return resource_value(pod, source.resource_field_ref, sources.place, container=container.name)
    if source.config_map_key_ref is not None:
        return _config_map_key(pod, source.config_map_key_ref, sources)
    if source.secret_key_ref is not None:
        return _secret_key(pod, source.secret_key_ref, sources)
    if source.file_key_ref is not None:
        return _file_key(source.file_key_ref, sources)
    raise ConfigError("invalid valueFrom: no known source")


def _file_key(ref: core_v1.FileKeySelector, sources: Sources) -> str | None:
    text = sources.file(ref.volume_name, ref.path)
    if text is None:
        if ref.optional:
            return None
        raise ConfigError(f'couldn\'t find file "{ref.path}" in volume "{ref.volume_name}"')
    try:
        value = parse(text).get(ref.key)
    except BadEnvFile as error:
        raise ConfigError(
            f'couldn\'t parse file "{ref.path}" in volume "{ref.volume_name}": {error}'
        ) from error
    if value is None and not ref.optional:
        raise ConfigError(f'environment variable key "{ref.key}" not found in file "{ref.path}"')
    return value


def _config_map_key(pod: core_v1.Pod, ref: core_v1.ConfigMapKeySelector, sources: Sources) -> str | None:
    config_map = sources.config_map(Key(pod.metadata.namespace, ref.name))
    if config_map is None:
        if ref.optional:
            return None
        raise ConfigError(f'configmap "{ref.name}" not found')
    value = config_map.data.get(ref.key)
    if value is None and not ref.optional:
        raise ConfigError(f"couldn't find key {ref.key} in ConfigMap {pod.metadata.namespace}/{ref.name}")
    return value


def _secret_key(pod: core_v1.Pod, ref: core_v1.SecretKeySelector, sources: Sources) -> str | None:
    secret = sources.secret(Key(pod.metadata.namespace, ref.name))
    if secret is None:
        if ref.optional:
            return None
        raise ConfigError(f'secret "{ref.name}" not found')
    value = secret_data(secret).get(ref.key)
    if value is None and not ref.optional:
        raise ConfigError(f"couldn't find key {ref.key} in Secret {pod.metadata.namespace}/{ref.name}")
    return None if value is None else value.decode(errors="replace")
