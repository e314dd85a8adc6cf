"""
Pods, nodes and Services of three nodes: what reaches what, and by whom it is answered.

Everything twice: over host routes, all nodes on one LAN, and over VXLAN, the nodes on two LANs with a
router between and forced to it also where they are neighbours. A client machine on each LAN knows
nothing of the cluster.
"""

import contextlib
import http.client
import json
from urllib.parse import urlsplit

import pytest

from e2e.harness import eventually, running_lab
from e2e.manifests import IMAGE
from e2e.places import Place

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

DNS = "10.96.0.10"
OTHERS = 1000
"""Services that come, change and go beside established connections."""
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
        command:
        - sh
        - -c
        - |
          mkdir -p /www/cgi-bin
          echo $NODE > /www/index.html
          printf '#!/bin/sh\\necho\\necho $NODE $REMOTE_ADDR\\n' > /www/cgi-bin/who
          chmod 755 /www/cgi-bin/who
          nc -ll -p 9000 -e cat &
          exec httpd -f -p 0.0.0.0:8080 -h /www
        env: [{{name: NODE, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}]
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
"""
SERVICES = {
    "web": {"ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    "sticky": {"ports": [{"port": 80, "targetPort": 8080}], "sessionAffinity": "ClientIP"},
    "outside": {"type": "NodePort", "ports": [{"port": 80, "targetPort": 8080}]},
    "here": {
        "type": "NodePort",
        "ports": [{"port": 80, "targetPort": 8080}],
        "externalTrafficPolicy": "Local",
    },
    "echo": {"type": "NodePort", "ports": [{"port": 9000}]},
    "udp": {"ports": [{"port": 5353, "protocol": "UDP"}]},
    "sctp": {"ports": [{"port": 3868, "protocol": "SCTP"}]},
    "each": {"clusterIP": "None", "ports": [{"name": "http", "port": 8080}]},
}


class World:
    """The lab with a web server on every node, and the places traffic starts from."""

    def __init__(self, cluster):
        self.cluster, self.lab = cluster, cluster.lab
        self.pods, self.services = {}, {}

    def fill(self):
        self.cluster.kubectl("apply", "-f", "-", stdin=WEB)
        trees = [
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": "web"}, **spec}}
            for name, spec in SERVICES.items()
        ]  # fmt: skip
        self.cluster.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, trees)))
        self.cluster.kubectl("rollout", "status", "daemonset/web", "--timeout=60s", timeout=70)
        for pod in self.cluster.json("get", "pods", "-l", "app=web")["items"]:
            node = pod["spec"]["nodeName"]
            self.pods[node] = Place(self.lab, node, pod["metadata"]["uid"], pod["status"]["podIP"])
        self.services = {
            item["metadata"]["name"]: item["spec"] for item in self.cluster.json("get", "services")["items"]
        }
        for place in self.inside:
            eventually(lambda place=place: self.answered(place), f"Services answer on {place.machine}")
        return self

    @property
    def nodes(self):
        return {node: Place(self.lab, node, address=self.lab.address(node)) for node in self.lab.names}

    @property
    def clients(self):
        return [Place(self.lab, name, address=self.lab.address(name)) for name in self.lab.clients]

    @property
    def inside(self):
        return (*self.pods.values(), *self.nodes.values())

    def answered(self, place):
        return all(
            set(place.ask("spread", self.url(name), 6)) == set(self.lab.names) for name in ("web", "outside")
        )

    def url(self, service):
        return f"http://{self.services[service]['clusterIP']}/"

    def node_port(self, service):
        return self.services[service]["ports"][0]["nodePort"]


WAYS = {"routes": 1, "vxlan": 2}
"""LANs by the way to other nodes' pods."""


@pytest.fixture(scope="module", params=WAYS)
def world(tmp_path_factory, request):
    way = request.param
    with running_lab(
        tmp_path_factory.mktemp("net"), name=f"ek-{way}", nodes=3, lans=WAYS[way], network=way
    ) as cluster:
        yield World(cluster).fill()


def test_pods_reach_pods_of_all_nodes_with_their_own_address(world):
    for source in world.pods.values():
        found = source.ask("get", *(f"http://{pod.address}:8080/cgi-bin/who" for pod in world.pods.values()))
        assert found == [f"{node} {source.address}" for node in world.pods]


def test_nodes_reach_pods_of_all_nodes(world):
    for place in world.nodes.values():
        found = place.ask("get", *(f"http://{pod.address}:8080/" for pod in world.pods.values()))
        assert found == list(world.pods)


def test_the_way_is_the_one_wished_for(world):
    ways = world.lab.run("node1", ["ip", "route"]).stdout.splitlines()
    for node in ("node2", "node3"):
        prefix = world.pods[node].address.rpartition(".")[0]
        way = next(line for line in ways if prefix in line)
        direct = f"via {world.lab.address(node)} dev eth0" in way
        assert direct == (world.lab.options.network == "routes"), way
        assert direct == ("dev eth0" in way)


def test_services_take_turns_exactly(world):
    for source in (world.pods["node1"], world.nodes["node2"]):
        counts = source.ask("spread", world.url("web"), 300)
        assert set(counts) == set(world.lab.names)
        assert all(98 <= count <= 102 for count in counts.values()), counts


def test_a_pod_reaches_itself_by_its_service(world):
    for node, pod in world.pods.items():
        assert pod.ask("spread", world.url("web"), 9) == dict.fromkeys(world.lab.names, 3), node


def test_node_ports_answer_on_every_node_from_every_lan(world):
    port = world.node_port("outside")
    for client in world.clients:
        for node in world.nodes.values():
            counts = client.ask("spread", f"http://{node.address}:{port}/", 9)
            assert set(counts) == set(world.lab.names), (client.machine, node.machine)


def test_a_local_node_port_keeps_the_clients_address(world):
    port = world.node_port("here")
    for client in world.clients:
        found = client.ask(
            "get", *(f"http://{node.address}:{port}/cgi-bin/who" for node in world.nodes.values())
        )
        assert found == [f"{node} {client.address}" for node in world.nodes]


def test_the_lan_knows_no_way_to_services_and_pods(world):
    door = f"http://{world.nodes['node1'].address}:{world.node_port('outside')}/"
    pod = f"http://{world.pods['node1'].address}:8080/"
    assert world.pods["node2"].ask("get", pod) == ["node1"]
    for client in world.clients:
        reached, *others = client.ask("get", door, world.url("web"), pod)
        assert reached in world.lab.names
        assert all("unreachable" in answer for answer in others), others


def test_datagrams_take_turns_too(world):
    with contextlib.ExitStack() as stack:
        for node, pod in world.pods.items():
            stack.enter_context(pod.serving("serve_datagrams", "5353", node))
        for source in (world.pods["node1"], world.nodes["node2"]):
            counts = source.ask("datagrams", world.services["udp"]["clusterIP"], 5353, 90)
            assert set(counts) == set(world.lab.names)
            # A port the kernel gives twice within seconds belongs to a flow that has its backend.
            assert all(28 <= count <= 32 for count in counts.values()), counts


def test_associations_take_turns_too(world):
    with contextlib.ExitStack() as stack:
        for node, pod in world.pods.items():
            stack.enter_context(pod.serving("serve_associations", "3868", node))
        for source in (world.pods["node1"], world.nodes["node2"]):
            counts = source.ask("associate", world.services["sctp"]["clusterIP"], 3868, 9)
            assert counts == dict.fromkeys(world.lab.names, 3), source.machine


def test_a_sticky_service_stays_with_its_backend(world):
    for source in world.inside:
        ((backend, count),) = source.ask("spread", world.url("sticky"), 20).items()
        # Errors are counted by `spread`, too.
        assert (backend in world.lab.names, count) == (True, 20), (source.machine, backend)


def test_traffic_stays_near_if_it_can(world):
    """trafficDistribution: node1 and node2 are in one zone, node3 is alone in another."""
    zones = {"node1": "shed", "node2": "shed", "node3": "barn"}
    trees = [
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name.lower()},
            "spec": {"selector": {"near": "yes"}, "ports": [{"port": 80, "targetPort": 8080}], "trafficDistribution": name},
        }
        for name in ("PreferSameNode", "PreferSameZone")
    ]  # fmt: skip
    names = {
        pod["spec"]["nodeName"]: pod["metadata"]["name"]
        for pod in world.cluster.json("get", "pods", "-l", "app=web")["items"]
    }
    for node, zone in zones.items():
        world.cluster.kubectl("label", "node", node, f"topology.kubernetes.io/zone={zone}")
    world.cluster.kubectl("label", "pod", *names.values(), "near=yes")
    try:
        made = world.cluster.kubectl(
            "apply", "-f", "-", "-o", "jsonpath={.items[*].spec.clusterIP}", stdin="\n---\n".join(map(json.dumps, trees))
        )  # fmt: skip
        same_node, same_zone = (f"http://{address}/" for address in made.split())
        for node, zone in zones.items():
            neighbours = [other for other, its in zones.items() if its == zone]
            for place in (world.pods[node], world.nodes[node]):
                answered_by(place, same_node, node)
                answered_by(place, same_zone, *neighbours)
        world.cluster.kubectl("label", "pod", names["node3"], "near-")
        answered_by(world.pods["node3"], same_node, "node1", "node2")
        answered_by(world.pods["node3"], same_zone, "node1", "node2")
        answered_by(world.pods["node1"], same_node, "node1")
    finally:
        world.cluster.kubectl("delete", "service", "prefersamenode", "prefersamezone", "--ignore-not-found")
        world.cluster.kubectl("label", "pod", *names.values(), "near-")
        world.cluster.kubectl("label", "node", *zones, "topology.kubernetes.io/zone-")


def answered_by(place, url, *nodes):
    """Wait until these nodes, by turns, answer at the place, and no others."""
    wanted = dict.fromkeys(nodes, 12 // len(nodes))
    eventually(
        lambda: place.ask("spread", url, 12) == wanted, f"{nodes} answer {url} on {place.machine}", seconds=30
    )


def dns_answers(world, place):
    address = world.services["web"]["clusterIP"]
    backwards = ".".join(reversed(address.split(".")))
    return place.ask(
        "resolve", DNS,
        "web.default.svc.cluster.local", "each.default.svc.cluster.local", "SRV:_http._tcp.web.default.svc.cluster.local",
        f"PTR:{backwards}.in-addr.arpa", "nobody.default.svc.cluster.local",
    )  # fmt: skip


def dns_wanted(world):
    return [
        [world.services["web"]["clusterIP"]],
        sorted(pod.address for pod in world.pods.values()),
        ["80 web.default.svc.cluster.local"],
        ["web.default.svc.cluster.local"],
        "NXDOMAIN",
    ]


def test_names_resolve_everywhere(world):
    for place in world.inside:
        assert dns_answers(world, place) == dns_wanted(world)
    pod = world.cluster.json("get", "pods", "-l", "app=web")["items"][0]["metadata"]["name"]
    for name in ("web", "web.default", "web.default.svc.cluster.local"):
        answer = world.cluster.kubectl("exec", pod, "--", "wget", "-qO-", f"http://{name}/")
        assert answer.strip() in world.lab.names


CONTENT = {"PATCH": "application/merge-patch+json"}


class Caller:
    """Many calls over one connection."""

    def __init__(self, api):
        url = urlsplit(api.access.server)
        self._line = http.client.HTTPSConnection(
            url.hostname, url.port, timeout=30, context=api.access.ssl_context()
        )
        self._token = {"Authorization": f"Bearer {api.access.token}"} if api.access.token else {}

    def call(self, method, path, body=None):
        headers = {**self._token, "Content-Type": CONTENT.get(method, "application/json")}
        self._line.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = self._line.getresponse()
        data = answer.read()
        assert answer.status < 300, data
        return json.loads(data)

    def close(self):
        self._line.close()


def test_a_connection_lives_on_while_other_services_come_and_go(world):
    echo, node = world.services["echo"], world.nodes["node2"]
    path = "/api/v1/namespaces/default/services"
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}
    inside = world.pods["node1"].going_on("hold", echo["clusterIP"], 9000, 0.02, first=True)
    outside = world.clients[0].going_on("hold", node.address, world.node_port("echo"), 0.02, first=True)
    with inside as one, outside as other, contextlib.closing(Caller(world.lab.api())) as caller:
        made = [
            caller.call("POST", path, {"metadata": {"name": f"other-{number}"}, "spec": spec})["spec"]["clusterIP"]
            for number in range(OTHERS)
        ]  # fmt: skip
        for place in (world.pods["node1"], node):
            eventually(
                lambda place=place: place.ask("get", f"http://{made[-1]}/")[0] in world.lab.names,
                f"the last Service answers on {place.machine}",
            )
        for number in range(0, OTHERS, 4):
            change = {"spec": {"sessionAffinity": "ClientIP"}}
            caller.call("PATCH", f"{path}/other-{number}", change)
        for number in range(OTHERS):
            caller.call("DELETE", f"{path}/other-{number}")
        eventually(
            lambda: world.nodes["node1"].ask("get", f"http://{made[-1]}/")[0] not in world.lab.names,
            "the last Service is gone",
        )
        assert world.answered(world.nodes["node1"])
    for said in (one, other):
        assert said[-1]["error"] is None
        assert said[-1]["lines"] > 20
    assert len(set(made)) == OTHERS


def test_services_and_names_work_without_the_master(world):
    world.lab.power("master", "off")
    try:
        for place in world.inside:
            assert dns_answers(world, place) == dns_wanted(world)
            assert place.ask("spread", world.url("web"), 9) == dict.fromkeys(world.lab.names, 3)
    finally:
        world.lab.power("master", "on")
    world.lab.wait_ready(world.lab.names)


def test_a_flushed_table_is_back_in_seconds(world):
    """Somebody's `nft flush ruleset`, on a node alone: Services, NodePorts and names work again."""
    node = world.lab.run("node1", ["nft", "list", "tables"]).stdout
    assert "edgekube" in node
    assert world.lab.run("node1", ["nft", "flush", "ruleset"]).returncode == 0
    eventually(lambda: world.answered(world.pods["node1"]), "Services answer again")
    assert dns_answers(world, world.pods["node1"]) == dns_wanted(world)


def test_a_node_with_a_new_address_is_followed(world):
    """As DHCP gives another one: its neighbour, and who comes by the tunnel, reach its pods again."""
    old, new = world.lab.address("node3"), "10.50.0.112"
    script = f"ip address delete {old}/24 dev eth0 && ip address add {new}/24 dev eth0" + "".join(
        f" && ip route replace {net} via {by}" for net, by in world.lab.places["node3"].routes
    )
    assert world.lab.run("node3", ["sh", "-c", script]).returncode == 0
    target = f"http://{world.pods['node3'].address}:8080/"
    for node in ("node1", "node2"):
        place = world.pods[node]
        eventually(lambda place=place: place.ask("get", target) == ["node3"], f"{node} reaches node3's pods")
    assert all(world.answered(place) for place in world.inside)
    node = world.cluster.json("get", "node", "node3")
    assert {"type": "InternalIP", "address": new} in node["status"]["addresses"]
