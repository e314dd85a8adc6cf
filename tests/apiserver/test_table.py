"""Tables and partial objects, and the cells people read."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from edgekube.api.kinds.core_v1 import EVENTS, NODES, PERSISTENT_VOLUMES, PODS, SERVICES
from edgekube.apiserver.printers import PRINTERS, printer_of
from edgekube.apiserver.printers.base import human
from edgekube.apiserver.registry.meta import timestamp

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MAPS = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL = "application/json;as=PartialObjectMetadata{};v=v1;g=meta.k8s.io"


def ago(**delta):
    return timestamp(NOW - timedelta(**delta))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"), (0, "0s"), (119, "119s"), (120, "2m"), (150, "2m30s"), (600, "10m"), (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"), (9 * 3600, "9h"), (49 * 3600, "2d1h"), (9 * 86400, "9d"), (800 * 86400, "2y70d"),
        (9 * 365 * 86400, "9y"),
    ],
)  # fmt: skip
def test_ages(seconds, text):
    assert human(seconds) == text


def pod(*states, phase="Running", inits=(), meta=None, **status):
    containers = [{"name": f"c{n}"} for n in range(len(states))]
    found = [{"name": f"c{n}", "restartCount": 0, **state} for n, state in enumerate(states)]
    return {
        "metadata": {"name": "p", "creationTimestamp": ago(minutes=5), **(meta or {})},
        "spec": {"containers": containers, "initContainers": [{"name": f"i{n}"} for n in range(len(inits))]},
        "status": {
            "phase": phase, "containerStatuses": found,
            "initContainerStatuses": [{"name": f"i{n}", "restartCount": 0, **state} for n, state in enumerate(inits)],
            **status,
        },
    }  # fmt: skip


RUNNING = {"ready": True, "state": {"running": {}}}
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
DONE = {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}


@pytest.mark.parametrize(
    ("tree", "ready", "reason", "restarts"),
    [
        (pod(RUNNING, **READY), "1/1", "Running", "0"),
        (pod({"state": {"waiting": {"reason": "ContainerCreating"}}}, phase="Pending"), "0/1", "ContainerCreating", "0"),
        (
            pod({
                "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"finishedAt": ago(minutes=5)}},
            }),
            "0/1", "CrashLoopBackOff", "3 (5m ago)",
        ),
        (pod({"state": {}}, inits=[{"state": {"running": {}}}, {}], phase="Pending"), "0/1", "Init:0/2", "0"),
        (
            pod({}, inits=[{"state": {"terminated": {"exitCode": 2}}}], phase="Pending"),
            "0/1", "Init:ExitCode:2", "0",
        ),
        (pod({}, inits=[{"state": {"waiting": {"reason": "ErrImagePull"}}}]), "0/1", "Init:ErrImagePull", "0"),
        (pod(DONE, phase="Succeeded"), "0/1", "Completed", "0"),
        (pod(DONE, RUNNING), "1/2", "NotReady", "0"),
        (pod(DONE, RUNNING, **READY), "1/2", "Running", "0"),
        (pod({"state": {"terminated": {"exitCode": 1, "reason": "Error"}}}, phase="Failed"), "0/1", "Error", "0"),
        (pod({"state": {"terminated": {"exitCode": 137, "signal": 9}}}), "0/1", "Signal:9", "0"),
        (pod(phase="Failed", reason="Evicted"), "0/0", "Evicted", "0"),
        (pod(RUNNING, meta={"deletionTimestamp": ago(seconds=1)}), "1/1", "Terminating", "0"),
    ],
)  # fmt: skip
def test_pods(tree, ready, reason, restarts):
    cells = printer_of(PODS).cells(tree, NOW)
    assert cells[:5] == ["p", ready, reason, restarts, "5m"]
    assert cells[5:] == ["<none>"] * 4


def test_a_sidecar_counts_as_a_container():
    tree = pod(RUNNING, inits=[{"started": True, **RUNNING}], **READY)
    tree["spec"]["initContainers"][0]["restartPolicy"] = "Always"
    assert printer_of(PODS).cells(tree, NOW)[1:3] == ["2/2", "Running"]


def test_nodes():
    node = {
        "metadata": {
            "name": "n", "creationTimestamp": ago(days=3),
            "labels": {"node-role.kubernetes.io/control-plane": "", "node-role.kubernetes.io/worker": ""},
        },
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
            "nodeInfo": {"kubeletVersion": "v1", "osImage": "Debian", "kernelVersion": "6", "containerRuntimeVersion": "podman://4"},
        },
    }  # fmt: skip
    assert printer_of(NODES).cells(node, NOW) == [
        "n", "Ready,SchedulingDisabled", "control-plane,worker", "3d", "v1", "192.0.2.1", "<none>", "Debian", "6", "podman://4",
    ]  # fmt: skip
    assert printer_of(NODES).cells({"metadata": {"name": "n"}}, NOW)[1] == "Unknown"


def test_services():
    service = {
        "metadata": {"name": "s", "creationTimestamp": ago(seconds=3)},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.43.0.7", "selector": {"b": "2", "a": "1"},
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
        },
    }  # fmt: skip
    wanted = ["s", "LoadBalancer", "10.43.0.7", "<pending>", "80:30080/TCP,53/UDP", "3s", "a=1,b=2"]
    assert printer_of(SERVICES).cells(service, NOW) == wanted


def test_events():
    event = {
        "metadata": {"name": "e"}, "type": "Warning", "reason": "Failed", "message": " no \n", "count": 4,
        "firstTimestamp": ago(hours=1), "lastTimestamp": ago(seconds=9), "source": {"component": "kubelet", "host": "n"},
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec"},
    }  # fmt: skip
    assert printer_of(EVENTS).cells(event, NOW) == [
        "9s", "Warning", "Failed", "pod/p", "spec", "kubelet, n", "no", "60m", 4, "e",
    ]  # fmt: skip


def test_volumes():
    volume = {
        "metadata": {"name": "v", "creationTimestamp": ago(seconds=3)},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]},
        "status": {"phase": "Available"},
    }
    cells = printer_of(PERSISTENT_VOLUMES).cells(volume, NOW)
    assert cells[:5] == ["v", "1Gi", "RWO,RWX", "", "Available"]


@pytest.mark.parametrize("resource", PRINTERS)
def test_every_printer_survives_an_empty_object_and_fills_its_columns(resource):
    printer = PRINTERS[resource]
    assert len(printer.cells({"metadata": {"name": "x"}}, NOW)) == len(printer.columns)


async def test_a_table_of_a_list(api, config_map):
    await api.post(MAPS, config_map("a", x="1"))
    table = await api.get(MAPS, accept=TABLE)
    assert table["kind"] == "Table"
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    (row,) = table["rows"]
    assert row["cells"][:2] == ["a", 1]
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert row["object"]["metadata"]["name"] == "a"
    (row,) = (await api.get(f"{MAPS}?includeObject=Object", accept=TABLE))["rows"]
    assert row["object"]["data"] == {"x": "1"}
    (row,) = (await api.get(f"{MAPS}/a?includeObject=None", accept=TABLE))["rows"]
    assert row["object"] is None
    await api.get(f"{MAPS}?includeObject=Half", accept=TABLE, code=400)
    assert (await api.get(f"{MAPS}/none", accept=TABLE, code=404))["kind"] == "Status"


async def test_partial_objects(api, config_map):
    made = await api.post(MAPS, config_map("a", x="1"))
    partial = await api.get(f"{MAPS}/a", accept=PARTIAL.format(""))
    assert partial == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": made["metadata"],
    }
    listed = await api.get(MAPS, accept=PARTIAL.format("List"))
    assert (listed["kind"], listed["items"]) == ("PartialObjectMetadataList", [partial])


async def test_a_watched_table_has_headers_once(api, config_map):
    await api.post(MAPS, config_map("a"))
    await api.post(MAPS, config_map("b"))
    query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    events = await api.watch(f"{MAPS}?{query}", accept=TABLE)
    found = []
    async for batch in events:
        found += [(event.type, msgspec.json.decode(event.raw)) for event in batch]
        if len(found) == 3:
            break
    await events.aclose()
    assert [kind for kind, _ in found] == ["ADDED", "ADDED", "BOOKMARK"]
    assert found[0][1]["columnDefinitions"]
    assert not found[1][1]["columnDefinitions"]
    (row,) = found[2][1]["rows"]
    assert row["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
