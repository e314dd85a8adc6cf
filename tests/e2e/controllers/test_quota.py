"""ResourceQuotas: what is used is counted, what is too much refused."""

import pytest

from e2e.harness import eventually
from e2e.manifests import IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_counted_refused_and_given_back(cluster, space, k):
    k("create", "quota", "few", "--hard=pods=1,requests.cpu=100m,configmaps=3")

    def used():
        return cluster.json("-n", space, "get", "quota", "few")["status"].get("used", {})

    eventually(lambda: used().get("configmaps") == "1", "what was there before counts")
    refused = k("run", "p", f"--image={IMAGE}", check=False)
    assert "must specify requests.cpu for: p" in refused
    overrides = '{"spec":{"containers":[{"name":"p","image":"%s","command":["sh","-c","trap exit TERM; sleep 3600 & wait"],"resources":{"requests":{"cpu":"60m"}}}]}}'
    k("run", "p", f"--image={IMAGE}", "--overrides", overrides % IMAGE)
    again = k(
        "run", "q", f"--image={IMAGE}", "--overrides", overrides.replace('"p"', '"q"') % IMAGE, check=False
    )
    assert (
        "exceeded quota: few, requested: pods=1,requests.cpu=60m, used: pods=1,requests.cpu=60m, limited: pods=1,requests.cpu=100m"
        in again
    )
    k("delete", "pod", "p", "--grace-period=0", "--force")
    eventually(lambda: used().get("pods") == "0", "it is given back")
    k("run", "q", f"--image={IMAGE}", "--overrides", overrides.replace('"p"', '"q"') % IMAGE)
