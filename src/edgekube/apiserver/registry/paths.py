"""Where objects are in the store: `/registry/<group>/<plural>/[<namespace>/]<name>`."""

from edgekube.api.resource import AnyResource, Key

ROOT = "/registry/"


def prefix_of(row: AnyResource) -> str:
    """Return the key prefix of a resource."""
    return f"{ROOT}{row.group or 'core'}/{row.plural}/"


def path_of(row: AnyResource, key: Key) -> str:
    """Return the store's key of an object."""
    return prefix_of(row) + (f"{key.namespace}/{key.name}" if row.namespaced else key.name)
