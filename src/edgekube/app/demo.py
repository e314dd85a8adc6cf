"""The demo: a Deployment of two web servers and a Service that answers, from an image made here."""

import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from edgekube.app import sandbox
from edgekube.app.options import UpOptions
from edgekube.app.paths import ServerPaths
from edgekube.app.up import Api, Say, UpError, agent_paths
from edgekube.client import kubeconfig

IMAGE = "localhost/edgekube-demo:1"
NAME = "demo"
PORT = 8080
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm"}
SCRIPT = 'mkdir -p /www && echo "Hello from $POD_NAME on $NODE_NAME" > /www/index.html && exec httpd -f -p 8080 -h /www'
APPLETS = (
    "sh httpd wget nc nslookup cat echo ls mkdir rm touch tar env hostname ps kill id sleep date tail head grep seq "
    "tty stty true false test dd"
)
READY = 60.0
"""Seconds the demo may take to become ready."""


def run(options: UpOptions, say: Say) -> str:
    """Make the image, apply the manifests, wait for 2/2 and return the Service's answer."""
    api = Api(kubeconfig.load((ServerPaths(options.data_dir / "server").kubeconfig,)))
    place_image(agent_paths(options).root / "images")
    apply(api, "/apis/apps/v1/namespaces/default/deployments", deployment())
    apply(api, "/api/v1/namespaces/default/services", service())
    wait(api, say)
    address = api.json("GET", f"/api/v1/namespaces/default/services/{NAME}")["spec"]["clusterIP"]
    answer = ask(options, address)
    say(f"Service {NAME} ({address}) answers: {answer}")
    return answer


def place_image(folder: Path) -> None:
    """Put the image's archive where the agent loads images from; the same bytes every time."""
    from edgekube.runtime.archive import write_archive  # noqa: PLC0415 - only the demo builds images

    busybox = shutil.which("busybox") or "/bin/busybox"
    if not Path(busybox).exists():
        raise UpError("busybox is missing; apt-get install busybox-static")
    applets = APPLETS.split()
    folder.mkdir(parents=True, exist_ok=True)
    write_archive(
        folder / "edgekube-demo.tar",
        IMAGE,
        binary=Path(busybox),
        applets=applets,
        architecture=ARCHITECTURES.get(platform.machine(), platform.machine()),
    )


def apply(api: Api, collection: str, manifest: dict[str, Any]) -> None:
    """Create, or patch what is there."""
    name = manifest["metadata"]["name"]
    try:
        api.call("GET", f"{collection}/{name}")
    except UpError:
        api.json("POST", collection, manifest)
    else:
        api.json(
            "PATCH", f"{collection}/{name}", manifest, content_type="application/strategic-merge-patch+json"
        )


def wait(api: Api, say: Say) -> None:
    """Wait until both replicas are ready."""
    deadline, said = time.monotonic() + READY, -1
    while time.monotonic() < deadline:
        ready = (
            api.json("GET", f"/apis/apps/v1/namespaces/default/deployments/{NAME}")
            .get("status", {})
            .get("readyReplicas", 0)
        )
        if ready != said:
            say(f"Deployment {NAME}: {ready}/2 Ready")
            said = ready
        if ready == 2:
            return
        time.sleep(0.1)
    pods = api.json("GET", f"/api/v1/namespaces/default/pods?labelSelector=app%3D{NAME}")["items"]
    states = "; ".join(f"{pod['metadata']['name']}: {pod.get('status', {})}" for pod in pods)
    raise UpError(f"Deployment {NAME} is not ready after {READY:.0f} s: {states}")


def ask(options: UpOptions, address: str) -> str:
    """Call the Service from the node, as a pod would; endpoints may need a moment to arrive there."""
    handle = sandbox.find(options.run_dir, options.name)
    if handle is None:
        raise UpError("the cluster is gone")
    code = f"import urllib.request as u; print(u.urlopen('http://{address}/', timeout=5).read().decode(), end='')"
    command = sandbox.enter(handle, ["python3", "-c", code])
    result = subprocess.CompletedProcess[str](command, 1, "", "")
    for _ in range(50):
        result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
        if result.returncode == 0:
            return result.stdout.strip()
        time.sleep(0.1)
    raise UpError(f"Service {address} does not answer: {result.stderr.strip().splitlines()[-1:]}")


def deployment() -> dict[str, Any]:
    """Return the demo's Deployment."""
    container = {
        "name": "web",
        "image": IMAGE,
        "command": ["sh", "-c", SCRIPT],
        "ports": [{"name": "http", "containerPort": PORT}],
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "labels": {"app": NAME}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {"terminationGracePeriodSeconds": 2, "containers": [container]},
            },
        },
    }


def service() -> dict[str, Any]:
    """Return the demo's Service."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "labels": {"app": NAME}},
        "spec": {"selector": {"app": NAME}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }
