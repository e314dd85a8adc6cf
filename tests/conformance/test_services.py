"""[sig-network] Services, Endpoints, EndpointSlices, ServiceCIDR and IPAddress, as far as the API goes."""

import asyncio

import pytest


def service(name, **spec):
    return {"metadata": {"name": name}, "spec": {"ports": [{"name": "http", "port": 80}], **spec}}


async def test_a_secure_master_service(api):
    found = await api.get("/api/v1/namespaces/default/services/kubernetes")
    assert [(port["name"], port["port"]) for port in found["spec"]["ports"]] == [("https", 443)]
    slices = await api.items(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name=kubernetes"
    )
    assert slices[0]["endpoints"]
    endpoints = await api.get("/api/v1/namespaces/default/endpoints/kubernetes")
    assert endpoints["subsets"][0]["addresses"]


async def test_find_a_service_from_listing_all_namespaces(api):
    listed = await api.items("/api/v1/services")
    assert "kubernetes" in [item["metadata"]["name"] for item in listed]


async def test_a_service_status_lifecycle(api, unique):
    path = f"{api.base}/services"
    rv = (await api.get(path))["metadata"]["resourceVersion"]
    made = service(unique, type="LoadBalancer", allocateLoadBalancerNodePorts=False)
    async with api.watch(path, resourceVersion=rv) as watch:
        await api.post(path, made)
        assert (await watch())[0] == "ADDED"
        balancer = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}}
        patch = {"metadata": {"annotations": {"patchedstatus": "true"}}, **balancer}
        patched = await api.patch(f"{path}/{unique}/status", patch)
        assert patched["status"]["loadBalancer"]["ingress"] == [{"ip": "203.0.113.1", "ipMode": "VIP"}]
        condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "m",
                     "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
        await api.update(
            f"{path}/{unique}/status", lambda tree: tree["status"].update(conditions=[condition])
        )
        strategic = {"spec": {"ports": [{"port": 80, "targetPort": 8080}]}}
        await api.patch(f"{path}/{unique}", strategic, kind="strategic-merge-patch+json")
        seen = [await watch() for _ in range(3)]
        assert [sort for sort, _ in seen] == ["MODIFIED"] * 3
        assert seen[1][1]["status"]["conditions"][0]["type"] == "StatusUpdate"
        assert seen[2][1]["spec"]["ports"][0]["targetPort"] == 8080
        await api.delete(f"{path}/{unique}")
        assert (await watch())[0] == "DELETED"


async def test_delete_a_collection_of_services(api):
    path = f"{api.base}/services"
    for number, kept in enumerate((True, False, False)):
        tree = service(f"s{number}")
        tree["metadata"]["labels"] = {"kept": str(kept).lower()}
        await api.post(path, tree)
    await api.delete(f"{path}?labelSelector=kept=false")
    assert [item["metadata"]["name"] for item in await api.items(path)] == ["s0"]


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
async def test_from_external_name_and_back(api, kind):
    path = f"{api.base}/services"
    await api.post(path, service("s", type="ExternalName", externalName="foo.example.com"))

    def become(tree):
        tree["spec"].pop("externalName", None)
        tree["spec"]["type"] = kind

    made = (await api.update(f"{path}/s", become))["spec"]
    assert made["clusterIP"] not in {"", "None"}
    assert made["clusterIPs"] == [made["clusterIP"]]
    assert ("nodePort" in made["ports"][0]) == (kind == "NodePort")

    def alias(tree):
        tree["spec"] |= {"type": "ExternalName", "externalName": "foo.example.com"}
        for field in ("clusterIP", "clusterIPs"):
            tree["spec"].pop(field)

    made = (await api.update(f"{path}/s", alias))["spec"]
    assert made["externalName"] == "foo.example.com"
    assert "clusterIP" not in made
    assert "nodePort" not in made["ports"][0]


async def test_session_affinity_is_switched(api):
    path = f"{api.base}/services"
    made = await api.post(path, service("s", sessionAffinity="ClientIP"))
    assert made["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    made = await api.patch(f"{path}/s", {"spec": {"sessionAffinity": "None"}})
    assert "sessionAffinityConfig" not in made["spec"]


async def endpoints_of(api, name):
    slices = await api.items(
        f"{api.within('discovery.k8s.io/v1', 'endpointslices')}?labelSelector=kubernetes.io/service-name={name}"
    )
    return {
        (end["targetRef"]["name"], port["port"])
        for piece in slices
        for end in piece.get("endpoints") or ()
        for port in piece.get("ports") or ()
        if (end.get("conditions") or {}).get("ready")
    }


async def test_endpoint_slices_follow_the_pods_of_a_service(api, pod):
    await api.post(f"{api.base}/services", service("s", selector={"app": "x"}))

    async def are(*wanted):
        async def check():
            return await endpoints_of(api, "s") == {(name, 80) for name in wanted}

        await api.until(check)

    await are()
    await api.post(f"{api.base}/pods", pod("a", labels={"app": "x"}))
    await are("a")
    await api.post(f"{api.base}/pods", pod("b", labels={"app": "x"}))
    await are("a", "b")
    await api.delete(f"{api.base}/pods/a")
    await are("b")
    found = await api.comes(f"{api.base}/endpoints/s", lambda tree: bool(tree.get("subsets")))
    assert found["subsets"][0]["addresses"][0]["targetRef"]["name"] == "b"
    await api.delete(f"{api.base}/services/s")

    async def none():
        path = api.within("discovery.k8s.io/v1", "endpointslices")
        return await api.items(f"{path}?labelSelector=kubernetes.io/service-name=s") == []

    await api.until(none)


async def test_custom_endpoints_are_mirrored(api):
    await api.post(f"{api.base}/services", service("s"))
    subset = {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"name": "http", "port": 80}]}
    await api.post(f"{api.base}/endpoints", {"metadata": {"name": "s"}, "subsets": [subset]})
    path = api.within("discovery.k8s.io/v1", "endpointslices")

    def mirrored(*addresses):
        async def check():
            found = await api.items(f"{path}?labelSelector=kubernetes.io/service-name=s")
            ours = [a for piece in found for end in piece.get("endpoints") or () for a in end["addresses"]]
            return ours == list(addresses)

        return check

    await api.until(mirrored("192.0.2.1"))
    subset["addresses"][0]["ip"] = "192.0.2.2"
    await api.patch(f"{api.base}/endpoints/s", {"subsets": [subset]})
    await api.until(mirrored("192.0.2.2"))
    await api.delete(f"{api.base}/endpoints/s")
    await api.until(mirrored())


async def test_the_lifecycle_of_an_endpoint(api):
    path = f"{api.base}/endpoints"
    subset = {"addresses": [{"ip": "192.0.2.24"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
    await api.post(path, {"metadata": {"name": "e", "labels": {"test": "static"}}, "subsets": [subset]})
    await api.update(f"{path}/e", lambda tree: tree["metadata"]["labels"].update({"test": "updated"}))
    patch = {
        "metadata": {"labels": {"test": "patched"}},
        "subsets": [{**subset, "addresses": [{"ip": "192.0.2.25"}]}],
    }
    patched = await api.patch(f"{path}/e", patch, kind="strategic-merge-patch+json")
    assert patched["subsets"][0]["addresses"] == [{"ip": "192.0.2.25"}]
    assert patched["metadata"]["labels"] == {"test": "patched"}
    await api.delete(f"{path}?labelSelector=test=patched")
    await api.get(f"{path}/e", 404)


async def test_service_cidr_and_ip_address_api_operations(api, unique):
    root = "/apis/networking.k8s.io/v1"
    cidr = {"metadata": {"name": unique, "labels": {"special": unique}}, "spec": {"cidrs": ["10.77.0.0/28"]}}
    await api.post(f"{root}/servicecidrs", cidr)

    def ready(tree):
        return any(
            c["type"] == "Ready" and c["status"] == "True"
            for c in tree.get("status", {}).get("conditions") or ()
        )

    await api.comes(f"{root}/servicecidrs/{unique}", ready)
    await api.patch(f"{root}/servicecidrs/{unique}", {"metadata": {"annotations": {"patched": "true"}}})
    status = await api.patch(f"{root}/servicecidrs/{unique}", {"spec": {"cidrs": ["10.78.0.0/28"]}}, 422)
    assert "field is immutable" in status["message"]
    made = await api.post(f"{api.base}/services", service("s", clusterIP="10.77.0.5"))
    address = await api.get(f"{root}/ipaddresses/{made['spec']['clusterIP']}")
    assert address["spec"]["parentRef"]["name"] == "s"
    await api.delete(f"{api.base}/services/s")
    await api.get(f"{root}/ipaddresses/10.77.0.5", 404)
    by_hand = {"metadata": {"name": "10.77.0.6", "labels": {"special": unique}},
               "spec": {"parentRef": {"resource": "services", "name": "t", "namespace": api.namespace}}}  # fmt: skip
    await api.post(f"{root}/ipaddresses", by_hand)
    await api.post(f"{root}/ipaddresses", {**by_hand, "metadata": {"name": "10.77.0.06"}}, 422)
    assert len(await api.items(f"{root}/ipaddresses?labelSelector=special={unique}")) == 1
    await api.delete(f"{root}/ipaddresses?labelSelector=special={unique}")
    await api.delete(f"{root}/servicecidrs/{unique}")
    await api.gone(f"{root}/servicecidrs/{unique}")


async def test_concurrent_creates_get_addresses_of_their_own(api):
    path = f"{api.base}/services"
    made = await asyncio.gather(*(api.post(path, service(f"s{n}", type="NodePort")) for n in range(40)))
    assert len({item["spec"]["clusterIP"] for item in made}) == 40
    assert len({item["spec"]["ports"][0]["nodePort"] for item in made}) == 40
    await api.delete(path)
