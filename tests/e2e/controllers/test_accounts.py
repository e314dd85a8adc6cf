"""ServiceAccounts, their tokens in pods, and the cluster CA."""

import pytest

from e2e.harness import eventually
from e2e.manifests import IMAGE, STAY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_a_pod_may_do_what_its_account_may(space, k, bearing):
    k("create", "serviceaccount", "reader")
    k("create", "role", "reader", "--verb=get,list", "--resource=configmaps")
    k("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={space}:reader")
    k(
        "run",
        "p",
        f"--image={IMAGE}",
        "--overrides",
        '{"spec":{"serviceAccountName":"reader"}}',
        "--",
        *STAY,
    )
    k("wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    place = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert k("exec", "p", "--", "cat", f"{place}/namespace") == space
    assert k("exec", "p", "--", "cat", f"{place}/ca.crt") == k(
        "get", "cm", "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}"
    )
    token = k("exec", "p", "--", "cat", f"{place}/token")
    assert "kube-root-ca.crt" in bearing(token, "get", "cm")
    assert 'cannot list resource "secrets"' in bearing(token, "get", "secrets", check=False)
    k("delete", "pod", "p", "--grace-period=0", "--force")
    eventually(
        lambda: "Unauthorized" in bearing(token, "get", "cm", check=False), "the token dies with its pod"
    )


def test_a_default_account_comes_back(k):
    k("delete", "serviceaccount", "default")
    eventually(lambda: "default" in k("get", "sa", "-o", "name"), "there is one again")
    k("delete", "configmap", "kube-root-ca.crt")
    eventually(lambda: "kube-root-ca.crt" in k("get", "cm", "-o", "name"), "and the CA")
