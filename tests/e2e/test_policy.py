"""
What else is asked of NetworkPolicies on two nodes: pods that stay ready, what kubectl says, days without the master.

The recipes are in `test_policy_recipes`.
"""

import json

import pytest

from e2e.harness import eventually, running_lab
from edgekube.app import demo
from edgekube.app.lab import MASTER

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

POLICIES = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies"
PODS = {
    # namespace/name: node, labels
    "shop/web": ("node1", {"app": "web"}),
    "shop/friend": ("node2", {"role": "friend"}),
    "shop/stranger": ("node1", {"role": "stranger"}),
    "other/visitor": ("node2", {"role": "friend"}),
}
SERVICE = "web's Service"
OUTSIDE = "outside"
ASK = """
import json, socket, sys, threading
answers = {}
def ask(name, host, port):
    try:
        socket.create_connection((host, port), 0.7).close()
        answers[name] = True
    except OSError:
        answers[name] = False
threads = [threading.Thread(target=ask, args=(n, *where)) for n, where in json.loads(sys.argv[1]).items()]
for t in threads: t.start()
for t in threads: t.join()
print(json.dumps(answers))
"""


class Shop:
    """The lab, and who reaches whom in it."""

    def __init__(self, lab):
        self.cluster, self.lab, self.api = lab, lab.lab, lab.lab.api()
        self.uids, self.targets = {}, {}

    def open(self):
        for name in ("shop", "other"):
            tree = {"metadata": {"name": name, "labels": {"team": name}}}
            self.api.json("POST", "/api/v1/namespaces", tree)
        for name, (node, labels) in PODS.items():
            namespace, bare = name.split("/")
            eventually(lambda ns=namespace: self._has_account(ns), f"{namespace} has its account")
            self.api.json("POST", f"/api/v1/namespaces/{namespace}/pods", pod(bare, node, labels))
        spec = {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}
        self.api.json("POST", "/api/v1/namespaces/shop/services", {"metadata": {"name": "web"}, "spec": spec})
        for name in PODS:
            found = eventually(lambda name=name: self.ready(name), f"{name} is ready")
            self.uids[name] = found["metadata"]["uid"]
            self.targets[name] = (found["status"]["podIP"], 8080)
        service = self.api.json("GET", "/api/v1/namespaces/shop/services/web")["spec"]
        self.targets[SERVICE] = (service["clusterIP"], 80)
        self.targets[OUTSIDE] = (MASTER, 6443)
        self.node_port = (self.lab.address("node1"), service["ports"][0]["nodePort"])

    def _has_account(self, namespace):
        items = self.api.json("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts")["items"]
        return any(item["metadata"]["name"] == "default" for item in items)

    def ready(self, name):
        namespace, bare = name.split("/")
        found = self.api.json("GET", f"/api/v1/namespaces/{namespace}/pods/{bare}")
        conditions = {c["type"]: c["status"] for c in found.get("status", {}).get("conditions", ())}
        return found if conditions.get("Ready") == "True" else None

    def apply(self, name, **spec):
        tree = {"metadata": {"name": name}, "spec": {"podSelector": {}, **spec}}
        self.api.json("POST", POLICIES, tree)

    def clear(self):
        for item in self.api.json("GET", POLICIES)["items"]:
            self.api.json("DELETE", f"{POLICIES}/{item['metadata']['name']}")

    def reached_by(self, source, *, itself=False):
        """Return what a pod reaches (OUTSIDE: a machine of the LAN, by the node port)."""
        if source == OUTSIDE:
            node, command, targets = "master", [], {SERVICE: self.node_port}
        else:
            node = PODS[source][0]
            command = ["nsenter", f"--net=/run/netns/ek-{self.uids[source]}"]
            targets = {name: where for name, where in self.targets.items() if itself or name != source}
        out = self.lab.run(node, [*command, "python3", "-c", ASK, json.dumps(targets)])
        assert out.returncode == 0, out.stderr
        return {name for name, answered in json.loads(out.stdout).items() if answered}

    def expect(self, source, *names):
        """Wait until the source reaches exactly these."""
        seen = []

        def equal():
            seen.append(self.reached_by(source))
            return seen[-1] == set(names)

        try:
            eventually(equal, "", seconds=30)
        except BaseException as error:
            raise AssertionError(f"{source} reaches {seen[-1]} instead of {set(names)}") from error


def pod(name, node, labels):
    container = {
        "name": "main",
        "image": demo.IMAGE,
        "command": ["sh", "-c", "mkdir /www; echo hi > /www/index.html; exec httpd -f -p 8080 -h /www"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {
            "httpGet": {"path": "/", "port": "http"},
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
    }
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container]}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


WEB, FRIEND, STRANGER, VISITOR = PODS
EVERYTHING = {*PODS, SERVICE, OUTSIDE}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with running_lab(tmp_path_factory.mktemp("lab"), name="ek-pol", nodes=2) as made:
        yield made


@pytest.fixture(scope="module")
def furnished(lab):
    shop = Shop(lab)
    shop.open()
    return shop


@pytest.fixture
def shop(furnished):
    yield furnished
    furnished.clear()


def test_without_policies_everybody_reaches_everybody(shop):
    for source in PODS:
        shop.expect(source, *(EVERYTHING - {source}))
    shop.expect(OUTSIDE, SERVICE)


def test_default_deny_then_by_label_then_open_again(shop):
    shop.apply("deny")
    shop.expect(VISITOR, OUTSIDE)
    shop.expect(STRANGER, VISITOR, OUTSIDE)
    shop.expect(OUTSIDE)
    # A pod reaches itself, and its kubelet reaches it: it stays ready.
    shop.expect(WEB, VISITOR, OUTSIDE, SERVICE)
    assert shop.ready(WEB)
    rule = {"from": [{"podSelector": {"matchLabels": {"role": "friend"}}}], "ports": [{"port": "http"}]}
    shop.apply("friends", podSelector={"matchLabels": {"app": "web"}}, ingress=[rule])
    said = shop.cluster.kubectl("-n", "shop", "describe", "networkpolicy", "friends")
    for line in (
        "PodSelector:     app=web",
        "To Port: http/TCP",
        "PodSelector: role=friend",
        "Policy Types: Ingress",
    ):
        assert line in said, said
    shop.expect(FRIEND, WEB, SERVICE, VISITOR, OUTSIDE)
    shop.expect(STRANGER, VISITOR, OUTSIDE)
    shop.expect(VISITOR, OUTSIDE)
    # A pod that changes its labels becomes a friend.
    patch(shop, STRANGER, "friend")
    shop.expect(STRANGER, WEB, SERVICE, VISITOR, OUTSIDE)
    patch(shop, STRANGER, "stranger")
    shop.expect(STRANGER, VISITOR, OUTSIDE)
    shop.clear()
    shop.expect(VISITOR, *(EVERYTHING - {VISITOR}))
    shop.expect(OUTSIDE, SERVICE)


def patch(shop, name, role):
    namespace, bare = name.split("/")
    where = f"/api/v1/namespaces/{namespace}/pods/{bare}"
    found = shop.api.json("GET", where)
    found["metadata"]["labels"]["role"] = role
    shop.api.json("PUT", where, found)


def test_policies_hold_without_the_master_and_come_back_when_flushed(shop):
    shop.apply("deny", podSelector={"matchLabels": {"app": "web"}})
    shop.expect(STRANGER, FRIEND, VISITOR, OUTSIDE)
    shop.lab.link("node1", "down")
    try:
        assert shop.lab.run("node1", ["nft", "flush", "ruleset"]).returncode == 0
        eventually(
            lambda: "edgekube-policies" in shop.lab.run("node1", ["nft", "list", "tables"]).stdout, "rules"
        )
        assert WEB not in shop.reached_by(STRANGER)
    finally:
        shop.lab.link("node1", "up")
    eventually(lambda: shop.api.node_ready("node1"), "the node is back", seconds=100)


def test_a_node_that_starts_without_the_master_enforces_what_it_knows(shop):
    shop.apply("deny", podSelector={"matchLabels": {"app": "web"}})
    shop.expect(STRANGER, FRIEND, VISITOR, OUTSIDE)
    lab = shop.lab
    lab.cut_power("node1")
    lab.start_node("node1", plugged=False)
    for name in (WEB, STRANGER):
        # They may have other addresses now, and nobody can tell the master.
        found = eventually(lambda name=name: address(shop, name), f"{name} is up again")
        shop.targets[name] = (found, 8080)
    eventually(lambda: WEB in shop.reached_by(WEB, itself=True), "the web server listens")
    assert WEB not in shop.reached_by(STRANGER)
    lab.plug("node1")
    eventually(lambda: shop.api.node_ready("node1"), "the node is back", seconds=100)


def address(shop, name):
    command = [
        "nsenter",
        f"--net=/run/netns/ek-{shop.uids[name]}",
        "ip",
        "-4",
        "-o",
        "address",
        "show",
        "dev",
        "eth0",
    ]
    words = shop.lab.run(PODS[name][0], command).stdout.split()
    return words[words.index("inet") + 1].split("/")[0] if "inet" in words else ""
