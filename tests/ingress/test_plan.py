"""From Ingresses to a table, and from the table to HAProxy's own words."""

import base64
import shutil
import subprocess

import pytest

from edgekube.api.resource import Key
from edgekube.api.types import core_v1, discovery_v1, meta_v1, networking_v1
from edgekube.ingress.haproxy import ProxyOptions, certificate_list, render
from edgekube.ingress.plan import CONTROLLER, DEFAULT_CLASS, LEGACY_CLASS, REDIRECT, World, ours, plan

WEB = Key("default", "web")


def ingress(
    *rules, name="i", created="2030-01-01T00:00:00Z", annotations=None, cls="edgekube", tls=(), default=None
):
    return networking_v1.Ingress(
        metadata=meta_v1.ObjectMeta(
            name=name, namespace="default", creation_timestamp=created, annotations=annotations or {}
        ),
        spec=networking_v1.IngressSpec(rules=rules, ingress_class_name=cls, tls=tls, default_backend=default),
    )


def to(service="web", port=80):
    number = {"number": port} if isinstance(port, int) else {"name": port}
    backend = networking_v1.IngressServiceBackend(
        name=service, port=networking_v1.ServiceBackendPort(**number)
    )
    return networking_v1.IngressBackend(service=backend)


def rule(host, *paths):
    made = tuple(
        networking_v1.HTTPIngressPath(path=path, path_type=kind, backend=backend)
        for path, kind, backend in paths
    )
    return networking_v1.IngressRule(host=host, http=networking_v1.HTTPIngressRuleValue(paths=made))


def klass(name="edgekube", controller=CONTROLLER, **annotations):
    meta = meta_v1.ObjectMeta(name=name, annotations=annotations)
    return networking_v1.IngressClass(
        metadata=meta, spec=networking_v1.IngressClassSpec(controller=controller)
    )


def world(*ingresses, secrets=None):
    service = core_v1.Service(
        metadata=meta_v1.ObjectMeta(name="web", namespace="default"),
        spec=core_v1.ServiceSpec(
            ports=(core_v1.ServicePort(name="http", port=80), core_v1.ServicePort(name="x", port=81))
        ),
    )
    ends = (
        discovery_v1.Endpoint(addresses=("10.0.0.2",)),
        discovery_v1.Endpoint(addresses=("10.0.0.1",)),
        discovery_v1.Endpoint(
            addresses=("10.0.0.3",), conditions=discovery_v1.EndpointConditions(ready=False)
        ),
    )
    ports = (
        discovery_v1.EndpointPort(name="http", port=8080),
        discovery_v1.EndpointPort(name="x", port=9090),
    )
    piece = discovery_v1.EndpointSlice(address_type="IPv4", endpoints=ends, ports=ports)
    return World(
        ingresses=ingresses, classes=(klass(), klass("nginx", "k8s.io/ingress-nginx")), services={WEB: service},
        slices={WEB: (piece,)}, secrets=secrets or {},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("made", "classes", "true"),
    [
        (ingress(), [klass()], True),
        (ingress(cls="nginx"), [klass(), klass("nginx", "x/y")], False),
        (ingress(cls="unknown"), [klass()], False),
        (ingress(cls=None), [klass()], False),
        (ingress(cls=None), [klass(**{DEFAULT_CLASS: "true"})], True),
        (ingress(cls=None, annotations={LEGACY_CLASS: "edgekube"}), [klass()], True),
    ],
)
def test_whose_ingress_it_is(made, classes, true):
    assert ours(made, classes) is true


def test_sites_and_routes_in_the_order_they_are_asked():
    paths = [
        ("/", "Prefix", to()),
        ("/a", "Prefix", to()),
        ("/a/b/", "Prefix", to()),
        ("/a", "Exact", to(port="x")),
    ]
    table = plan(
        world(
            ingress(
                rule("", paths[0]), rule("*.b.c", paths[0]), rule("a.b.c", *paths), rule("*.x.b.c", paths[0])
            )
        )
    )
    assert [site.host for site in table.sites] == ["a.b.c", "*.x.b.c", "*.b.c", ""]
    assert [(route.path, route.exact) for route in table.sites[0].routes] == [
        ("/a", True), ("/a/b", False), ("/a", False), ("/", False),
    ]  # fmt: skip
    assert table.backends == {
        "default_web_80": ("10.0.0.1:8080", "10.0.0.2:8080"), "default_web_x": ("10.0.0.1:9090", "10.0.0.2:9090"),
    }  # fmt: skip
    assert table.complaints == ()


def test_the_older_ingress_keeps_a_path():
    younger = ingress(rule("h", ("/", "Prefix", to(port="x"))), name="a", created="2030-01-02T00:00:00Z")
    older = ingress(rule("h", ("/", "Prefix", to())), name="b")
    (site,) = plan(world(younger, older)).sites
    assert [route.backend for route in site.routes] == ["default_web_80"]


@pytest.mark.parametrize(
    ("item", "reason", "message"),
    [
        (("/", "Prefix", to("gone")), "BadBackend", "Service default/gone does not exist"),
        (("/", "Prefix", to(port=99)), "BadBackend", "Service default/web has no port 99"),
        (("/a'b", "Prefix", to()), "BadPath", 'path "/a\'b" holds characters that are not served'),
        (
            ("/", "Prefix", networking_v1.IngressBackend()),
            "BadBackend",
            "resource backends are not supported",
        ),
    ],
)
def test_what_cannot_be_done_is_told(item, reason, message):
    (complaint,) = plan(world(ingress(rule("h", item)))).complaints
    assert (complaint.ingress, complaint.reason, complaint.message) == (Key("default", "i"), reason, message)


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def test_certificates():
    tls = (
        networking_v1.IngressTLS(hosts=("a.b",), secret_name="good"),
        networking_v1.IngressTLS(secret_name="bad"),
    )
    secrets = {
        Key("default", "good"): core_v1.Secret(data={"tls.crt": encoded("C\n"), "tls.key": encoded("K")}),
        Key("default", "bad"): core_v1.Secret(data={"tls.crt": encoded("C")}),
    }
    table = plan(world(ingress(rule("a.b"), tls=tls, annotations={REDIRECT: "true"}), secrets=secrets))
    assert table.certificates == {"default_good": (b"C\nK\n", ("a.b",))}
    assert [item.reason for item in table.complaints] == ["BadSecret"]
    assert table.sites[0].redirect


def test_the_configuration_is_one_haproxy_takes(tmp_path):
    program = shutil.which("haproxy")
    assert program, "apt install haproxy"
    rules = (
        rule(
            "a.b.c",
            ("/", "Prefix", to()),
            ("/x/y", "Prefix", to(port="x")),
            ("/~!$&()*+,;=:@%-.", "Exact", to("gone")),
        ),
        rule("*.b.c", ("/", "ImplementationSpecific", to())),
        rule("", ("/only", "Prefix", to())),
    )
    options = ProxyOptions(directory=tmp_path, http="127.0.0.1:18080", https="127.0.0.1:18443")
    (tmp_path / "certificates.list").write_text("")
    for default in (None, to()):
        table = plan(world(ingress(*rules, default=default, annotations={REDIRECT: "true"})))
        (tmp_path / "haproxy.cfg").write_text(render(table, options))
        done = subprocess.run(
            [program, "-c", "-f", tmp_path / "haproxy.cfg"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr
    assert certificate_list(table, options) == "\n"
