"""
Roles as lines of text, because the default ones are many.

`get,list apps deployments,replicasets` is a rule for a group's resources (`core` is the group "", `a+b`
two groups), with a fourth word for resource names; `get /metrics` is one for paths. Pure.
"""

from edgekube.api.types.rbac_v1 import PolicyRule

CORE = "core"
SHORT = {
    "READ": "get,list,watch",
    "WRITE": "create,delete,deletecollection,patch,update",
    "ALL": "create,delete,deletecollection,get,list,patch,update,watch",
    "EVENTS": "create,patch,update",
}


def rules(*texts: str) -> tuple[PolicyRule, ...]:
    """Return the rules of the lines in `texts`; raises ValueError."""
    return tuple(_rule(line.split()) for text in texts for line in text.strip().splitlines())


def _rule(words: list[str]) -> PolicyRule:
    verbs = tuple(SHORT.get(words[0], words[0]).split(","))
    if len(words) == 2:
        return PolicyRule(verbs=verbs, non_resource_urls=tuple(words[1].split(",")))
    groups = tuple("" if group == CORE else group for group in words[1].split("+"))
    names = tuple(words[3].split(",")) if len(words) == 4 else ()
    return PolicyRule(
        verbs=verbs, api_groups=groups, resources=tuple(words[2].split(",")), resource_names=names
    )
