"""The recipes of `policy_recipes` by real traffic: between two nodes, by Services, from and to the LAN."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from e2e import netpeer
from e2e.harness import eventually, running_lab
from e2e.manifests import IMAGE, STAY
from e2e.places import Place
from e2e.policy_recipes import (
    CLIENT,
    CLOSED,
    DENY,
    LAN,
    NAMESPACES,
    OUT_DNS,
    PODS,
    PORTS,
    RECIPES,
    SERVED,
    SERVICE,
    Step,
    from_web,
    to_web,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

OPEN = Step()
SHORTEST, LONGEST, SURE = 0.15, 3.0, 0.3
"""Seconds an answer may take: at first, after many rounds, and at least when all are asked for the last time."""
MERGE = "application/merge-patch+json"
PROBE = (sys.executable, "-I", "-S", str(Path(netpeer.__file__)))


class Talker:
    """A running `netpeer`."""

    def __init__(self, lab, machine, name, *, uid="", ports):
        inside = ("nsenter", f"--net=/run/netns/ek-{uid}") if uid else ()
        line = lab.command(machine, [*inside, *PROBE, name, *ports])
        self._process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, *order):
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def hear(self):
        line = self._process.stdout.readline()
        assert line, "the peer ended"
        return json.loads(line)

    def ask(self, *order):
        self.tell(*order)
        return self.hear()

    def close(self):
        # It ends with its input.
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


class Village:
    """The lab with the recipes' pods, in each a peer that asks and answers."""

    def __init__(self, cluster):
        self.cluster, self.lab, self.api = cluster, cluster.lab, cluster.lab.api()
        self.uids, self.talkers, self.where, self.doors = {}, {}, {}, {}

    def open(self, stack):
        for name, labels in NAMESPACES.items():
            self.api.json("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        for name in NAMESPACES:
            path = f"/api/v1/namespaces/{name}/serviceaccounts"
            eventually(lambda path=path: self.api.json("GET", path)["items"], f"{name} has its account")
        for name in PODS:
            self.api.json("POST", self.path(name).rpartition("/")[0], pod(name))
        for name in SERVED:
            self.api.json("POST", "/api/v1/namespaces/shop/services", service(name))
        for name, (_, node, _, _) in PODS.items():
            found = eventually(lambda name=name: self.running(name), f"{name} runs")
            self.uids[name] = found["metadata"]["uid"]
            self.host(name, found["status"]["podIP"])
            self.start(stack, name, node, uid=self.uids[name])
        (client,) = self.lab.clients
        assert self.lab.address(client) == CLIENT
        self.host(LAN, CLIENT)
        self.start(stack, LAN, client)
        for talker in self.talkers.values():
            assert talker.hear() == "listening"
        for name in SERVED:
            spec = self.api.json("GET", f"/api/v1/namespaces/shop/services/{name}")["spec"]
            self.where[name, SERVICE] = ("tcp", spec["clusterIP"], 80)
            node = PODS[name][1]
            self.doors[name, SERVICE] = ("tcp", self.lab.address(node), spec["ports"][0]["nodePort"])
        return self

    def host(self, name, address):
        for port, place in PORTS.items():
            protocol, number = place.split("/")
            self.where[name, port] = (protocol, address, int(number))

    def start(self, stack, name, machine, *, uid=""):
        self.talkers[name] = Talker(self.lab, machine, name, uid=uid, ports=PORTS.values())
        stack.callback(self.talkers[name].close)

    def path(self, name):
        return f"/api/v1/namespaces/{PODS[name][0]}/pods/{name}"

    def running(self, name):
        found = self.api.json("GET", self.path(name))
        return found if found.get("status", {}).get("phase") == "Running" else None

    def targets(self, source):
        """Where `source` can try: the LAN knows no way to pods, but their Services' node ports."""
        return self.doors if source == LAN else self.where

    def reached(self, patience):
        """Return all (source, pod, port) that get the answer of whom they ask within so many seconds."""
        for source, talker in self.talkers.items():
            targets = {" ".join(target): place for target, place in self.targets(source).items()}
            talker.tell("reach", targets, patience)
        found = set()
        for source, talker in self.talkers.items():
            for target, answer in talker.hear().items():
                name, port = target.split()
                assert answer in {None, name}, f"{source} asks {name} at {port} and {answer} answers"
                if answer:
                    found.add((source, name, port))
        return found

    def wanted(self, step):
        return {
            (source, *target)
            for source in self.talkers
            for target in self.targets(source)
            if step.lets(source, *target)
        }

    def expect(self, step):
        """Wait until all reach whom they are to reach after the step, and nobody else, and that is no moment's chance."""
        wanted, seen, patience = self.wanted(step), set(), SHORTEST

        def settled():
            nonlocal seen, patience
            seen = self.reached(patience)
            if seen == wanted:
                seen = self.reached(max(patience, SURE))
            patience = min(patience * 1.3, LONGEST)
            return seen == wanted

        with contextlib.suppress(pytest.fail.Exception):
            eventually(settled, "", seconds=45)
        missing, wrong = sorted(wanted - seen), sorted(seen - wanted)
        assert not missing and not wrong, f"not reached: {missing}; reached: {wrong}"

    def do(self, step):
        for policy in step.put:
            kind = f"/apis/networking.k8s.io/v1/namespaces/{policy.namespace}/networkpolicies"
            held = [item["metadata"]["name"] for item in self.api.json("GET", kind)["items"]]
            tree = {"metadata": {"name": policy.name}, "spec": policy.spec}
            way = ("PUT", f"{kind}/{policy.name}") if policy.name in held else ("POST", kind)
            self.api.json(*way, tree)
        for name in step.delete:
            self.api.json("DELETE", f"/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/{name}")
        for name, labels in step.label.items():
            self.relabel(name, labels)

    def relabel(self, name, labels):
        path = f"/api/v1/namespaces/{name.partition('/')[2]}" if "/" in name else self.path(name)
        self.api.json("PATCH", path, {"metadata": {"labels": labels}}, content_type=MERGE)

    def undo(self, steps=()):
        """All as it was, and everybody reaches everybody."""
        for name in NAMESPACES:
            kind = f"/apis/networking.k8s.io/v1/namespaces/{name}/networkpolicies"
            for item in self.api.json("GET", kind)["items"]:
                self.api.json("DELETE", f"{kind}/{item['metadata']['name']}")
        for name in {name for step in steps for name in step.label}:
            self.relabel(name, NAMESPACES[name.partition("/")[2]] if "/" in name else PODS[name][2])
        self.expect(OPEN)


def pod(name):
    _, node, labels, http = PODS[name]
    ports = [{"name": "http", "containerPort": http}]
    container = {"name": "main", "image": IMAGE, "command": STAY, "ports": ports}
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container]}
    return {"metadata": {"name": name, "labels": {**labels, "pod": name}}, "spec": spec}


def service(name):
    spec = {
        "type": "NodePort",
        "externalTrafficPolicy": "Local",
        "selector": {"pod": name},
        "ports": [{"port": 80, "targetPort": 8080}],
    }
    return {"metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module", params=["routes", "vxlan"])
def village(tmp_path_factory, request):
    directory = tmp_path_factory.mktemp("recipes")
    with (
        running_lab(directory, name="ek-rec", nodes=2, network=request.param) as cluster,
        contextlib.ExitStack() as stack,
    ):
        made = Village(cluster).open(stack)
        made.undo()
        yield made


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(village, name):
    steps = RECIPES[name]
    before = village.wanted(OPEN)
    try:
        for step in steps:
            # Equal ones could be seen before anything came into force.
            assert village.wanted(step) != before, "the step changes nothing"
            village.do(step)
            village.expect(step)
            before = village.wanted(step)
    finally:
        village.undo(steps)


def test_connections_that_live_outlive_a_policy(village):
    kept = (("db", "web", "http"), ("api", "web", SERVICE), ("lan", "web", SERVICE), ("page", "api", "http"))
    for source, *target in kept:
        _, host, port = village.targets(source)[tuple(target)]
        assert village.talkers[source].ask("open", target[0], host, port) == target[0]
    try:
        village.do(CLOSED)
        village.expect(CLOSED)
        for source, target, _ in kept:
            assert village.talkers[source].ask("talk", 10) == {target: True}
    finally:
        village.undo()


def test_names_resolve_for_a_pod_that_may_send_nothing_but_dns(village):
    place = Place(village.lab, PODS["web"][1], village.uids["web"])
    wanted = [[village.where["web", SERVICE][1]], "NXDOMAIN"]
    try:
        village.do(Step(put=(from_web(OUT_DNS),)))
        village.expect(RECIPES["deny egress but for DNS"][0])
        names = ("web.shop.svc.cluster.local", "nobody.shop.svc.cluster.local")
        assert place.ask("resolve", "10.96.0.10", *names) == wanted
    finally:
        village.undo()


def test_a_policy_is_in_force_where_the_pod_is_and_nowhere_else(village):
    """Two policies of two nodes' pods, one deleted: the other one stays."""
    try:
        both = Step(put=(DENY,), reach=CLOSED.reach)
        village.do(both)
        village.expect(both)
        one = Step(put=(to_web(),), delete=("deny",), reach={"web": ""})
        village.do(one)
        village.expect(one)
    finally:
        village.undo()
