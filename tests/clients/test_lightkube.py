"""lightkube, as it is on PyPI."""

import threading

import pytest

lightkube = pytest.importorskip("lightkube")
from lightkube.models.apps_v1 import DeploymentSpec  # noqa: E402 - after the question whether it is here
from lightkube.models.core_v1 import Container, PodSpec, PodTemplateSpec  # noqa: E402
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta  # noqa: E402
from lightkube.resources.apps_v1 import Deployment  # noqa: E402
from lightkube.resources.core_v1 import ConfigMap  # noqa: E402
from lightkube.types import PatchType  # noqa: E402


@pytest.fixture
def api(cluster):
    found = lightkube.Client(lightkube.KubeConfig.from_file(str(cluster.config)), field_manager="lk")
    yield found
    found._client._client.close()


def config_map(name, **data):
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default", labels={"of": "test"}), data=data)


def deployment(replicas=1):
    template = PodTemplateSpec(
        metadata=ObjectMeta(labels={"app": "web"}),
        spec=PodSpec(containers=[Container(name="c", image="localhost/x:1")]),
    )
    spec = DeploymentSpec(
        selector=LabelSelector(matchLabels={"app": "web"}), template=template, replicas=replicas
    )
    return Deployment(
        apiVersion="apps/v1", kind="Deployment", metadata=ObjectMeta(name="web", namespace="default"), spec=spec
    )  # fmt: skip


async def test_crud(api, in_thread):
    def go():
        made = api.create(config_map("a", x="1"))
        made.data["x"] = "2"
        assert api.replace(made).data == {"x": "2"}
        with pytest.raises(lightkube.ApiError) as stale:
            api.replace(made)
        assert (stale.value.status.code, stale.value.status.reason) == (409, "Conflict")
        api.create(config_map("b"))
        found = api.list(ConfigMap, namespace="default", labels={"of": "test"}, chunk_size=1)
        assert [item.metadata.name for item in found] == ["a", "b"]
        api.delete(ConfigMap, "a", namespace="default")
        with pytest.raises(lightkube.ApiError) as gone:
            api.get(ConfigMap, "a", namespace="default")
        assert gone.value.status.reason == "NotFound"
        api.deletecollection(ConfigMap, namespace="default")
        assert list(api.list(ConfigMap, namespace="default")) == []

    await in_thread(go)


async def test_patches_and_apply(api, in_thread):
    def go():
        api.create(deployment())
        scaled = api.patch(Deployment, "web", {"spec": {"replicas": 2}}, namespace="default")
        assert scaled.spec.replicas == 2
        merged = api.patch(
            Deployment, "web", {"metadata": {"labels": {"a": "b"}}}, namespace="default", patch_type=PatchType.MERGE,
        )  # fmt: skip
        assert merged.metadata.labels == {"a": "b"}
        paused = api.patch(
            Deployment, "web", [{"op": "add", "path": "/spec/paused", "value": True}], namespace="default",
            patch_type=PatchType.JSON,
        )  # fmt: skip
        assert paused.spec.paused
        with pytest.raises(lightkube.ApiError) as conflict:
            api.apply(deployment(replicas=4), field_manager="other")
        assert "conflict" in conflict.value.status.message
        assert api.apply(deployment(replicas=4), field_manager="other", force=True).spec.replicas == 4
        scale = api.get(Deployment.Scale, "web", namespace="default")
        scale.spec.replicas = 6
        assert api.replace(scale, "web").spec.replicas == 6

    await in_thread(go)


async def test_watch(api, in_thread):
    def go():
        seen, ready = [], threading.Event()

        def follow():
            for event, item in api.watch(ConfigMap, namespace="default", server_timeout=20):
                seen.append((event, item.metadata.name))
                ready.set()
                if event == "DELETED":
                    return

        api.create(config_map("w"))
        thread = threading.Thread(target=follow)
        thread.start()
        assert ready.wait(20)
        api.patch(ConfigMap, "w", {"data": {"a": "b"}}, namespace="default")
        api.delete(ConfigMap, "w", namespace="default")
        thread.join(25)
        assert seen == [("ADDED", "w"), ("MODIFIED", "w"), ("DELETED", "w")]

    await in_thread(go)


async def test_the_asynchronous_client_in_the_same_loop(cluster):
    config = lightkube.KubeConfig.from_file(str(cluster.config))
    api = lightkube.AsyncClient(config)
    await api.create(config_map("a", x="1"))
    assert [item.metadata.name async for item in api.list(ConfigMap, namespace="default")] == ["a"]
    await api.delete(ConfigMap, "a", namespace="default")
    await api.close()
