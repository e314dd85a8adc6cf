"""DaemonSet: the plan as a table, and the loop against the real API server."""

import pytest

from edgekube.api.kinds import apps_v1 as apps
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import apps_v1, core_v1, meta_v1
from edgekube.control.clock import stamp
from edgekube.controllers.daemonset.nodes import fit, new_pod, node_of
from edgekube.controllers.daemonset.plan import Facts, plan, status
from edgekube.controllers.revisions import LABEL

NOW = 1000.0
TAINT = core_v1.Taint(key="only", value="gpu", effect="NoSchedule")
EVICT = core_v1.Taint(key="only", value="gpu", effect="NoExecute")


def daemon(make, *, surge=None, unavailable=None, kind="RollingUpdate", **spec):
    rolling = apps_v1.RollingUpdateDaemonSet(max_surge=surge, max_unavailable=unavailable)
    return apps_v1.DaemonSet(
        metadata=make.meta("logs"),
        spec=apps_v1.DaemonSetSpec(
            selector=meta_v1.LabelSelector(match_labels={"app": "web"}), template=make.template(),
            update_strategy=apps_v1.DaemonSetUpdateStrategy(
                type=kind, rolling_update=rolling if kind == "RollingUpdate" else None
            ),
            **spec,
        ),
    )  # fmt: skip


def facts_of(make, owner, text):
    """`a:r b: c:r'` are nodes with their pods: r(eady), u(nready), f(ailed), t(erminating); `'` of the old template."""
    nodes, pods = [], []
    for word in text.split():
        name, letters = word.split(":")
        taints = {"T": (TAINT,), "E": (EVICT,)}.get(letters[:1], ())
        nodes.append(make.node(name, taints=taints))
        for number, mark in enumerate(
            letters.lstrip("TE")
            .replace("'", "' ")
            .replace("r", "r ")
            .replace("u", "u ")
            .replace("f", "f ")
            .replace("t", "t ")
            .replace(" '", "'")
            .split()
        ):
            meta = {"labels": {"app": "web", LABEL: "old" if mark.endswith("'") else "new"}}
            if mark[0] == "t":
                meta["deletion_timestamp"] = stamp(NOW)
            pods.append(make.pod(
                f"logs-{name}{number}", owner=owner, node=name, ready=0.0 if mark[0] in "rt" else None,
                phase="Failed" if mark[0] == "f" else "Running", created=number, **meta,
            ))  # fmt: skip
    return Facts(owner=owner, nodes=nodes, pods=pods, hash="new", now=NOW)


@pytest.mark.parametrize(("spec", "text", "wanted"), [
    ({}, "a: b:", "+a +b"),
    ({}, "a:r b:r", ""),
    ({}, "a:rr", "-a1"),
    ({}, "a:T", ""),
    ({}, "a:Tr", ""),
    ({}, "a:Er", "-a0"),
    ({}, "a:t", ""),
    ({}, "a:f", "!a0"),
    ({}, "a:r' b:r' c:r'", "-a0"),
    ({}, "a:r' b:u c:r'", ""),
    ({}, "a:u' b:u' c:r'", "-a0 -b0"),
    ({"unavailable": 2}, "a:r' b:r' c:r'", "-a0 -b0"),
    ({"unavailable": "50%"}, "a:r' b:r' c:r' d:r", "-a0 -b0"),
    ({"kind": "OnDelete"}, "a:r' b:r'", ""),
    ({"surge": 1, "unavailable": 0}, "a:r' b:r'", "+a"),
    ({"surge": 1, "unavailable": 0}, "a:r'u b:r'", ""),
    ({"surge": 1, "unavailable": 0}, "a:r'r b:r'", "-a0"),
    ({"surge": 1, "unavailable": 0}, "a:r b:r'", "+b"),
])  # fmt: skip
def test_the_next_step(make, spec, text, wanted):
    decided = plan(facts_of(make, daemon(make, **spec), text))
    made = [f"+{node}" for node in decided.create]
    gone = [f"-{pod.metadata.name.rpartition('-')[2]}" for pod in decided.delete]
    failed = [f"!{pod.metadata.name.rpartition('-')[2]}" for pod in decided.failed]
    assert " ".join(made + gone + failed) == wanted


def test_the_counts(make):
    found = status(facts_of(make, daemon(make), "a:r b:u c: d:Tr e:r'"), 0)
    assert (found.desired_number_scheduled, found.current_number_scheduled, found.number_ready) == (4, 3, 2)
    assert (found.number_available, found.number_unavailable, found.number_misscheduled) == (2, 2, 1)
    assert found.updated_number_scheduled == 2


def test_its_pods_bear_what_nodes_go_through(make):
    owner = daemon(make)
    cordoned = core_v1.Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
    lost = core_v1.Taint(key="node.kubernetes.io/unreachable", effect="NoExecute")
    assert fit(owner, make.node("a", taints=(cordoned, lost))) == (True, True)
    pod = new_pod(owner, "a", "hash")
    assert node_of(pod) == "a"
    assert pod.metadata.labels[LABEL] == "hash"


async def test_every_node_gets_one_and_templates_roll(world):
    for name in ("n1", "n2"):
        await world.node(name)
    labels = {"app": "logs"}
    template = core_v1.PodTemplateSpec(
        metadata=meta_v1.ObjectMeta(labels=labels),
        spec=core_v1.PodSpec(containers=(core_v1.Container(name="logs", image="logs:1"),)),
    )
    await world.client.create(
        apps.DAEMON_SETS,
        apps_v1.DaemonSet(
            metadata=meta_v1.ObjectMeta(name="logs", namespace="default"),
            spec=apps_v1.DaemonSetSpec(
                selector=meta_v1.LabelSelector(match_labels=labels), template=template
            ),
        ),
    )

    def everywhere(nodes, generation=1):
        async def check():
            found = await world.client.get(apps.DAEMON_SETS, Key("default", "logs"))
            status = found.status
            return status is not None and (
                status.observed_generation, status.number_available, status.updated_number_scheduled
            ) == (generation, nodes, nodes)  # fmt: skip

        return world.eventually(check)

    await everywhere(2)
    await world.node("n3")
    await everywhere(3)
    pods = await world.list(core.PODS, namespace="default")
    assert sorted(pod.spec.node_name for pod in pods) == ["n1", "n2", "n3"]
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "logs", "image": "logs:2"}]}}}}
    await world.client.patch(apps.DAEMON_SETS, Key("default", "logs"), patch)
    await everywhere(3, generation=2)
    pods = await world.list(core.PODS, namespace="default")
    assert {pod.spec.containers[0].image for pod in pods} == {"logs:2"}
    await world.quiet()
