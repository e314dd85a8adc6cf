"""Environments, the downward API, expansion: tables."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.node.env.downward import Place, UnknownField, field_value, resource_value
from edgekube.node.env.environment import ConfigError, Sources, environment
from edgekube.node.env.expand import expand
from edgekube.node.env.services import service_environment

PLACE = Place("10.244.0.5", "192.168.1.9", {"cpu": "4", "memory": "4Gi"})
CONFIG = {"metadata": {"name": "c", "namespace": "default"}, "data": {"a": "1", "b": "2"}}
SECRET = {
    "metadata": {"name": "s", "namespace": "default"},
    "data": {"pw": base64.b64encode(b"hush").decode()},
}


def sources(services=None):
    maps = {Key("default", "c"): msgspec.convert(CONFIG, core_v1.ConfigMap)}
    secrets = {Key("default", "s"): msgspec.convert(SECRET, core_v1.Secret)}
    return Sources(maps.get, secrets.get, services or {}, PLACE)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$(A)", "1"), ("x$(A)y$(B)", "x1y2"), ("$(NOPE)", "$(NOPE)"), ("$$(A)", "$(A)"), ("$A", "$A"), ("$(A", "$(A"),
        ("$$$(A)", "$1"), ("$()", "$()"), ("100%", "100%"), ("$", "$"),
    ],
)  # fmt: skip
def test_expand(text, wanted):
    assert expand(text, {"A": "1", "B": "2"}) == wanted


@given(st.text(alphabet="abc() ", max_size=20))
def test_text_without_dollars_is_left_alone(text):
    assert expand(text, {"a": "1"}) == text


@pytest.mark.parametrize(
    ("container", "wanted"),
    [
        ({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}]}, {"A": "1", "B": "12"}),
        ({"env": [{"name": "B", "value": "$(A)"}, {"name": "A", "value": "1"}]}, {"A": "1", "B": "$(A)"}),
        (
            {"envFrom": [{"configMapRef": {"name": "c"}}], "env": [{"name": "a", "value": "own"}]},
            {"a": "own", "b": "2"},
        ),
        ({"envFrom": [{"prefix": "P_", "secretRef": {"name": "s"}}]}, {"P_pw": "hush"}),
        ({"envFrom": [{"configMapRef": {"name": "no", "optional": True}}]}, {}),
        ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}}]}, {"A": "hush"}),
        (
            {
                "env": [
                    {
                        "name": "A",
                        "valueFrom": {"configMapKeyRef": {"name": "c", "key": "x", "optional": True}},
                    }
                ]
            },
            {},
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]},
            {"A": "10.244.0.5"},
        ),
        (
            {"env": [{"name": "H", "value": "$(WEB_SERVICE_HOST)"}]},
            {"H": "10.96.0.9", "WEB_SERVICE_HOST": "10.96.0.9"},
        ),
    ],
)
def test_environment(pod_of, container, wanted):
    pod = pod_of({"containers": [{"name": "main", **container}]})
    services = {"WEB_SERVICE_HOST": "10.96.0.9"} if "WEB_SERVICE_HOST" in wanted else {}
    assert environment(pod, pod.spec.containers[0], sources(services)) == wanted


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"envFrom": [{"configMapRef": {"name": "no"}}]}, 'configmap "no" not found'),
        ({"envFrom": [{"secretRef": {"name": "no"}}]}, 'secret "no" not found'),
        (
            {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "x"}}}]},
            "couldn't find key x in ConfigMap default/c",
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "x"}}}]},
            "couldn't find key x in Secret default/s",
        ),
    ],
)
def test_what_is_missing_is_named(pod_of, container, message):
    pod = pod_of({"containers": [{"name": "main", **container}]})
    with pytest.raises(ConfigError) as caught:
        environment(pod, pod.spec.containers[0], sources())
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("metadata.name", "web"), ("metadata.uid", "uid-web"), ("metadata.labels['app']", "x"), ("metadata.labels['no']", ""),
        ("metadata.labels", 'app="x"\nquote="a\\"b"'), ("spec.nodeName", "pi"), ("status.hostIP", "192.168.1.9"),
    ],
)  # fmt: skip
def test_fields(pod_of, path, wanted):
    assert field_value(pod_of(labels={"app": "x", "quote": 'a"b'}), path, PLACE) == wanted


def test_unknown_field(pod_of):
    with pytest.raises(UnknownField):
        field_value(pod_of(), "spec.secrets", PLACE)


@pytest.mark.parametrize(
    ("resource", "divisor", "wanted"),
    [
        ("limits.cpu", "", "1"), ("limits.cpu", "1m", "500"), ("requests.memory", "1Mi", "64"), ("requests.memory", "", "67108864"),
        ("limits.memory", "1Gi", "4"), ("requests.cpu", "1m", "500"),
    ],
)  # fmt: skip
def test_resources(pod_of, resource, divisor, wanted):
    resources = {"limits": {"cpu": "500m"}, "requests": {"memory": "64Mi"}}
    pod = pod_of({"containers": [{"name": "main", "resources": resources}]})
    selector = core_v1.ResourceFieldSelector(resource=resource, divisor=divisor)
    assert resource_value(pod, selector, PLACE, container="main") == wanted


def service(name, namespace, **spec):
    tree = {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": "10.96.0.1", **spec}}
    return msgspec.convert(tree, core_v1.Service)


def test_service_variables():
    services = [
        service("kubernetes", "default", ports=[{"port": 443, "name": "https"}]),
        service("my-db", "shop", clusterIP="10.96.0.7", ports=[{"port": 53, "protocol": "UDP"}]),
        service("none", "shop", clusterIP="None", ports=[{"port": 1}]),
        service("other", "else", ports=[{"port": 1}]),
    ]
    without = service_environment(services, "shop", links=False)
    assert without["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert without["KUBERNETES_SERVICE_PORT_HTTPS"] == "443"
    assert without["KUBERNETES_PORT_443_TCP"] == "tcp://10.96.0.1:443"
    with_links = service_environment(services, "shop", links=True)
    assert {k: v for k, v in with_links.items() if k not in without} == {
        "MY_DB_SERVICE_HOST": "10.96.0.7", "MY_DB_SERVICE_PORT": "53", "MY_DB_PORT": "udp://10.96.0.7:53",
        "MY_DB_PORT_53_UDP": "udp://10.96.0.7:53", "MY_DB_PORT_53_UDP_PROTO": "udp", "MY_DB_PORT_53_UDP_PORT": "53",
        "MY_DB_PORT_53_UDP_ADDR": "10.96.0.7",
    }  # fmt: skip
