"""
The well-known recipes of NetworkPolicy: what is applied step by step, and who reaches whom after each step.

Namespace `shop` (purpose=testing): `web` (app=web), `api` (app=bookstore, role=api) and `db` (app=bookstore, role=db);
`prod` (purpose=production, team=operations): `page` (app=web) and `monitor` (type=monitoring); `lan` is a machine of
the LAN, 10.50.0.250. All listen at the ports of `PORTS`; `web` and `api` have a Service each, whose port 80 is `http`.
A container port is named http, too: 8080, but 8081 of `api`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

PORTS = {"http": "tcp/8080", "admin": "tcp/8081", "high": "tcp/8090", "dns": "udp/53"}
PODS = {
    # name: namespace, node, labels, its port named http
    "web": ("shop", "node1", {"app": "web"}, 8080),
    "api": ("shop", "node2", {"app": "bookstore", "role": "api"}, 8081),
    "db": ("shop", "node1", {"app": "bookstore", "role": "db"}, 8080),
    "page": ("prod", "node2", {"app": "web"}, 8080),
    "monitor": ("prod", "node1", {"type": "monitoring"}, 8080),
}
NAMESPACES = {"shop": {"purpose": "testing"}, "prod": {"purpose": "production", "team": "operations"}}
LAN, CLIENT, SERVICE = "lan", "10.50.0.250", "service"
SERVED = ("web", "api")
"""Pods with a Service of that name."""
ALL = f"{' '.join(PODS)} {LAN}"


class Policy(NamedTuple):
    """A NetworkPolicy."""

    namespace: str
    name: str
    spec: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is done, and then: `reach`: who reaches a `pod` or `pod:port`; `sends`: all that a pod reaches."""

    put: tuple[Policy, ...] = ()
    delete: tuple[str, ...] = ()
    label: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """Labels by pod or `namespace/…`; None takes one away."""
    reach: Mapping[str, str] = field(default_factory=dict)
    sends: Mapping[str, str] = field(default_factory=dict)

    def lets(self, source: str, pod: str, port: str) -> bool:
        """Tell whether `source` is to reach this port of `pod`."""
        port = "http" if port == SERVICE else port
        if source == pod:
            return True
        came = self.reach.get(f"{pod}:{port}", self.reach.get(pod, ALL)).split()
        went = self.sends.get(source, ALL).split()
        return source in came and (pod in went or f"{pod}:{port}" in went)


def policy(name="policy", namespace="shop", **spec):
    return Policy(namespace, name, {"podSelector": {}, **spec})


def sel(**labels):
    return {"matchLabels": labels}


def key(name, operator, *values):
    return {
        "matchExpressions": [{"key": name, "operator": operator, **({"values": values} if values else {})}]
    }


def to_web(*rules, name="policy"):
    return policy(name, podSelector=sel(app="web"), policyTypes=["Ingress"], ingress=rules)


def from_web(*rules):
    return policy(podSelector=sel(app="web"), policyTypes=["Egress"], egress=rules)


def pods(**labels):
    return {"podSelector": sel(**labels)}


def spaces(**labels):
    return {"namespaceSelector": sel(**labels)}


def block(cidr, *holes):
    return {"ipBlock": {"cidr": cidr, **({"except": holes} if holes else {})}}


def came(*peers, **more):
    return {"from": peers, **more}


def goes(*peers, **more):
    return {"to": peers, **more}


def at(port, **more):
    return {"port": port, **more}


EVERYWHERE = {"namespaceSelector": {}}
DENY = policy("deny", policyTypes=["Ingress"])
CLOSED = Step(put=(DENY,), reach={"web": "", "api": "", "db": ""})
OUT_DNS = goes(ports=[at(53, protocol="UDP"), at(53, protocol="TCP")])
OTHERS = "api db page monitor"
"""All other pods of `web`."""
RECIPES: Mapping[str, tuple[Step, ...]] = {
    "deny all traffic to an application": (Step(put=(to_web(),), reach={"web": ""}),),
    "limit traffic to an application": (
        Step(
            put=(policy(podSelector=sel(role="api"), ingress=[came(pods(app="bookstore"))]),),
            reach={"api": "db"},
        ),
    ),
    "deny all in a namespace, then allow all to an application": (
        CLOSED,
        Step(put=(to_web({}),), reach={"api": "", "db": ""}),
        Step(delete=("policy",), reach=CLOSED.reach),
    ),
    "deny from other namespaces": (
        Step(
            put=(policy(ingress=[came({"podSelector": {}})]),),
            reach=dict.fromkeys(("web", "api", "db"), "web api db"),
        ),
    ),
    "allow from all namespaces": (
        Step(put=(DENY, to_web(came(EVERYWHERE))), reach={**CLOSED.reach, "web": f"web {OTHERS}"}),
    ),
    "allow from a namespace by its label, which changes": (
        Step(put=(to_web(came(spaces(purpose="production"))),), reach={"web": "page monitor"}),
        Step(label={"namespace/prod": {"purpose": "none"}}, reach={"web": ""}),
        Step(label={"namespace/shop": {"purpose": "production"}}, reach={"web": "api db"}),
    ),
    "allow from some pods of another namespace": (
        Step(
            put=(to_web(came({**spaces(team="operations"), **pods(type="monitoring")})),),
            reach={"web": "monitor"},
        ),
    ),
    "two entries of a list are alternatives": (
        Step(
            put=(to_web(came(spaces(team="operations"), pods(role="db"))),),
            reach={"web": "page monitor db"},
        ),
    ),
    "allow from external clients": (
        Step(put=(DENY, to_web(came())), reach={"api": "", "db": ""}),
    ),
    "a range of addresses, then one with an exception": (
        Step(put=(to_web(came(block("10.50.0.0/24"))),), reach={"web": LAN}),
        Step(
            put=(to_web(came(block("10.50.0.0/24", f"{CLIENT}/32"), block("10.244.0.0/16"))),),
            reach={"web": OTHERS},
        ),
    ),
    "only a port, from some": (
        Step(put=(to_web(came(pods(role="db"), ports=[at(8080)])),), reach={"web": "", "web:http": "db"}),
    ),
    "the port is the pod's, not the Service's": (
        Step(put=(to_web(came(ports=[at(80)])),), reach={"web": ""}),
        Step(put=(to_web(came(ports=[at(8080)])),), reach={"web": "", "web:http": ALL}),
    ),
    "a named port of those selected": (
        Step(
            put=(policy(ingress=[came(ports=[at("http")])]),),
            reach={**CLOSED.reach, "web:http": ALL, "api:admin": ALL, "db:http": ALL},
        ),
    ),
    "a range of ports": (
        Step(
            put=(to_web(came(ports=[at(8080, endPort=8089)])),),
            reach={"web": "", "web:http": ALL, "web:admin": ALL},
        ),
    ),
    "a protocol": (
        Step(put=(to_web(came(ports=[{"protocol": "UDP"}])),), reach={"web": "", "web:dns": ALL}),
    ),
    "multiple selectors": (
        Step(
            put=(policy(podSelector=sel(role="db"), ingress=[came(pods(app="bookstore", role="api"), pods(app="web"))]),),
            reach={"db": "api web"},
        ),
    ),
    "selectors by expressions": (
        Step(
            put=(
                policy(
                    podSelector=key("role", "In", "db", "cache"),
                    ingress=[came({"podSelector": key("role", "Exists"), "namespaceSelector": key("team", "DoesNotExist")})],
                ),
            ),
            reach={"db": "api"},
        ),
    ),
    "deny all egress of an application": (Step(put=(from_web(),), sends={"web": ""}),),
    "deny egress but for DNS": (
        Step(put=(from_web(OUT_DNS),), sends={"web": "api:dns db:dns page:dns monitor:dns lan:dns"}),
    ),
    "deny all egress of a namespace": (
        Step(put=(policy(policyTypes=["Egress"]),), sends=dict.fromkeys(("web", "api", "db"), "")),
    ),
    "deny external egress": (
        Step(put=(from_web(goes(EVERYWHERE)),), sends={"web": OTHERS}),
    ),
    "egress to a range, then to all but that": (
        Step(put=(from_web(goes(block("10.50.0.0/24"))),), sends={"web": LAN}),
        Step(put=(from_web(goes(block("0.0.0.0/0", "10.50.0.0/24"))),), sends={"web": OTHERS}),
    ),
    "egress to the pods behind a Service": (
        Step(put=(from_web(goes(pods(role="api"), ports=[at(80)])),), sends={"web": ""}),
        Step(put=(from_web(goes(pods(role="api"), ports=[at(8080)])),), sends={"web": "api:http"}),
    ),
    "a named port of the peers": (
        Step(put=(from_web(goes(ports=[at("http")])),), sends={"web": "api:admin db:http page:http monitor:http"}),
    ),
    "both ends have to agree": (
        Step(
            put=(
                policy("in", podSelector=sel(role="db"), ingress=[came(pods(app="web"), pods(role="api"))]),
                policy("out", podSelector=sel(role="api"), policyTypes=["Egress"]),
            ),
            reach={"db": "web api"},
            sends={"api": ""},
        ),
    ),
    "everything in, nothing out": (
        Step(
            put=(policy(podSelector=sel(app="web"), policyTypes=["Ingress", "Egress"], ingress=[{}]),),
            sends={"web": ""},
        ),
    ),
    "policies add up, and go one by one": (
        Step(
            put=(to_web(came(pods(role="db"))), to_web(came(spaces(team="operations")), name="more")),
            reach={"web": "db page monitor"},
        ),
        Step(delete=("policy",), reach={"web": "page monitor"}),
        Step(delete=("more",)),
    ),
    "a policy is changed": (
        Step(put=(to_web(came(pods(role="db"))),), reach={"web": "db"}),
        Step(put=(to_web(came(pods(role="api"))),), reach={"web": "api"}),
        Step(put=(to_web({}),)),
        Step(put=(policy(podSelector=sel(role="db"), policyTypes=["Ingress"]),), reach={"db": ""}),
    ),
    "pods that change their labels": (
        Step(put=(to_web(came(pods(role="db"))),), reach={"web": "db"}),
        Step(label={"api": {"role": "db"}}, reach={"web": "db api"}),
        Step(label={"db": {"role": None}}, reach={"web": "api"}),
        Step(label={"web": {"app": "none"}}),
        Step(label={"db": {"app": "web"}}, reach={"db": "api"}),
    ),
    "a policy of another namespace": (
        Step(put=(policy(namespace="prod", policyTypes=["Ingress"]),), reach={"page": "", "monitor": ""}),
    ),
}  # fmt: skip
