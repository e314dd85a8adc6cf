"""Kinds few people write by hand: what they may say, what of it may change, and their columns."""

import pytest

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
STORAGE, NETWORKING = "/apis/storage.k8s.io/v1", "/apis/networking.k8s.io/v1"
FLOWS = "/apis/flowcontrol.apiserver.k8s.io/v1"
PATHS = {
    "attachment": f"{STORAGE}/volumeattachments",
    "node": f"{STORAGE}/csinodes",
    "driver": f"{STORAGE}/csidrivers",
    "capacity": f"{STORAGE}/namespaces/default/csistoragecapacities",
    "address": f"{NETWORKING}/ipaddresses",
    "cidr": f"{NETWORKING}/servicecidrs",
    "level": f"{FLOWS}/prioritylevelconfigurations",
    "flow": f"{FLOWS}/flowschemas",
}
DRIVER = {
    "name": "csi.example.com",
    "nodeID": "n-1",
    "topologyKeys": ["example.com/zone"],
    "allocatable": {"count": 5},
}
QUEUE = {"type": "Queue", "queuing": {"queues": 16, "handSize": 4, "queueLengthLimit": 10}}
OBJECTS = {
    "attachment": {"metadata": {"name": "a"}, "spec": {
        "attacher": "csi.example.com", "nodeName": "n1", "source": {"persistentVolumeName": "pv-1"}}},
    "node": {"metadata": {"name": "n1"}, "spec": {"drivers": [DRIVER]}},
    "driver": {"metadata": {"name": "csi.example.com"}, "spec": {
        "attachRequired": True, "podInfoOnMount": True, "volumeLifecycleModes": ["Persistent", "Ephemeral"],
        "tokenRequests": [{"audience": "vault", "expirationSeconds": 600}]}},
    "capacity": {"metadata": {"name": "c"}, "storageClassName": "fast", "capacity": "10Gi", "maximumVolumeSize": "5Gi",
                 "nodeTopology": {"matchLabels": {"zone": "a"}}},
    "address": {"metadata": {"name": "192.0.2.7"}, "spec": {
        "parentRef": {"group": "gateway.example.com", "resource": "gateways", "namespace": "default", "name": "g"}}},
    "cidr": {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.50.0.0/24", "fd00:50::/112"]}},
    "level": {"metadata": {"name": "mine"}, "spec": {
        "type": "Limited", "limited": {"nominalConcurrencyShares": 3, "limitResponse": QUEUE}}},
    "flow": {"metadata": {"name": "mine"}, "spec": {
        "matchingPrecedence": 500, "distinguisherMethod": {"type": "ByUser"},
        "priorityLevelConfiguration": {"name": "mine"},
        "rules": [{"subjects": [{"kind": "Group", "group": {"name": "devs"}}],
                   "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]}]}},
}  # fmt: skip
COLUMNS = {
    "attachment": (["Name", "Attacher", "PV", "Node", "Attached", "Age"], ["a", "csi.example.com", "pv-1", "n1", False]),
    "node": (["Name", "Drivers", "Age"], ["n1", 1]),
    "driver": (
        ["Name", "AttachRequired", "PodInfoOnMount", "StorageCapacity", "TokenRequests", "RequiresRepublish", "Modes", "Age"],
        ["csi.example.com", True, True, False, "vault", False, "Persistent,Ephemeral"],
    ),
    "capacity": (["Name", "StorageClassName", "Capacity"], ["c", "fast", "10Gi"]),
    "address": (["Name", "ParentRef", "Age"], ["192.0.2.7", "gateway.example.com/gateways/default/g"]),
    "cidr": (["Name", "CIDRs", "Age"], ["more", "10.50.0.0/24,fd00:50::/112"]),
    "level": (
        ["Name", "Type", "NominalConcurrencyShares", "Queues", "HandSize", "QueueLengthLimit", "Age"],
        ["mine", "Limited", 3, 16, 4, 10],
    ),
    "flow": (
        ["Name", "PriorityLevel", "MatchingPrecedence", "DistinguisherMethod", "Age", "MissingPL"], ["mine", "mine", 500, "ByUser"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OBJECTS)
async def test_columns(api, kind):
    path, tree = PATHS[kind], OBJECTS[kind]
    await api.post(path, tree)
    table = await api.get(f"{path}/{tree['metadata']['name']}", accept=TABLE)
    names, cells = COLUMNS[kind]
    assert [column["name"] for column in table["columnDefinitions"]] == names
    assert table["rows"][0]["cells"][: len(cells)] == cells


@pytest.mark.parametrize("kind", OBJECTS)
async def test_they_are_kept_as_they_were_written(api, kind):
    path, tree = PATHS[kind], OBJECTS[kind]
    name = tree["metadata"]["name"]
    made = await api.post(path, tree)
    for field in tree.keys() - {"metadata"}:
        wanted, found = tree[field], made[field]
        assert covered(wanted, found), (wanted, found)
    patched = await api.patch(f"{path}/{name}", {"metadata": {"labels": {"a": "b"}}})
    assert {f: patched[f] for f in tree.keys() - {"metadata"}} == {
        f: made[f] for f in tree.keys() - {"metadata"}
    }
    await api.delete(f"{path}/{name}")


def covered(wanted, found):
    if isinstance(wanted, dict):
        return all(name in found and covered(value, found[name]) for name, value in wanted.items())
    if isinstance(wanted, list):
        return len(wanted) == len(found) and all(covered(w, f) for w, f in zip(wanted, found, strict=True))
    return wanted == found


@pytest.mark.parametrize(
    ("kind", "change", "field"),
    [
        ("attachment", {"spec": {"attacher": ""}}, "spec.attacher"),
        ("attachment", {"spec": {"nodeName": ""}}, "spec.nodeName"),
        ("attachment", {"spec": {"source": {"persistentVolumeName": None}}}, "spec.source"),
        ("node", {"spec": {"drivers": [DRIVER, DRIVER]}}, "spec.drivers[1].name"),
        ("node", {"spec": {"drivers": [DRIVER | {"nodeID": ""}]}}, "spec.drivers[0].nodeID"),
        ("node", {"spec": {"drivers": [DRIVER | {"allocatable": {"count": -1}}]}}, "spec.drivers[0].allocatable.count"),
        ("driver", {"spec": {"volumeLifecycleModes": ["Sometimes"]}}, "spec.volumeLifecycleModes[0]"),
        ("driver", {"spec": {"fsGroupPolicy": "Maybe"}}, "spec.fsGroupPolicy"),
        ("driver", {"spec": {"tokenRequests": [{"audience": "a", "expirationSeconds": 1}]}}, "spec.tokenRequests[0].expirationSeconds"),
        ("driver", {"metadata": {"name": "a_b"}}, "metadata.name"),
        ("capacity", {"storageClassName": ""}, "storageClassName"),
        ("capacity", {"capacity": "-1"}, "capacity"),
        ("address", {"metadata": {"name": "192.0.2.007"}}, "metadata.name"),
        ("address", {"metadata": {"name": "fd00:0:0::1"}}, "metadata.name"),
        ("address", {"spec": {"parentRef": {"name": ""}}}, "spec.parentRef.name"),
        ("cidr", {"spec": {"cidrs": ["10.50.0.1/24"]}}, "spec.cidrs[0]"),
        ("cidr", {"spec": {"cidrs": []}}, "spec.cidrs"),
        ("cidr", {"spec": {"cidrs": ["10.50.0.0/24", "10.60.0.0/24"]}}, "spec"),
        ("level", {"spec": {"type": "Exempt"}}, "spec.type"),
        ("level", {"spec": {"limited": {"limitResponse": {"queuing": {"handSize": 40}}}}}, "spec.limited.limitResponse.queuing.handSize"),
        ("level", {"spec": {"limited": {"limitResponse": {"type": "Reject"}}}}, "spec.limited.limitResponse.queuing"),
        ("flow", {"spec": {"matchingPrecedence": 10001}}, "spec.matchingPrecedence"),
        ("flow", {"spec": {"distinguisherMethod": {"type": "ByMood"}}}, "spec.distinguisherMethod"),
        ("flow", {"spec": {"priorityLevelConfiguration": {"name": ""}}}, "spec.priorityLevelConfiguration.name"),
        ("flow", {"spec": {"rules": [{"subjects": []}]}}, "spec.rules[0].subjects"),
    ],
)  # fmt: skip
async def test_what_they_may_not_say(api, kind, change, field):
    status = await api.post(PATHS[kind], merged(OBJECTS[kind], change), 422)
    assert field in {cause["field"] for cause in status["details"]["causes"]}, status


@pytest.mark.parametrize(
    ("kind", "change", "field"),
    [
        ("attachment", {"spec": {"attacher": "other.example.com"}}, "spec"),
        ("node", {"spec": {"drivers": [DRIVER | {"nodeID": "n-2"}]}}, "spec.drivers[0]"),
        ("driver", {"spec": {"attachRequired": False}}, "spec.attachRequired"),
        ("capacity", {"storageClassName": "slow"}, "storageClassName"),
        ("address", {"spec": {"parentRef": {"name": "other"}}}, "spec.parentRef"),
        ("cidr", {"spec": {"cidrs": ["10.60.0.0/24", "fd00:50::/112"]}}, "spec.cidrs"),
    ],
)
async def test_what_may_not_change(api, kind, change, field):
    path, tree = PATHS[kind], OBJECTS[kind]
    await api.post(path, tree)
    status = await api.patch(f"{path}/{tree['metadata']['name']}", change, 422)
    (cause, *_) = status["details"]["causes"]
    assert cause["field"] == field


async def test_what_may_change(api):
    for kind, change in (
        ("node", {"spec": {"drivers": [DRIVER | {"allocatable": {"count": 7}}]}}),
        ("driver", {"spec": {"requiresRepublish": True}}),
        ("capacity", {"capacity": "20Gi"}),
        ("level", {"spec": {"limited": {"nominalConcurrencyShares": 9}}}),
        ("flow", {"spec": {"matchingPrecedence": 600}}),
    ):
        await api.post(PATHS[kind], OBJECTS[kind])
        changed = await api.patch(f"{PATHS[kind]}/{OBJECTS[kind]['metadata']['name']}", change)
        assert covered(change, changed)


async def test_the_status_of_an_attachment(api):
    path = PATHS["attachment"]
    made = await api.post(path, OBJECTS["attachment"] | {"status": {"attached": True}})
    assert made["status"] == {"attached": False}
    status = {"attached": True, "attachmentMetadata": {"dev": "/dev/x"}}
    assert (await api.patch(f"{path}/a/status", {"status": status}))["status"] == status
    kept = await api.patch(f"{path}/a", {"status": {"attached": False}})
    assert kept["status"] == status


async def test_the_exempt_level_stays_as_it_is(api):
    path = PATHS["level"]
    await api.patch(f"{path}/exempt", {"spec": {"type": "Limited"}}, 422)
    assert (await api.get(f"{path}/exempt"))["spec"]["type"] == "Exempt"


def merged(tree, change):
    found = dict(tree)
    for name, value in change.items():
        if value is None:
            found.pop(name, None)
        elif isinstance(value, dict) and isinstance(found.get(name), dict):
            found[name] = merged(found[name], value)
        else:
            found[name] = value
    return found
