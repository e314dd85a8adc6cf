"""Admission: namespaces, ServiceAccounts, tolerations, priorities, Service addresses."""

import time

from edgekube.apiserver.addresses.pool import Ledger

NS = "/api/v1/namespaces/default"
PODS = f"{NS}/pods"
SERVICES = f"{NS}/services"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


async def test_no_creates_in_a_missing_namespace(api, config_map):
    status = await api.post("/api/v1/namespaces/none/configmaps", config_map("a"), code=404)
    assert status["message"] == 'namespaces "none" not found'


async def test_a_pod_gets_account_token_tolerations_and_priority(api, pod, account):
    made = (await api.post(PODS, pod("p")))["spec"]
    assert made["serviceAccountName"] == made["serviceAccount"] == "default"
    (volume,) = made["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    kinds = [next(iter(source)) for source in volume["projected"]["sources"]]
    assert kinds == ["serviceAccountToken", "configMap", "downwardAPI"]
    (mount,) = made["containers"][0]["volumeMounts"]
    assert (mount["name"], mount["mountPath"], mount["readOnly"]) == (volume["name"], TOKEN_PATH, True)
    assert [t["key"].rpartition("/")[2] for t in made["tolerations"]] == ["not-ready", "unreachable"]
    assert {t["tolerationSeconds"] for t in made["tolerations"]} == {300}
    assert (made["priority"], made["preemptionPolicy"]) == (0, "PreemptLowerPriority")


async def test_the_token_is_not_mounted_when_told_so(api, pod, account):
    assert "volumes" not in (await api.post(PODS, pod("p", automountServiceAccountToken=False)))["spec"]
    await api.post(
        f"{NS}/serviceaccounts", {"metadata": {"name": "quiet"}, "automountServiceAccountToken": False}
    )
    assert "volumes" not in (await api.post(PODS, pod("q", serviceAccountName="quiet")))["spec"]
    loud = pod("r", serviceAccountName="quiet", automountServiceAccountToken=True)
    assert (await api.post(PODS, loud))["spec"]["volumes"]


async def test_a_missing_account(api, pod):
    status = await api.post(PODS, pod("p", serviceAccountName="none"), code=403)
    wanted = 'pods "p" is forbidden: error looking up service account default/none: serviceaccount "none" not found'
    assert status["message"] == wanted


async def test_own_tolerations_are_kept(api, pod, account):
    own = [{"operator": "Exists"}]
    assert (await api.post(PODS, pod("p", tolerations=own)))["spec"]["tolerations"] == own


async def test_priority_classes(api, pod, account):
    made = await api.post(PODS, pod("p", priorityClassName="system-node-critical"))
    assert made["spec"]["priority"] == 2000001000
    status = await api.post(PODS, pod("q", priorityClassName="none"), code=403)
    assert "no PriorityClass with name none was found" in status["message"]


async def test_the_first_status_of_a_pod(api, pod, account):
    resources = {"limits": {"cpu": "1", "memory": "1Gi"}}
    container = {"name": "c", "image": "localhost/x:1", "resources": resources}
    assert (await api.post(PODS, pod("a", containers=[container])))["status"] == {
        "phase": "Pending", "qosClass": "Guaranteed",
    }  # fmt: skip
    assert (await api.post(PODS, pod("b")))["status"]["qosClass"] == "BestEffort"
    container["resources"] = {"requests": {"cpu": "1"}}
    assert (await api.post(PODS, pod("c", containers=[container])))["status"]["qosClass"] == "Burstable"


def service(name, **spec):
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


async def test_the_api_has_the_first_address(api):
    assert (await api.get(f"{SERVICES}/kubernetes"))["spec"]["clusterIPs"] == ["10.43.0.1"]


async def test_addresses_asked_for(api):
    made = await api.post(SERVICES, service("dns", clusterIP="10.43.0.10"))
    assert made["spec"]["clusterIPs"] == ["10.43.0.10"]
    status = await api.post(SERVICES, service("x", clusterIP="10.43.0.10"), code=422)
    wanted = 'spec.clusterIPs: Invalid value: ["10.43.0.10"]: failed to allocate IP 10.43.0.10: provided IP is already allocated'
    assert status["message"] == f'Service "x" is invalid: {wanted}'
    assert status["details"]["causes"][0]["field"] == "spec.clusterIPs"
    status = await api.post(SERVICES, service("x", clusterIP="10.9.0.1"), code=422)
    assert "is not in the valid range. The range of valid IPs is 10.43.0.0/24" in status["message"]


async def test_an_address_does_not_change(api):
    made = await api.post(SERVICES, service("s"))
    address = made["spec"]["clusterIP"]
    kept = await api.put(f"{SERVICES}/s", service("s", selector={"a": "b"}))
    assert kept["spec"]["clusterIP"] == address
    kept["spec"] |= {"clusterIP": "10.43.0.77", "clusterIPs": ["10.43.0.77"]}
    status = await api.put(f"{SERVICES}/s", kept, code=422)
    assert "may not change once set" in status["message"]


async def test_a_refused_or_dry_service_takes_nothing(api):
    wished = service("s", clusterIP="10.43.0.33")
    await api.post(f"{SERVICES}?dryRun=All", wished)
    bad = service("s", clusterIP="10.43.0.33", ports=[{"port": 0}])
    await api.post(SERVICES, bad, code=422)
    assert (await api.post(SERVICES, wished))["spec"]["clusterIP"] == "10.43.0.33"


async def test_headless_and_external_services_have_no_address(api):
    made = await api.post(SERVICES, service("h", clusterIP="None"))
    assert made["spec"]["clusterIPs"] == ["None"]
    made = await api.post(SERVICES, service("e", type="ExternalName", externalName="example.com"))
    assert "clusterIP" not in made["spec"]


async def test_node_ports(api):
    made = await api.post(SERVICES, service("n", type="NodePort"))
    (port,) = made["spec"]["ports"]
    assert 30000 <= port["nodePort"] <= 32767
    taken = service("m", type="NodePort", ports=[{"port": 80, "nodePort": port["nodePort"]}])
    status = await api.post(SERVICES, taken, code=422)
    assert "provided port is already allocated" in status["message"]
    made["spec"] |= {"type": "ClusterIP"}
    plain = await api.put(f"{SERVICES}/n", made)
    assert "nodePort" not in plain["spec"]["ports"][0]
    assert (await api.post(SERVICES, taken))["spec"]["ports"][0]["nodePort"] == port["nodePort"]


async def test_priorities_come_from_classes(api, pod):
    classes, pods = "/apis/scheduling.k8s.io/v1/priorityclasses", "/api/v1/namespaces/default/pods"
    await api.post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    await api.post(classes, {"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"})
    made = await api.post(pods, pod("a", priorityClassName="high"))
    assert (made["spec"]["priority"], made["spec"]["preemptionPolicy"]) == (1000, "Never")
    status = await api.post(pods, pod("b", priorityClassName="missing"), 403)
    assert "no PriorityClass with name missing was found" in status["message"]
    status = await api.post(pods, pod("b", priorityClassName="high", priority=7), 403)
    assert "must not be provided in pod spec" in status["message"]
    assert (await api.post(pods, pod("b")))["spec"]["priority"] == 0
    await api.post(classes, {"metadata": {"name": "usual"}, "value": 5, "globalDefault": True})
    made = await api.post(pods, pod("c"))
    assert (made["spec"]["priority"], made["spec"]["priorityClassName"]) == (5, "usual")
    status = await api.post(classes, {"metadata": {"name": "second"}, "value": 6, "globalDefault": True}, 403)
    assert "PriorityClass usual is already marked as default" in status["message"]


def test_addresses_that_leaked_are_taken_back():
    pool = Ledger()
    for number in (1, 2, 3):
        assert pool.take(number)
    later = time.monotonic() + 1
    assert pool.settle([2, 7], later) == {1, 3}
    assert pool.take(1)
    assert not pool.take(2)
    assert not pool.take(7)
    # What a write was given a moment ago is not a leak.
    assert pool.settle([2, 7], 0.0) == set()


async def test_one_node_port_for_both_protocols(api):
    ports = [
        {"name": n, "protocol": p, "port": 53, "nodePort": 30053} for n, p in (("t", "TCP"), ("u", "UDP"))
    ]
    spec = {"type": "NodePort", "ports": ports}
    await api.post("/api/v1/namespaces/default/services", {"metadata": {"name": "dns"}, "spec": spec})
    status = await api.post(
        "/api/v1/namespaces/default/services", {"metadata": {"name": "other"}, "spec": spec}, 422
    )
    assert "already allocated" in status["message"]
