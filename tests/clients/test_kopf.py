"""An operator written with kopf: a custom resource with handlers, finalizers, status, timers and children."""

import asyncio
import threading

import pytest
import yaml

kopf = pytest.importorskip("kopf")

DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: lamps.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: lamps, singular: lamp, kind: Lamp, shortNames: [lp]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Colour, type: string, jsonPath: .spec.colour}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {colour: {type: string}}, required: [colour]}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""


def lamps(seen):
    """Return what the operator does; it notes its deeds in `seen`."""
    registry = kopf.OperatorRegistry()
    kinds = ("example.com", "v1", "lamps")

    @kopf.on.startup(registry=registry)
    def configure(settings, **_):
        settings.posting.enabled = True
        settings.persistence.finalizer = "example.com/lamp-operator"
        settings.watching.server_timeout = 30

    @kopf.on.create(*kinds, registry=registry, id="create")
    def create(spec, name, patch, body, **_):
        kopf.info(body, reason="Lit", message="the lamp is on")
        seen.append(("create", name, spec["colour"]))
        patch.status["lit"] = spec["colour"]
        return {"colour": spec["colour"]}

    @kopf.on.create(*kinds, registry=registry, id="child")
    async def child(name, body, **_):
        template = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {}}
        kopf.adopt(template, owner=body)
        seen.append(("child", template["metadata"]["ownerReferences"][0]["kind"], ""))

    @kopf.on.field(*kinds, field="spec.colour", registry=registry)
    def recolour(old, new, name, patch, **_):
        if old is not None:
            seen.append(("recolour", name, f"{old}>{new}"))
            patch.status["lit"] = new

    @kopf.timer(*kinds, interval=0.2, registry=registry, id="tick")
    def tick(name, status, patch, **_):
        patch.status["ticks"] = status.get("ticks", 0) + 1

    @kopf.on.delete(*kinds, registry=registry)
    def delete(name, **_):
        seen.append(("delete", name, ""))

    @kopf.on.event("", "v1", "configmaps", registry=registry, annotations={"watch": "me"})
    def event(name, **more):
        seen.append(("event", name, more["type"] or "listed"))

    return registry


@pytest.fixture
async def operator(cluster):
    """The operator, running; yields the list of its deeds."""
    seen, ready, stop = [], threading.Event(), threading.Event()
    registry = lamps(seen)

    @kopf.on.login(registry=registry)
    def login(**_):
        return kopf.ConnectionInfo(
            server=cluster.url, ca_data=cluster.ca.certificate.decode(), scheme="Bearer", token="admin-token",
            default_namespace="default",
        )  # fmt: skip

    await cluster.kubectl("create", "-f", "-", stdin=DEFINITION)
    await cluster.kubectl("wait", "--for=condition=Established", "crd/lamps.example.com")
    # Its own thread and loop: at its end it cancels every task that began after it.
    flags = {"ready_flag": ready, "stop_flag": stop}
    work = kopf.operator(registry=registry, standalone=True, namespaces=["default"], **flags)
    thread = threading.Thread(target=asyncio.run, args=(work,))
    thread.start()
    assert await asyncio.to_thread(ready.wait, 20)
    yield seen
    stop.set()
    await asyncio.to_thread(thread.join, 20)
    assert not thread.is_alive()


async def test_an_operator_lives_here(cluster, operator):
    run, seen = cluster.kubectl, operator

    async def lamp(path):
        return await run("get", "lamp", "red", "-o", f"jsonpath={path}")

    def did(*deed):
        async def check():
            return deed in seen

        return cluster.eventually(check)

    async def read(path, value):
        async def check():
            return await lamp(path) == value

        await cluster.eventually(check)

    body = {
        "apiVersion": "example.com/v1",
        "kind": "Lamp",
        "metadata": {"name": "red"},
        "spec": {"colour": "red"},
    }
    await run("apply", "-f", "-", stdin=yaml.safe_dump(body))
    await did("create", "red", "red")
    await did("child", "Lamp", "")
    await read("{.status.lit}", "red")
    await read("{.status.create.colour}", "red")
    assert await lamp("{.metadata.finalizers}") == '["example.com/lamp-operator"]'
    await run("apply", "-f", "-", stdin=yaml.safe_dump(body | {"spec": {"colour": "blue"}}))
    await did("recolour", "red", "red>blue")
    await read("{.status.lit}", "blue")
    assert "blue" in await run("get", "lp")

    async def ticking():
        return int(await lamp("{.status.ticks}") or 0) >= 2

    await cluster.eventually(ticking)
    await run("create", "configmap", "other")
    await run("create", "configmap", "mine")
    await run("annotate", "configmap", "mine", "watch=me")
    await did("event", "mine", "MODIFIED")
    assert not [deed for deed in seen if deed[1] == "other"]
    # kubectl waits until the finalizer is gone, which the operator takes away after its handler.
    await run("delete", "lamp", "red", "--timeout=20s")
    assert ("delete", "red", "") in seen

    async def told():
        return "the lamp is on" in await run("get", "events")

    await cluster.eventually(told)
