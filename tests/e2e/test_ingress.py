"""`edgekube ingress` on a node of a real cluster: a site of pods, reached by its name, with and without TLS."""

import base64
import subprocess
from datetime import UTC, datetime

import pytest

from e2e.harness import BIN, eventually
from e2e.manifests import IMAGE, STAY
from edgekube.app import sandbox
from edgekube.lib import pki

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SITE = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  ingressClassName: edgekube
  tls: [{hosts: [shop.example.com], secretName: shop}]
  rules:
  - host: shop.example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}
      - {path: /missing, pathType: Prefix, backend: {service: {name: missing, port: {number: 80}}}}
"""


@pytest.fixture
def controller(cluster, tmp_path):
    handle = sandbox.find(cluster.options.run_dir, cluster.options.name)
    command = [
        str(BIN / "edgekube"), "ingress", "--kubeconfig", str(inside_kubeconfig(cluster, tmp_path)),
        "--data-dir", str(tmp_path / "ingress"), "--http", "*:8088", "--https", "*:8443", "--address", "10.50.0.2",
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(sandbox.enter(handle, command), stdout=log, stderr=log)
        yield process
        # nsenter(1) waits for its child; what it started is known by its arguments.
        cluster.inside("pkill", "-TERM", "-f", f"{tmp_path}/ingress")
        process.wait(20)
    assert not cluster.inside("pgrep", "-x", "haproxy").stdout, "the proxy ends with its controller"


def inside_kubeconfig(cluster, tmp_path):
    """The administrator's kubeconfig, with the address the API has on the node."""
    path = tmp_path / "kubeconfig"
    text = cluster.paths.kubeconfig.read_text()
    (server,) = (line.split()[-1] for line in text.splitlines() if "server:" in line)
    path.write_text(text.replace(server, "https://10.50.0.2:6443"))
    return path


def ask(cluster, url, *, insecure=True):
    flags = ["--no-check-certificate"] if insecure else []
    return cluster.inside(
        "timeout", "5", "busybox", "wget", *flags, "-qO-", "--header", "Host: shop.example.com", url
    )


def test_a_site_by_name_with_tls_and_status(cluster, space, k, controller):
    script = "mkdir /w; echo hello > /w/index.html; httpd -p 8080 -h /w; " + STAY[2]
    k("create", "deployment", "shop", f"--image={IMAGE}", "--replicas=2", "--", "sh", "-c", script)
    k("expose", "deployment", "shop", "--port=80", "--target-port=8080")
    authority = pki.new_authority("test", datetime.now(UTC))
    pair = pki.issue(authority, pki.Subject(name="shop", hosts=("shop.example.com",)), datetime.now(UTC))
    data = {
        name: base64.b64encode(part).decode() for name, part in (("crt", pair.certificate), ("key", pair.key))
    }
    secret = f"""
apiVersion: v1
kind: Secret
metadata: {{name: shop}}
type: kubernetes.io/tls
data: {{tls.crt: {data["crt"]}, tls.key: {data["key"]}}}
"""
    k("apply", "-f", "-", stdin=secret + "---" + SITE)
    k("rollout", "status", "deployment/shop", "--timeout=60s")
    eventually(lambda: ask(cluster, "http://10.50.0.2:8088/").stdout == "hello\n", "the site answers")
    eventually(lambda: "10.50.0.2" in k("get", "ingress", "shop"), "its address is shown")
    assert "503" in ask(cluster, "http://10.50.0.2:8088/missing").stderr
    eventually(
        lambda: "Service a-site-by-name-with-tls-and-status/missing does not exist" in k("get", "events"),
        "it is told",
    )
    code = (
        "import ssl, socket; c = ssl._create_unverified_context(); "
        "s = c.wrap_socket(socket.create_connection(('10.50.0.2', 8443), 5), server_hostname='shop.example.com'); "
        "s.send(b'GET / HTTP/1.0\\r\\nHost: shop.example.com\\r\\n\\r\\n'); print(s.recv(10000).decode())"
    )
    eventually(lambda: "hello" in cluster.inside("python3", "-c", code).stdout, "it answers by TLS")
    k("delete", "ingress", "shop")
    eventually(lambda: "404" in ask(cluster, "http://10.50.0.2:8088/").stderr, "it is gone")
