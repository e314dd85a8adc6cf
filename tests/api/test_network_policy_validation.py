"""What NetworkPolicies may say, and what is meant by what they do not say."""

import pytest

from edgekube.api import defaults, validation
from edgekube.api.kinds.networking_v1 import NETWORK_POLICIES

RULE = {"ports": [{"port": 80}]}


def filled(**spec):
    tree = {"metadata": {"name": "a", "namespace": "default"}, "spec": spec}
    defaults.apply(NETWORK_POLICIES, tree)
    return tree


def causes(**spec):
    return [(cause.field, cause.message) for cause in validation.create(NETWORK_POLICIES, filled(**spec))]


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, ["Ingress"]),
        ({"ingress": []}, ["Ingress"]),
        ({"egress": []}, ["Ingress"]),
        ({"egress": [{}]}, ["Ingress", "Egress"]),
        ({"ingress": [{}], "egress": [{}]}, ["Ingress", "Egress"]),
        ({"policyTypes": ["Egress"]}, ["Egress"]),
        ({"policyTypes": ["Egress"], "ingress": [{}]}, ["Egress"]),
        ({"policyTypes": [], "egress": [{}]}, ["Ingress", "Egress"]),
    ],
)
def test_the_types_follow_the_rules(spec, types):
    assert filled(podSelector={}, **spec)["spec"]["policyTypes"] == types


def test_ports_are_of_tcp_unless_said():
    spec = filled(ingress=[{"ports": [{"port": 80}, {"protocol": "UDP"}]}], egress=[RULE])["spec"]
    assert spec["ingress"][0]["ports"] == [{"port": 80, "protocol": "TCP"}, {"protocol": "UDP"}]
    assert spec["egress"][0]["ports"] == [{"port": 80, "protocol": "TCP"}]
    assert spec["podSelector"] == {}


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"from": [{"podSelector": {}}]},
        {"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}]},
        {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.1/32"]}}]},
        {"from": [{"ipBlock": {"cidr": "fd00::/8", "except": ["fd00:1::/32"]}}]},
        {"ports": [{"port": 8000, "endPort": 8000}, {"port": "http"}, {"protocol": "SCTP"}]},
    ],
)
def test_what_a_rule_may_say(rule):
    assert causes(ingress=[rule]) == []


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"from": [{}]}, "from[0]"),
        ({"from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}, "from[0]"),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0"}}]}, "from[0].ipBlock.cidr"),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]},
            "from[0].ipBlock.except[0]",
        ),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]},
            "from[0].ipBlock.except[0]",
        ),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["fd00::/16"]}}]},
            "from[0].ipBlock.except[0]",
        ),
        ({"ports": [{"port": 70000}]}, "ports[0].port"),
        ({"ports": [{"port": "Not A Name"}]}, "ports[0].port"),
        ({"ports": [{"endPort": 80}]}, "ports[0].endPort"),
        ({"ports": [{"port": "http", "endPort": 80}]}, "ports[0].endPort"),
        ({"ports": [{"port": 80, "endPort": 79}]}, "ports[0].endPort"),
        ({"ports": [{"port": 80, "protocol": "ICMP"}]}, "ports[0].protocol"),
    ],
)
def test_what_a_rule_may_not_say(rule, field):
    assert [cause for cause, _message in causes(ingress=[rule])] == [f"spec.ingress[0].{field}"]


def test_types_that_do_not_exist():
    assert causes(policyTypes=["Sideways"]) == [
        ("spec.policyTypes[0]", 'Unsupported value: "Sideways": supported values: "Egress", "Ingress"')
    ]
    assert [field for field, _ in causes(policyTypes=["Ingress", "Egress", "Ingress"])] == [
        "spec.policyTypes"
    ]
