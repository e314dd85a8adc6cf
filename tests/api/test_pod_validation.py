"""The finer rules of pods, and what may change in one."""

import copy

import pytest

from edgekube.api import defaults, validation
from edgekube.api.kinds.core_v1 import PODS

C = "spec.containers[0]"
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def pod(container=(), **spec):
    one = {"name": "c", "image": "x:1", **dict(container)}
    tree = {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [one], **spec}}
    defaults.apply(PODS, tree)
    return tree


def terms(*expressions):
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}}}


def exists(key):
    return {"key": key, "operator": "Exists"}


@pytest.mark.parametrize(("spec", "field"), [
    ({"securityContext": {"sysctls": [{"name": "foo-", "value": "1"}]}}, "spec.securityContext.sysctls[0].name"),
    ({"securityContext": {"sysctls": [{"name": "bar..", "value": "1"}]}}, "spec.securityContext.sysctls[0].name"),
    ({"securityContext": {"appArmorProfile": {"type": "Localhost"}}}, "spec.securityContext.appArmorProfile.localhostProfile"),
    ({"securityContext": {"supplementalGroupsPolicy": "Some"}}, "spec.securityContext.supplementalGroupsPolicy"),
    ({"schedulingGates": [{"name": "a b"}]}, "spec.schedulingGates[0]"),
    ({"schedulingGates": [{"name": "a"}], "nodeName": "n"}, "spec.nodeName"),
    ({"readinessGates": [{"conditionType": "a b"}]}, "spec.readinessGates[0].conditionType"),
    ({"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["A"]}]}, "spec.hostAliases[0].hostnames[0]"),
    ({"dnsConfig": {"nameservers": ["1.1.1.1"] * 4}}, "spec.dnsConfig.nameservers"),
    ({"dnsConfig": {"searches": ["a_b.c."] * 33}}, "spec.dnsConfig.searches"),
    ({"dnsConfig": {"searches": ["-a"]}}, "spec.dnsConfig.searches[0]"),
    ({"dnsConfig": {"options": [{"value": "1"}]}}, "spec.dnsConfig.options[0]"),
    ({"os": {"name": "plan9"}}, "spec.os.name"),
    ({"preemptionPolicy": "Always"}, "spec.preemptionPolicy"),
    ({"topologySpreadConstraints": [{**SPREAD, "minDomains": 2}]}, "spec.topologySpreadConstraints[0].minDomains"),
    ({"topologySpreadConstraints": [{**SPREAD, "nodeTaintsPolicy": "Maybe"}]},
     "spec.topologySpreadConstraints[0].nodeTaintsPolicy"),
    ({"topologySpreadConstraints": [{**SPREAD, "matchLabelKeys": ["a"]}]},
     "spec.topologySpreadConstraints[0].matchLabelKeys[0]"),
    ({"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [
        {"matchFields": [{"key": "spec.x", "operator": "In", "values": ["a"]}]}]}}}},
     f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchFields[0].key"),
    ({"ephemeralContainers": [{"name": "e", "image": "x:1", "targetContainerName": "z"}]},
     "spec.ephemeralContainers[0].targetContainerName"),
])  # fmt: skip
def test_a_pod_is_refused(spec, field):
    assert field in [cause.field for cause in validation.create(PODS, pod(**spec))]


@pytest.mark.parametrize(("container", "field"), [
    ({"resizePolicy": [{"resourceName": "disk", "restartPolicy": "NotRequired"}]}, f"{C}.resizePolicy[0].resourceName"),
    ({"volumeDevices": [{"name": "none", "devicePath": "/dev/x"}]}, f"{C}.volumeDevices[0].name"),
    ({"resources": {"limits": {"hugepages-2Mi": "2Mi"}}}, f"{C}.resources"),
    ({"envFrom": [{"prefix": "=", "configMapRef": {"name": "a"}}]}, f"{C}.envFrom[0].prefix"),
    ({"securityContext": {"procMount": "All"}}, f"{C}.securityContext.procMount"),
    ({"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"add": ["SYS_ADMIN"]}}}, f"{C}.securityContext"),
    ({"volumeMounts": [{"name": "v", "mountPath": "/v", "recursiveReadOnly": "Enabled"}]},
     f"{C}.volumeMounts[0].recursiveReadOnly"),
])  # fmt: skip
def test_a_container_is_refused(container, field):
    tree = pod(container, volumes=[{"name": "v"}])
    assert field in [cause.field for cause in validation.create(PODS, tree)]


def test_what_is_fine():
    tree = pod(
        {"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]},
        securityContext={"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}, {"name": "net/ipv4/x", "value": "1"}]},
        dnsConfig={"searches": [".", "_sip._tcp.a.", "b.c"], "options": [{"name": "ndots"}]},
        topologySpreadConstraints=[{**SPREAD, "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2}],
        os={"name": "linux"}, preemptionPolicy="Never",
    )  # fmt: skip
    assert validation.create(PODS, tree) == []


@pytest.mark.parametrize(("change", "fine"), [
    ({"nodeSelector": {"a": "1", "b": "2"}}, True),
    ({"nodeSelector": {"a": "2"}}, False),
    ({"nodeSelector": {}}, False),
    ({"affinity": terms(exists("a"), exists("b"))}, True),
    ({"affinity": terms(exists("b"))}, False),
    ({"affinity": {}}, False),
    ({"schedulingGates": []}, True),
    ({"schedulingGates": [{"name": "g"}, {"name": "h"}]}, False),
    ({"hostname": "other"}, False),
])  # fmt: skip
def test_a_waiting_pod_may_only_get_choosier(change, fine):
    old = pod(schedulingGates=[{"name": "g"}], nodeSelector={"a": "1"}, affinity=terms(exists("a")))
    new = copy.deepcopy(old)
    new["spec"].update(change)
    assert (validation.update(PODS, new, old) == []) is fine


def test_a_pod_that_waits_no_longer_stays():
    old = pod(nodeSelector={"a": "1"})
    new = copy.deepcopy(old)
    new["spec"]["nodeSelector"]["b"] = "2"
    (cause,) = validation.update(PODS, new, old)
    assert "may not change fields" in cause.message
