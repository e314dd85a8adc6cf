"""Admission: runtime classes, growing claims, new nodes, and what is asked of subresources."""

import asyncio

import aiohttp
import msgspec
import pytest

from edgekube.api.errors import NotFound
from edgekube.apiserver.audit.auditor import Auditor
from edgekube.apiserver.audit.policy import policy_of
from edgekube.apiserver.audit.sink import LogFile, Sink
from edgekube.apiserver.connecting import options_of
from edgekube.apiserver.dial import Dialer
from edgekube.apiserver.proxying import Proxying
from edgekube.apiserver.request import Request
from edgekube.apiserver.streaming import Streaming

from .conftest import ADMIN
from .test_webhooks import MAPS, POLICY, allow, bind, binding, change, config, deny, judge, register

__all__ = ["judge"]

DEFAULT = "/api/v1/namespaces/default"
PODS, NODES, CLAIMS = f"{DEFAULT}/pods", "/api/v1/nodes", f"{DEFAULT}/persistentvolumeclaims"
CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"


# ---- runtime classes ----


@pytest.fixture
async def classes(api, account):
    await api.post(CLASSES, {
        "metadata": {"name": "kata"}, "handler": "kata", "overhead": {"podFixed": {"cpu": "250m", "memory": "64Mi"}},
        "scheduling": {
            "nodeSelector": {"virt": "yes"},
            "tolerations": [{"key": "virt", "operator": "Exists", "effect": "NoSchedule"}],
        },
    })  # fmt: skip
    await api.post(CLASSES, {"metadata": {"name": "plain"}, "handler": "crun"})
    return api


async def test_a_runtime_class_adds_its_cost_and_where_it_runs(classes, pod):
    own = {"key": "own", "operator": "Exists"}
    spec = {"runtimeClassName": "kata", "nodeSelector": {"disk": "ssd"}, "tolerations": [own]}
    made = (await classes.post(PODS, pod("a", **spec)))["spec"]
    assert made["overhead"] == {"cpu": "250m", "memory": "64Mi"}
    assert made["nodeSelector"] == {"disk": "ssd", "virt": "yes"}
    virt = {"key": "virt", "operator": "Exists", "effect": "NoSchedule"}
    assert made["tolerations"][0] == own
    assert virt in made["tolerations"]
    same = pod("b", runtimeClassName="kata", overhead={"cpu": "0.25", "memory": "65536Ki"})
    assert (await classes.post(PODS, same))["spec"]["overhead"] == {"cpu": "250m", "memory": "64Mi"}
    assert "overhead" not in (await classes.post(PODS, pod("c", runtimeClassName="plain")))["spec"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"runtimeClassName": "none"}, 'pod rejected: RuntimeClass "none" not found'),
        ({"runtimeClassName": "kata", "overhead": {"cpu": "1"}}, "doesn't match RuntimeClass's defined Overhead"),
        ({"runtimeClassName": "plain", "overhead": {"cpu": "1"}}, "without corresponding RuntimeClass"),
        ({"overhead": {"cpu": "1"}}, "Pod Overhead set without corresponding RuntimeClass defined Overhead"),
        ({"runtimeClassName": "kata", "nodeSelector": {"virt": "no"}}, "conflict: runtimeClass.scheduling.nodeSelector"),
    ],
)  # fmt: skip
async def test_a_pod_that_contradicts_its_runtime_class(classes, pod, spec, message):
    assert message in (await classes.post(PODS, pod("a", **spec), 403))["message"]


# ---- claims and nodes ----


async def test_only_claims_of_a_class_that_allows_it_grow(api):
    storage = "/apis/storage.k8s.io/v1/storageclasses"
    for name, expands in (("fixed", False), ("elastic", True)):
        await api.post(
            storage, {"metadata": {"name": name}, "provisioner": "x.io/y", "allowVolumeExpansion": expands}
        )
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": name,
            "resources": {"requests": {"storage": "1Gi"}},
        }
        made = await api.post(CLAIMS, {"metadata": {"name": name}, "spec": spec})
        made["spec"]["volumeName"] = f"pv-{name}"
        made = await api.put(f"{CLAIMS}/{name}", made)
        await api.put(f"{CLAIMS}/{name}/status", made | {"status": {"phase": "Bound"}})
    grown = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    status = await api.patch(f"{CLAIMS}/fixed", grown, 403)
    assert "the storageclass that provisions the pvc must support resize" in status["message"]
    made = await api.patch(f"{CLAIMS}/elastic", grown)
    assert made["spec"]["resources"]["requests"]["storage"] == "2Gi"
    await api.patch(f"{CLAIMS}/fixed", {"metadata": {"labels": {"a": "b"}}})


async def test_a_new_node_gets_no_pods_before_it_is_ready(api):
    made = await api.post(NODES, {"metadata": {"name": "n"}})
    assert made["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
    await api.patch(f"{NODES}/n", {"spec": {"taints": None}})
    assert "taints" not in (await api.get(f"{NODES}/n"))["spec"]
    own = [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
    assert (await api.post(NODES, {"metadata": {"name": "m"}, "spec": {"taints": own}}))["spec"][
        "taints"
    ] == own


# ---- subresources ----


def rules(group, *resources, operations=("*",)):
    return [
        {
            "operations": list(operations),
            "apiGroups": [group],
            "apiVersions": ["v1"],
            "resources": list(resources),
        }
    ]


async def test_a_webhook_sees_scales_as_scales(api, judge, deployment):
    hook = judge.hook("/check", allow, rules=rules("apps", "deployments/scale"))
    await register(api, "Validating", "v", hook)
    path = "/apis/apps/v1/namespaces/default/deployments"
    await api.post(path, deployment("web", replicas=1))
    await api.patch(f"{path}/web/scale", {"spec": {"replicas": 3}})
    ((_, wish),) = judge.asked
    assert wish["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert (wish["resource"]["resource"], wish["subResource"]) == ("deployments", "scale")
    assert (wish["oldObject"]["spec"], wish["object"]["spec"]) == ({"replicas": 1}, {"replicas": 3})
    assert (wish["operation"], wish["name"]) == ("UPDATE", "web")
    judge.answers["/check"] = deny("enough")
    assert "enough" in (await api.patch(f"{path}/web/scale", {"spec": {"replicas": 9}}, 403))["message"]
    assert (await api.get(f"{path}/web"))["spec"]["replicas"] == 3


async def test_a_webhook_may_change_a_scale(api, judge, deployment):
    more = {"op": "replace", "path": "/spec/replicas", "value": 2}
    hook = judge.hook("/cap", change(more), rules=rules("apps", "deployments/scale"))
    await register(api, "Mutating", "m", hook)
    path = "/apis/apps/v1/namespaces/default/deployments"
    await api.post(path, deployment("web", replicas=1))
    assert (await api.patch(f"{path}/web/scale", {"spec": {"replicas": 9}}))["spec"]["replicas"] == 2


async def test_a_webhook_sees_an_eviction_once(api, judge, account, pod):
    hook = judge.hook(
        "/check", allow, rules=rules("", "pods", "pods/*", operations=["CREATE", "DELETE", "UPDATE"])
    )
    await api.post(PODS, pod("a"))
    await register(api, "Validating", "v", hook)
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "a", "namespace": "default"},
    }
    judge.answers["/check"] = deny("stay")
    assert "stay" in (await api.post(f"{PODS}/a/eviction", eviction, 403))["message"]
    judge.answers["/check"] = allow
    judge.asked.clear()
    await api.post(f"{PODS}/a/eviction", eviction)
    assert [(w["operation"], w.get("subResource"), w["kind"]["kind"]) for _, w in judge.asked] == [
        ("CREATE", "eviction", "Eviction")
    ]


@pytest.mark.parametrize("path", [f"{PODS}/a/binding", f"{DEFAULT}/bindings"])
async def test_a_webhook_sees_bindings(api, judge, account, pod, path):
    hook = judge.hook("/check", allow, rules=rules("", "pods/binding", operations=["CREATE"]))
    await api.post(PODS, pod("a"))
    await register(api, "Validating", "v", hook)
    bound = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"name": "n1"}}
    judge.answers["/check"] = deny("not there")
    assert "not there" in (await api.post(path, bound, 403))["message"]
    assert "nodeName" not in (await api.get(f"{PODS}/a"))["spec"]
    judge.answers["/check"] = allow
    await api.post(path, bound)
    assert judge.asked[-1][1]["object"]["target"] == {"name": "n1"}
    assert judge.asked[-1][1]["kind"]["kind"] == "Binding"


class Stream:
    """The part of a connection that is looked at before a stream begins."""

    headers, query_string = {}, "container=c&command=sh&command=-c&stdin=true&tty=0"


@pytest.mark.parametrize("sort", ["exec", "attach", "portforward"])
async def test_streams_are_shown_to_webhooks_and_policies(api, judge, account, pod, sort):
    hook = judge.hook("/check", deny("no way in"), rules=rules("", f"pods/{sort}", operations=["CONNECT"]))
    await api.post(PODS, pod("a", nodeName="n1"))
    await register(api, "Validating", "v", hook)
    request = _request(api, f"{PODS}/a/{sort}")
    with pytest.raises(Exception, match="no way in"):
        await Streaming(api.server.handler, None).serve(Stream(), request)
    ((_, wish),) = judge.asked
    assert (wish["operation"], wish["subResource"], wish["name"]) == ("CONNECT", sort, "a")
    kind = {"exec": "PodExecOptions", "attach": "PodAttachOptions", "portforward": "PodPortForwardOptions"}[
        sort
    ]
    assert wish["kind"]["kind"] == wish["object"]["kind"] == kind
    assert (wish["object"]["container"], wish["object"]["stdin"]) == ("c", True)
    assert wish["object"].get("command") == ["sh", "-c"]


def _request(_api, path):
    return Request(method="POST", path=path, user=ADMIN)


async def test_a_policy_may_refuse_exec(api, account, pod):
    policy = msgspec.json.decode(msgspec.json.encode(POLICY))
    policy["spec"] |= {
        "matchConstraints": {"resourceRules": rules("", "pods/exec", operations=["CONNECT"])},
        "variables": [],
        "validations": [{"expression": "object.container != 'c'", "message": "not into c"}],
    }
    await bind(api, policy, binding("Deny"))
    await api.post(PODS, pod("a", nodeName="n1"))
    with pytest.raises(Exception, match="not into c"):
        await Streaming(api.server.handler, None).serve(Stream(), _request(api, f"{PODS}/a/exec"))


async def test_a_policy_may_refuse_a_proxy(api):
    policy = msgspec.json.decode(msgspec.json.encode(POLICY))
    policy["spec"] |= {
        "matchConstraints": {"resourceRules": rules("", "services/proxy", operations=["CONNECT"])},
        "variables": [],
        "validations": [{"expression": "object.path != '/a/b'", "message": "not there"}],
    }
    await bind(api, policy, binding("Deny"))
    proxying = Proxying(api.server.handler, Dialer(api.server.parts.registry.storage, None))
    request = _request(api, f"{DEFAULT}/services/kubernetes/proxy/a/b")
    with pytest.raises(Exception, match="not there"):
        await proxying.serve(Stream(), request)
    with pytest.raises(NotFound):
        await proxying.serve(Stream(), _request(api, f"{DEFAULT}/services/none/proxy/a"))


def test_options_are_read_from_the_query():
    pairs = [("ports", "80,81"), ("ports", "82"), ("tty", "false"), ("stdout", "1"), ("other", "x")]
    assert options_of("PodPortForwardOptions", pairs) == {
        "kind": "PodPortForwardOptions", "apiVersion": "v1", "ports": [80, 81, 82], "stdout": True,
    }  # fmt: skip


# ---- what the audit log is told ----


def auditor(tmp_path):
    rules = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
    return Auditor(
        policy_of(rules | {"omitStages": ["RequestReceived"]}), Sink(LogFile(path=tmp_path / "log"))
    )


async def events(tmp_path, found):
    async with asyncio.timeout(30):
        while True:
            if (tmp_path / "log").exists():
                lines = [msgspec.json.decode(line) for line in (tmp_path / "log").read_bytes().splitlines()]
                if chosen := [event for event in lines if found(event)]:
                    return chosen
            await asyncio.sleep(0.02)


async def test_webhooks_and_policies_annotate_the_audit_event(make_server, start, judge, tmp_path):
    async with start(make_server(auditor=auditor(tmp_path))) as api:
        await api.post("/api/v1/namespaces", {"metadata": {"name": "default"}})
        hook = judge.hook("/check", lambda _wish: {"allowed": True, "auditAnnotations": {"who": "me"}})
        await register(api, "Validating", "v", hook)
        policy = msgspec.json.decode(msgspec.json.encode(POLICY))
        policy["spec"]["auditAnnotations"] = [
            {"key": "count", "valueExpression": "'has ' + string(variables.count)"},
            {"key": "none", "valueExpression": "null"},
        ]
        await bind(api, policy, binding("Audit"))
        await api.post(MAPS, config(a="1", b="2"))
        (event,) = await events(tmp_path, lambda e: e.get("objectRef", {}).get("resource") == "configmaps")
    told = event["annotations"]
    assert told["check.example.com/who"] == "me"
    assert told["few/count"] == "has 2"
    assert "few/none" not in told
    (failure,) = msgspec.json.decode(told["validation.policy.admission.k8s.io/validation_failure"])
    assert failure == {
        "message": "too many: 2", "policy": "few", "binding": "b", "validationActions": ["Audit"],
    }  # fmt: skip


async def test_who_cannot_prove_who_it_is_is_noted(make_server, start, tmp_path):
    async with start(make_server(auditor=auditor(tmp_path))) as api:
        server = await asyncio.get_running_loop().create_server(api.server.http.protocols, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        headers = {"Authorization": "Bearer wrong"}
        async with aiohttp.ClientSession(address, headers=headers) as session, session.get(PODS) as answer:
            assert answer.status == 401
        (event,) = await events(tmp_path, lambda e: e["responseStatus"]["code"] == 401)
        server.close()
    assert (event["user"], event["stage"], event["requestURI"]) == ({}, "ResponseStarted", PODS)
    assert event["objectRef"]["resource"] == "pods"
