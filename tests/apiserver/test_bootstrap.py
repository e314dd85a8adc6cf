"""What a new cluster starts with."""

from edgekube.apiserver.bootstrap import BootstrapConfig, bootstrap
from edgekube.apiserver.identity import User
from edgekube.client.typed import Client

ADMIN = User("admin", ("system:masters",))


async def test_again_is_harmless_and_writes_nothing(api):
    client = Client(api.server.local(ADMIN))
    before = await api.server.parts.registry.storage._store.revision()
    await bootstrap(client, BootstrapConfig(address="192.0.2.1", service_cidr="10.43.0.0/24"))
    assert await api.server.parts.registry.storage._store.revision() == before


async def test_a_moved_server_moves_its_endpoints(api):
    config = BootstrapConfig(address="192.0.2.9", port=7443, service_cidr="10.43.0.0/24")
    await bootstrap(Client(api.server.local(ADMIN)), config)
    endpoints = await api.get("/api/v1/namespaces/default/endpoints/kubernetes")
    (subset,) = endpoints["subsets"]
    assert (subset["addresses"][0]["ip"], subset["ports"][0]["port"]) == ("192.0.2.9", 7443)
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
    assert (await api.get(path))["endpoints"][0]["addresses"] == ["192.0.2.9"]


async def test_the_namespaces(api):
    found = await api.get("/api/v1/namespaces")
    assert {item["metadata"]["name"] for item in found["items"]} == {
        "default", "kube-node-lease", "kube-public", "kube-system",
    }  # fmt: skip
    for item in found["items"]:
        assert item["status"]["phase"] == "Active"
        assert item["metadata"]["labels"]["kubernetes.io/metadata.name"] == item["metadata"]["name"]
