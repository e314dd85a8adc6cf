"""What is particular about writing parts of pods: resizing and visitors (pkg/registry/core/pod strategies)."""

from edgekube.api.resource import AnyResource
from edgekube.apiserver.request import Tree

RESIZED = ("resources", "resizePolicy")
LISTS = ("containers", "initContainers")


def prepare_resize(_row: AnyResource, new: Tree, old: Tree) -> None:
    """Keep of a write to `/resize` what containers ask for (KEP-1287); other containers are left for validation to see."""
    wished = new.get("spec") or {}
    spec = dict(old["spec"])
    if "resources" in wished:
        spec["resources"] = wished["resources"]
    for field in LISTS:
        before, after = old["spec"].get(field) or [], wished.get(field) or []
        if [one.get("name") for one in before] != [one.get("name") for one in after]:
            spec[field] = after
        elif before:
            spec[field] = [_resized(one, wish) for one, wish in zip(before, after, strict=True)]
    _take(new, old, spec)


def prepare_ephemeral(_row: AnyResource, new: Tree, old: Tree) -> None:
    """Keep of a write to `/ephemeralcontainers` these containers."""
    spec = dict(old["spec"])
    if visitors := (new.get("spec") or {}).get("ephemeralContainers"):
        spec["ephemeralContainers"] = visitors
    else:
        spec.pop("ephemeralContainers", None)
    _take(new, old, spec)


def _resized(container: Tree, wish: Tree) -> Tree:
    kept = {name: value for name, value in container.items() if name not in RESIZED}
    return kept | {name: wish[name] for name in RESIZED if name in wish}


def _take(new: Tree, old: Tree, spec: Tree) -> None:
    """Make `new` the old pod with another spec; of metadata only the field managers are the writer's."""
    fields = dict(old["metadata"])
    if "managedFields" in new["metadata"]:
        fields["managedFields"] = new["metadata"]["managedFields"]
    if spec != old["spec"]:
        fields["generation"] = fields.get("generation", 0) + 1
    new.clear()
    new.update({**old, "metadata": fields, "spec": spec})
