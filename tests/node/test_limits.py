"""Resources and security contexts: tables. Registry logins. Node facts."""

import base64
import json
from pathlib import Path

import msgspec
import pytest

from edgekube.api.types import core_v1
from edgekube.node.env.environment import ConfigError
from edgekube.node.images import logins_for, pull_policy
from edgekube.node.pod.limits import limits_of, security_of
from edgekube.node.reserved import allocatable_of
from edgekube.runtime.base import ImageInfo

GIB = 1 << 30
PROFILES = Path("/profiles")


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        ({}, (None, 2, None, 1000)),
        ({"limits": {"cpu": "500m", "memory": "1Gi"}}, (GIB, 512, 50_000, -997)),
        ({"requests": {"cpu": "250m", "memory": "2Gi"}}, (None, 256, None, 500)),
        ({"limits": {"cpu": "5m"}, "requests": {"cpu": "1m"}}, (None, 2, 1000, 999)),
    ],
)
def test_limits(pod_of, resources, wanted):
    pod = pod_of({"containers": [{"name": "main", "resources": resources}]})
    found = limits_of(pod, pod.spec.containers[0], node_memory=4 * GIB)
    assert (found.memory, found.cpu_shares, found.cpu_quota, found.oom_score_adj) == wanted


def security(pod_of, own=None, general=None, image_user=""):
    pod = pod_of(
        {"securityContext": general or {}, "containers": [{"name": "main", "securityContext": own or {}}]}
    )
    return security_of(
        pod, pod.spec.containers[0], ImageInfo(id="i", names=(), user=image_user), profiles=PROFILES
    )


@pytest.mark.parametrize(
    ("own", "general", "image_user", "user"),
    [
        ({}, {}, "", ""),
        ({"runAsUser": 5}, {"runAsUser": 6, "runAsGroup": 7}, "", "5:7"),
        ({}, {"runAsGroup": 7}, "", "0:7"),
        ({}, {"runAsGroup": 7}, "9:1", "9:7"),
        ({"runAsNonRoot": True}, {}, "1000", ""),
        ({"runAsNonRoot": True, "runAsUser": 5}, {}, "root", "5"),
    ],
)
def test_users(pod_of, own, general, image_user, user):
    assert security(pod_of, own, general, image_user).user == user


@pytest.mark.parametrize(
    ("own", "image_user", "message"),
    [
        ({"runAsNonRoot": True}, "", "container has runAsNonRoot and image will run as root"),
        ({"runAsNonRoot": True}, "nobody", "non-numeric user (nobody)"),
        ({"runAsNonRoot": True, "runAsUser": 0}, "5", "runAsUser breaks non-root policy"),
    ],
)
def test_non_root_is_enforced(pod_of, own, image_user, message):
    with pytest.raises(ConfigError) as caught:
        security(pod_of, own, image_user=image_user)
    assert message in str(caught.value)


def test_privileges(pod_of):
    own = {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "seccompProfile": {"type": "RuntimeDefault"},
        "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
    }  # fmt: skip
    found = security(pod_of, own, {"fsGroup": 20, "supplementalGroups": [30]})
    assert found.groups == (30, 20)
    assert (found.no_new_privileges, found.read_only_root, found.seccomp) == (True, True, "")
    assert (found.cap_add, found.cap_drop) == (("NET_ADMIN",), ("ALL",))
    assert security(pod_of, {"privileged": True}).privileged
    assert security(pod_of).seccomp == "unconfined"


@pytest.mark.parametrize(
    ("image", "policy", "wanted"),
    [
        ("x", "", "Always"), ("x:latest", "", "Always"), ("x:1", "", "IfNotPresent"), ("x@sha256:0", "", "IfNotPresent"),
        ("host:5000/x", "", "Always"), ("x", "Never", "Never"),
    ],
)  # fmt: skip
def test_pull_policy(image, policy, wanted):
    assert pull_policy(core_v1.Container(name="c", image=image, image_pull_policy=policy)) == wanted


@pytest.mark.parametrize(
    ("image", "users"),
    [
        ("registry.lan/team/app:1", ["team", "all"]), ("registry.lan/other", ["all"]), ("busybox", ["hub"]),
        ("elsewhere.lan/x", []), ("registry.lan.evil/x", []),
    ],
)  # fmt: skip
def test_logins(image, users):
    auths = {
        "https://registry.lan": {"username": "all", "password": "1"},
        "registry.lan/team": {"auth": base64.b64encode(b"team:2").decode()},
        "https://index.docker.io/v1/": {"username": "hub", "password": "3"},
        "broken.lan": {"auth": "%%%"},
    }
    data = {".dockerconfigjson": base64.b64encode(json.dumps({"auths": auths}).encode()).decode()}
    secret = msgspec.convert({"data": data}, core_v1.Secret)
    assert [login.username for login in logins_for(image, [secret])] == users


def test_allocatable():
    capacity = {"cpu": "4", "memory": "1048576Ki", "pods": "110"}
    found = allocatable_of(capacity, [{"cpu": "250m", "memory": "24Mi", "other": "1"}])
    assert found == {"cpu": "3750m", "memory": "1000Mi", "pods": "110"}
