"""What Services may say, and what of it may change."""

import copy

import pytest

from edgekube.api import defaults, validation
from edgekube.api.kinds.core_v1 import SERVICES

BALANCER = {"type": "LoadBalancer"}
ONLY_BALANCERS = "Forbidden: may only be used when `type` is 'LoadBalancer'"
ALIAS = {"type": "ExternalName", "externalName": "example.com"}
ALIAS_LACKS = "Forbidden: may not be set for ExternalName services"
LOOPBACK = "may not be in the loopback range (127.0.0.0/8, ::1/128)"


def filled(spec, **meta):
    tree = {
        "metadata": {"name": "a", "namespace": "default", **meta},
        "spec": {"ports": [{"port": 80}], **copy.deepcopy(spec)},
    }
    defaults.apply(SERVICES, tree)
    return tree


def causes(found):
    return [(cause.field, cause.message) for cause in found]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"trafficDistribution": "PreferClose"},
        {"trafficDistribution": "PreferSameNode"},
        {"trafficDistribution": "PreferSameZone"},
        {"sessionAffinity": "ClientIP"},
        {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86400}}},
        {"sessionAffinity": "None", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}},
        {"externalIPs": ["192.0.2.1", "2001:db8::1"], "externalTrafficPolicy": "Local"},
        BALANCER | {"loadBalancerClass": "example.com/fast", "loadBalancerSourceRanges": [" 192.0.2.0/24 "]},
        BALANCER | {"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000},
        BALANCER | {"allocateLoadBalancerNodePorts": False, "internalTrafficPolicy": "Local"},
        {"clusterIP": "None", "ports": []},
        ALIAS | {"ports": []},
    ],
)
def test_what_a_service_may_say(spec):
    assert causes(validation.create(SERVICES, filled(spec))) == []


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"trafficDistribution": "Near"}, "spec.trafficDistribution",
         'Unsupported value: "Near": supported values: "PreferClose", "PreferSameNode", "PreferSameZone"'),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}},
         "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
         "Invalid value: 0: must be greater than 0 and less than 86400"),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}},
         "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
         "Invalid value: 86401: must be greater than 0 and less than 86400"),
        ({"sessionAffinity": "Both"}, "spec.sessionAffinity",
         'Unsupported value: "Both": supported values: "ClientIP", "None"'),
        ({"internalTrafficPolicy": "Near"}, "spec.internalTrafficPolicy",
         'Unsupported value: "Near": supported values: "Cluster", "Local"'),
        (BALANCER | {"externalTrafficPolicy": "Near"}, "spec.externalTrafficPolicy",
         'Unsupported value: "Near": supported values: "Cluster", "Local"'),
        ({"externalTrafficPolicy": "Local"}, "spec.externalTrafficPolicy",
         'Invalid value: "Local": may only be set for externally-accessible services'),
        (BALANCER | {"loadBalancerSourceRanges": ["192.0.2.1"]}, "spec.LoadBalancerSourceRanges[0]",
         'Invalid value: "192.0.2.1": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)'),
        ({"loadBalancerSourceRanges": ["192.0.2.0/24"]}, "spec.LoadBalancerSourceRanges", ONLY_BALANCERS),
        ({"loadBalancerClass": "a/b"}, "spec.loadBalancerClass", ONLY_BALANCERS),
        ({"allocateLoadBalancerNodePorts": True}, "spec.allocateLoadBalancerNodePorts", ONLY_BALANCERS),
        (BALANCER | {"healthCheckNodePort": 31000}, "spec.healthCheckNodePort",
         "Invalid value: 31000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"),
        (BALANCER | {"ports": [{"port": 10250}]}, "spec.ports[0].port",
         "Invalid value: 10250: may not expose port 10250 externally since it is used by kubelet"),
        ({"externalIPs": ["127.0.0.1"]}, "spec.externalIPs[0]", f'Invalid value: "127.0.0.1": {LOOPBACK}'),
        ({"externalIPs": ["0.0.0.0"]}, "spec.externalIPs[0]",
         'Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)'),
        (ALIAS | {"clusterIP": "10.0.0.1"}, "spec.clusterIPs", ALIAS_LACKS),
        (ALIAS | {"ipFamilies": ["IPv4"]}, "spec.ipFamilies", ALIAS_LACKS),
        (ALIAS | {"ipFamilyPolicy": "SingleStack"}, "spec.ipFamilyPolicy", ALIAS_LACKS),
        (ALIAS | {"externalName": "a_b"}, "spec.externalName", None),
        (ALIAS | {"externalName": ""}, "spec.externalName", "Required value"),
        ({"ipFamilies": ["IPv5"]}, "spec.ipFamilies[0]",
         'Unsupported value: "IPv5": supported values: "IPv4", "IPv6"'),
        ({"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "PreferDualStack"}, "spec.ipFamilies[1]",
         'Duplicate value: "IPv4"'),
        ({"clusterIP": "fd00::1", "ipFamilies": ["IPv4"]}, "spec.clusterIPs[0]",
         'Invalid value: "fd00::1": expected an IPv4 value as indicated by `ipFamilies[0]`'),
        ({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2"]}, "spec.clusterIPs",
         'Invalid value: ["10.0.0.2"]: first value must match `clusterIP`'),
    ],
)  # fmt: skip
def test_what_a_service_may_not_say(spec, field, message):
    found = causes(validation.create(SERVICES, filled(spec)))
    assert [where for where, _ in found] == [field]
    if message is not None:
        assert found == [(field, message)]


def test_source_ranges_may_be_an_annotation():
    name = "service.beta.kubernetes.io/load-balancer-source-ranges"
    good = filled(BALANCER, annotations={name: "192.0.2.0/24, 198.51.100.0/24"})
    assert causes(validation.create(SERVICES, good)) == []
    (bad,) = causes(validation.create(SERVICES, filled(BALANCER, annotations={name: "192.0.2.1"})))
    assert bad[0] == f"metadata.annotations[{name}]"
    (bad,) = causes(validation.create(SERVICES, filled({}, annotations={name: "192.0.2.0/24"})))
    assert bad[1] == ONLY_BALANCERS


HAS = {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}
TWO = {
    "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
    "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
}  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (HAS, HAS | {"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]},
         [("spec.clusterIPs[0]", 'Invalid value: ["10.0.0.2"]: may not change once set')]),
        (HAS, {"clusterIP": "None", "clusterIPs": ["None"]},
         [("spec.clusterIPs[0]", 'Invalid value: ["None"]: may not change once set')]),
        (HAS | {"ipFamilies": ["IPv4"]}, HAS | {"ipFamilies": []},
         [("spec.ipFamilies[0]", "Invalid value: []: may not change once set")]),
        (TWO, TWO | {"clusterIPs": ["10.0.0.1", "fd00::2"]},
         [("spec.clusterIPs[1]", 'Invalid value: ["10.0.0.1","fd00::2"]: may not change once set')]),
        (TWO, HAS | {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}, []),
        (HAS | {"ipFamilies": ["IPv4"]}, {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv6"]},
         [("spec.ipFamilies[0]", 'Invalid value: ["IPv6"]: may not change once set')]),
        (HAS, ALIAS, []),
        (ALIAS, HAS, []),
        (HAS | BALANCER | {"loadBalancerClass": "x.io/a"}, HAS | BALANCER | {"loadBalancerClass": "x.io/b"},
         [("spec.loadBalancerClass", 'Invalid value: "x.io/b": may not change once set')]),
        (HAS | BALANCER, HAS | BALANCER | {"loadBalancerClass": "x.io/b"},
         [("spec.loadBalancerClass", 'Invalid value: "x.io/b": may not change once set')]),
        (HAS, HAS | BALANCER | {"loadBalancerClass": "x.io/b"}, []),
    ],
)  # fmt: skip
def test_what_of_a_service_may_change(old, new, expected):
    mine = {"uid": "u", "resourceVersion": "1"}
    before, after = filled(old, **mine), filled(new, **mine)
    assert causes(validation.update(SERVICES, after, before)) == expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"ip": "192.0.2.1"}, []),
        ({"ip": "192.0.2.1", "ipMode": "Proxy"}, []),
        ({"hostname": "lb.example.com"}, []),
        ({"ip": "x"}, ["status.loadBalancer.ingress[0].ip"]),
        ({"ip": "192.0.2.1", "ipMode": "Near"}, ["status.loadBalancer.ingress[0].ipMode"]),
        ({"hostname": "a", "ipMode": "VIP"}, ["status.loadBalancer.ingress[0].ipMode"]),
        ({"hostname": "192.0.2.1"}, ["status.loadBalancer.ingress[0].hostname"]),
    ],
)
def test_the_addresses_of_a_load_balancer(entry, expected):
    tree = filled(BALANCER) | {"status": {"loadBalancer": {"ingress": [entry]}}}
    defaults.apply(SERVICES, tree)
    found = validation.part(SERVICES, tree, tree, "status")
    assert [cause.field for cause in found] == expected
    plain = tree | {"spec": tree["spec"] | {"type": "ClusterIP"}}
    problems = validation.part(SERVICES, plain, plain | {"status": {}}, "status")
    assert [cause.field for cause in problems][:1] == ["status.loadBalancer.ingress"]
    assert [cause.field for cause in validation.part(SERVICES, plain, tree, "status")] == expected
