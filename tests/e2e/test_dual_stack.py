"""
Both IP families, in pods, Services, names and load balancers; three nodes on two LANs that choose their ways.

node1 and node3 share a LAN (host routes), node2 is behind a router (VXLAN).
"""

import ipaddress
import json

import pytest

from e2e.harness import eventually, running_lab
from e2e.manifests import IMAGE
from e2e.places import Place

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

DNS = "10.96.0.10"
POOL = "10.50.0.240-10.50.0.249, fd00:50:0::240-fd00:50:0::249"
WEB = f"""
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {IMAGE}
        command: [sh, -c, "mkdir -p /www; echo $NODE > /www/index.html; exec httpd -f -p '[::]:8080' -h /www"]
        env: [{{name: NODE, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
"""
SERVICES = {
    "both": {"ipFamilyPolicy": "RequireDualStack", "type": "NodePort"},
    "six": {"ipFamilies": ["IPv6"]},
    "four": {},
    "sticky": {"ipFamilies": ["IPv6"], "sessionAffinity": "ClientIP"},
    "each": {"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"},
    "lan": {"ipFamilyPolicy": "PreferDualStack", "type": "LoadBalancer"},
}


def url(address, port=80):
    return f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"


class World:
    """The lab with a web server on every node that listens on both families."""

    def __init__(self, cluster):
        self.cluster, self.lab = cluster, cluster.lab
        self.pods, self.addresses = {}, {}

    def fill(self):
        pool = {
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"pool.default": POOL},
            "metadata": {"name": "cloud-config", "namespace": "kube-system"},
        }  # fmt: skip
        trees = [pool] + [
            {
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}], **spec},
            }
            for name, spec in SERVICES.items()
        ]  # fmt: skip
        self.cluster.kubectl("apply", "-f", "-", stdin=WEB)
        self.cluster.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, trees)))
        self.cluster.kubectl("rollout", "status", "daemonset/web", "--timeout=60s", timeout=70)
        for pod in self.cluster.json("get", "pods", "-l", "app=web")["items"]:
            node = pod["spec"]["nodeName"]
            self.addresses[node] = [entry["ip"] for entry in pod["status"]["podIPs"]]
            self.pods[node] = Place(self.lab, node, pod["metadata"]["uid"], self.addresses[node][0])
        for place in (*self.pods.values(), *self.nodes):
            eventually(
                lambda place=place: (
                    set(place.ask("spread", url(self.ips("both")[1]), 6)) == set(self.lab.names)
                ),
                f"the IPv6 Service answers on {place.machine}",
            )
        return self

    @property
    def nodes(self):
        return [Place(self.lab, node, address=self.lab.address(node)) for node in self.lab.names]

    @property
    def client(self):
        return Place(self.lab, self.lab.clients[0])

    def service(self, name):
        return self.cluster.json("get", "service", name)

    def ips(self, name):
        return self.service(name)["spec"]["clusterIPs"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    directory = tmp_path_factory.mktemp("dual")
    with running_lab(directory, name="ek-dual", nodes=3, lans=2, dual_stack=True) as cluster:
        yield World(cluster).fill()


def families(addresses):
    return [ipaddress.ip_address(address).version for address in addresses]


def test_everybody_has_the_addresses_wished_for(world):
    assert all(families(addresses) == [4, 6] for addresses in world.addresses.values())
    wanted = {"both": [4, 6], "six": [6], "four": [4], "sticky": [6], "lan": [4, 6]}
    assert {name: families(world.ips(name)) for name in wanted} == wanted
    assert world.ips("each") == ["None"]
    for name in world.lab.names:
        node = world.cluster.json("get", "node", name)
        inside = [item["address"] for item in node["status"]["addresses"] if item["type"] == "InternalIP"]
        assert families(inside) == [4, 6]


def test_pods_reach_pods_of_all_nodes_by_both(world):
    for source in world.pods.values():
        for family in (0, 1):
            targets = [url(addresses[family], 8080) for addresses in world.addresses.values()]
            assert source.ask("get", *targets) == list(world.addresses)


def test_neighbours_take_the_lan_and_others_the_tunnel(world):
    for family, flag in ((0, "-4"), (1, "-6")):
        for node, direct in (("node2", False), ("node3", True)):
            said = world.lab.run("node1", ["ip", flag, "route", "get", world.addresses[node][family]])
            assert ("dev eth0" in said.stdout) == direct, said.stdout


def test_services_take_turns_exactly(world):
    for source in (world.pods["node1"], world.nodes[1]):
        for address in (*world.ips("both"), *world.ips("six")):
            counts = source.ask("spread", url(address), 60)
            assert counts == dict.fromkeys(world.lab.names, 20), (source.machine, address)


def test_a_pod_reaches_itself_by_its_service(world):
    for pod in world.pods.values():
        counts = pod.ask("spread", url(world.ips("six")[0]), 9)
        assert counts == dict.fromkeys(world.lab.names, 3), pod.machine


def test_a_sticky_service_stays_with_its_backend(world):
    for place in (*world.pods.values(), *world.nodes):
        ((backend, count),) = place.ask("spread", url(world.ips("sticky")[0]), 10).items()
        # Errors are counted by `spread`, too.
        assert (backend in world.lab.names, count) == (True, 10), (place.machine, backend)


def test_node_ports_answer_by_both_from_the_lan(world):
    port = world.service("both")["spec"]["ports"][0]["nodePort"]
    for node in world.lab.names:
        cable = world.lab.places[node].cables[0]
        for address in (cable.address, cable.address6):
            counts = world.client.ask("spread", url(address, port), 9)
            assert set(counts) == set(world.lab.names), (node, address)


def test_names_have_the_addresses_of_their_families(world):
    suffix = "default.svc.cluster.local"
    both, six = world.ips("both"), world.ips("six")
    backwards = ipaddress.ip_address(six[0]).reverse_pointer
    found = world.pods["node1"].ask(
        "resolve", DNS, f"both.{suffix}", f"AAAA:both.{suffix}", f"AAAA:six.{suffix}", f"six.{suffix}",
        f"AAAA:four.{suffix}", f"each.{suffix}", f"AAAA:each.{suffix}", f"PTR:{backwards}",
    )  # fmt: skip
    pods = [sorted(addresses[family] for addresses in world.addresses.values()) for family in (0, 1)]
    assert found == [
        [both[0]], [both[1]], six, [], [], pods[0], pods[1], [f"six.{suffix}"],
    ]  # fmt: skip


def test_policies_judge_both_families(world):
    """Nothing in; then by one family only, from a pod's own address, or its LAN's; over the LAN and the tunnel."""
    target = [url(address, 8080) for address in world.addresses["node1"]]
    lan = world.client

    def expect(*found):
        wanted = [["node1" if answered else None for answered in pair] for pair in found]
        sources = (world.pods["node2"], world.pods["node3"])
        seen = []

        def equal():
            seen.append([source.ask("knock", 0.5, *target) for source in sources])
            return seen[-1] == wanted

        eventually(equal, f"{wanted} is seen", seconds=40)

    def put(*rules):
        spec = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": rules}
        meta = {"name": "both"}
        tree = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}
        world.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(tree))

    def block(cidr, *holes):
        return {"from": [{"ipBlock": {"cidr": cidr, "except": holes}}]}

    try:
        expect((True, True), (True, True))
        put()
        expect((False, False), (False, False))
        put({"from": [{"podSelector": {}}]})
        expect((True, True), (True, True))
        put(block(f"{world.addresses['node2'][1]}/128"))
        expect((False, True), (False, False))
        put(block("::/0", f"{world.addresses['node2'][1]}/128"), block(f"{world.addresses['node3'][0]}/32"))
        expect((False, False), (True, True))
        port = world.service("both")["spec"]["ports"][0]["nodePort"]
        cable = world.lab.places["node1"].cables[0]
        put(block(f"{world.lab.places[lan.machine].cables[0].address6}/128"))
        expect((False, False), (False, False))
        # By turns all backends are asked; those of other nodes by this node's address, which is not let in there.
        four, six = ([url(address, port)] * 3 for address in (cable.address, cable.address6))
        eventually(lambda: "node1" in lan.ask("knock", 0.5, *six), "the LAN is let in by IPv6")
        assert lan.ask("knock", 0.5, *four) == [None] * 3
    finally:
        world.cluster.kubectl("delete", "networkpolicy", "both", "--ignore-not-found")
    expect((True, True), (True, True))


def test_a_load_balancer_is_reached_by_both_and_moves_when_its_speaker_dies(world):
    def given():
        balancer = world.service("lan")["status"]["loadBalancer"]
        return [item["ip"] for item in balancer.get("ingress", ())]

    def speaker():
        return world.service("lan")["metadata"].get("annotations", {}).get("edgekube.io/announced-by")

    def answers(address):
        return set(world.client.ask("spread", url(address), 6)) <= set(world.lab.names)

    eventually(lambda: families(given()) == [4, 6], "it has an address of each family")
    for address in given():
        eventually(lambda address=address: answers(address), f"{address} answers on the LAN")
    first = speaker()
    world.lab.power(first, "off")
    try:
        eventually(lambda: speaker() not in {None, first}, "another node speaks for it", seconds=90)
        for address in given():
            eventually(lambda address=address: answers(address), f"{address} answers again")
    finally:
        world.lab.power(first, "on")
    world.lab.wait_ready(world.lab.names)
