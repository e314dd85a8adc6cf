"""PodSecurity: every check as a table, and the Namespace's labels through the API."""

import pytest

from edgekube.api.podsecurity.policy import Standard, policy_of, violations

GOOD = {
    "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip
BARE = (
    'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), '
    'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), '
    'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), '
    'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
)


def spec(security=None, *, pod=None, container=None, **more):
    one = {"name": "c", "image": "localhost/x:1", **(container or {})}
    if security is not None:
        one["securityContext"] = security
    return {"containers": [one], "securityContext": pod or {}, **more}


def found(level, tree, version="latest", **metadata):
    return ", ".join(map(str, violations(Standard(level, version), metadata, tree)))


BASELINE = [
    (spec({"privileged": True}), 'privileged (container "c" must not set securityContext.privileged=true)'),
    (spec(hostNetwork=True, hostPID=True), "host namespaces (hostNetwork=true, hostPID=true)"),
    (spec(volumes=[{"name": "v", "hostPath": {"path": "/"}}]), 'hostPath volumes (volume "v")'),
    (spec(container={"ports": [{"hostPort": 80}]}), 'hostPort (container "c" uses hostPort 80)'),
    (spec({"capabilities": {"add": ["NET_ADMIN", "CHOWN"]}}), 'non-default capabilities (container "c" must not include "NET_ADMIN" in securityContext.capabilities.add)'),
    (spec({"procMount": "Unmasked"}), 'procMount (container "c" must not set securityContext.procMount to "Unmasked")'),
    (spec({"seLinuxOptions": {"type": "x", "user": "u"}}), 'seLinuxOptions (container "c" set forbidden securityContext.seLinuxOptions: type "x"; user may not be set)'),
    (spec(pod={"seccompProfile": {"type": "Unconfined"}}), 'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")'),
    (spec(pod={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}), "forbidden sysctls (kernel.msgmax)"),
    (spec({"appArmorProfile": {"type": "Unconfined"}}), 'forbidden AppArmor profile (container "c" must not set AppArmor profile type to "Unconfined")'),
    (spec({"windowsOptions": {"hostProcess": True}}), 'hostProcess (container "c" must not set securityContext.windowsOptions.hostProcess=true)'),
    (spec(container={"livenessProbe": {"httpGet": {"host": "192.0.2.1"}}}), 'probe or lifecycle host (container "c" uses probe or lifecycle host "192.0.2.1")'),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "words"), BASELINE, ids=lambda value: str(value)[:24])
def test_baseline(tree, words):
    assert found("baseline", tree) == words
    assert found("privileged", tree) == ""


RESTRICTED = [
    (spec(), BARE),
    (spec(GOOD), ""),
    (spec({**GOOD, "runAsUser": 0}), 'runAsUser=0 (container "c" must not set runAsUser=0)'),
    (spec({**GOOD, "runAsNonRoot": False}), 'runAsNonRoot != true (container "c" must not set securityContext.runAsNonRoot=false)'),
    (spec({**GOOD, "capabilities": {"drop": ["ALL"], "add": ["SYS_TIME", "NET_BIND_SERVICE"]}}), 'unrestricted capabilities (container "c" must not include "SYS_TIME" in securityContext.capabilities.add)'),
    (spec(GOOD, volumes=[{"name": "v", "hostPath": {"path": "/"}}, {"name": "n", "nfs": {}}]), 'restricted volume types (volumes "v", "n" use restricted volume types "hostPath", "nfs")'),
    (spec(GOOD, volumes=[{"name": "v", "emptyDir": {}}]), ""),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "words"), RESTRICTED, ids=lambda value: str(value)[:24])
def test_restricted(tree, words):
    assert found("restricted", tree) == words


def test_older_versions_ask_for_less():
    assert "capabilities" not in found("restricted", spec(), "v1.21")
    reserved = spec(pod={"sysctls": [{"name": "net.ipv4.ip_local_reserved_ports", "value": "1"}]})
    assert found("baseline", reserved, "v1.26") == "forbidden sysctls (net.ipv4.ip_local_reserved_ports)"
    assert found("baseline", reserved) == ""


def test_labels_nobody_can_read_are_the_strictest():
    policy = policy_of({"pod-security.kubernetes.io/enforce": "wat"})
    assert str(policy.enforce) == "restricted:latest"
    assert policy.audit.level == "privileged"


# --- through the API


async def space(api, name="safe", **labels):
    labels = {f"pod-security.kubernetes.io/{k.replace('_', '-')}": v for k, v in labels.items()}
    await api.post("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    await api.post(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})
    return f"/api/v1/namespaces/{name}"


def warnings(response):
    return [value for name, value in response.headers if name.lower() == "warning"]


async def test_pods_are_refused(api, pod):
    path = await space(api, enforce="restricted")
    status = await api.post(f"{path}/pods", pod("p"), code=403)
    assert status["message"] == f'pods "p" is forbidden: violates PodSecurity "restricted:latest": {BARE}'
    await api.post(f"{path}/pods", pod("p", **spec(GOOD)))
    assert (await api.get(f"{path}/pods"))["items"]


async def test_workloads_are_only_warned_about(api, deployment):
    path = (await space(api, enforce="restricted", warn="restricted")).replace("/api/v1", "/apis/apps/v1")
    response = await api.send("POST", f"{path}/deployments", deployment("d"))
    assert response.code == 201
    (warning,) = warnings(response)
    assert 'would violate PodSecurity \\"restricted:latest\\": allowPrivilegeEscalation != false' in warning


async def test_a_stricter_namespace_tells_about_its_pods(api, pod):
    path = await space(api)
    for name in ("a", "b"):
        await api.post(f"{path}/pods", pod(name))
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    response = await api.send("PATCH", path, labels, content_type="application/merge-patch+json")
    assert response.code == 200
    first, second = warnings(response)
    assert (
        'existing pods in namespace \\"safe\\" violate the new PodSecurity enforce level \\"restricted:latest\\"'
        in first
    )
    assert "a (and 1 other pod): allowPrivilegeEscalation != false, unrestricted capabilities" in second


async def test_labels_are_checked(api):
    labels = {"pod-security.kubernetes.io/enforce": "wat"}
    body = {"metadata": {"name": "x", "labels": labels}}
    status = await api.post("/api/v1/namespaces", body, code=422)
    assert status["message"] == (
        'Namespace "x" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "wat": '
        "must be one of privileged, baseline, restricted"
    )
