"""The official Python client, as it is on PyPI."""

import threading

import pytest
import yaml

kubernetes = pytest.importorskip("kubernetes")
from kubernetes import client as k8s  # noqa: E402 - after the question whether it is here
from kubernetes import dynamic, utils, watch  # noqa: E402

APP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: "localhost/x:1", ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {a: b}
"""
WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {size: {type: integer, default: 3}}}
          status: {type: object, properties: {ready: {type: boolean}}}
"""


@pytest.fixture
def api(cluster):
    found = kubernetes.config.new_client_from_config(str(cluster.config))
    yield found
    found.rest_client.pool_manager.clear()
    found.close()


def config_map(name, **data):
    return k8s.V1ConfigMap(metadata=k8s.V1ObjectMeta(name=name, labels={"of": "test"}), data=data)


async def test_crud(api, in_thread):
    def go():
        v1 = k8s.CoreV1Api(api)
        made = v1.create_namespaced_config_map("default", config_map("a", x="1"))
        assert (made.metadata.namespace, made.data) == ("default", {"x": "1"})
        assert made.metadata.uid
        assert made.metadata.creation_timestamp.tzinfo is not None
        made.data = {"x": "2"}
        second = v1.replace_namespaced_config_map("a", "default", made)
        assert second.metadata.resource_version != made.metadata.resource_version
        with pytest.raises(k8s.ApiException) as stale:
            v1.replace_namespaced_config_map("a", "default", made)
        assert (stale.value.status, stale.value.reason) == (409, "Conflict")
        v1.create_namespaced_config_map("default", config_map("b"))
        found = v1.list_namespaced_config_map("default", label_selector="of=test", limit=1)
        assert [item.metadata.name for item in found.items] == ["a"]
        rest = v1.list_namespaced_config_map(
            "default", label_selector="of=test", limit=1, _continue=found.metadata._continue
        )
        assert [item.metadata.name for item in rest.items] == ["b"]
        deleted = v1.delete_namespaced_config_map("a", "default")
        # From version 37 on the client says of deletions only that they answer an object.
        assert (deleted if isinstance(deleted, dict) else deleted.to_dict())["status"] == "Success"
        with pytest.raises(k8s.ApiException) as gone:
            v1.read_namespaced_config_map("a", "default")
        assert gone.value.status == 404
        v1.delete_collection_namespaced_config_map("default", label_selector="of=test")
        assert v1.list_namespaced_config_map("default", label_selector="of=test").items == []
        dry = v1.create_namespaced_config_map("default", config_map("d"), dry_run="All")
        assert dry.metadata.uid
        with pytest.raises(k8s.ApiException):
            v1.read_namespaced_config_map("d", "default")

    await in_thread(go)


async def test_every_kind_of_patch(api, in_thread):
    def go():
        apps = k8s.AppsV1Api(api)
        apps.create_namespaced_deployment("default", next(yaml.safe_load_all(APP)))
        # A list of operations is a JSON patch, a tree a strategic merge, as the client chooses by itself.
        operations = [{"op": "replace", "path": "/spec/replicas", "value": 3}]
        assert apps.patch_namespaced_deployment("web", "default", operations).spec.replicas == 3
        sidecar = {"spec": {"template": {"spec": {"containers": [{"name": "d", "image": "localhost/y:1"}]}}}}
        both = apps.patch_namespaced_deployment("web", "default", sidecar)
        assert {c.name for c in both.spec.template.spec.containers} == {"c", "d"}
        merged = apps.patch_namespaced_deployment(
            "web", "default", sidecar, _content_type="application/merge-patch+json"
        )
        assert [c.name for c in merged.spec.template.spec.containers] == ["d"]
        scale = apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 5}})
        assert scale.spec.replicas == 5
        applied = apps.patch_namespaced_deployment(
            "web", "default",
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"paused": True}},
            _content_type="application/apply-patch+yaml", field_manager="me",
        )  # fmt: skip
        assert applied.spec.paused
        assert "me" in {entry.manager for entry in applied.metadata.managed_fields}

    await in_thread(go)


async def test_watch(api, in_thread):
    def go():
        v1 = k8s.CoreV1Api(api)
        start = v1.list_namespaced_config_map("default").metadata.resource_version
        seen, reached = [], threading.Event()

        def follow():
            stream = watch.Watch()
            for event in stream.stream(
                v1.list_namespaced_config_map, "default", resource_version=start, timeout_seconds=20
            ):
                seen.append((event["type"], event["object"].metadata.name))
                if event["type"] == "DELETED":
                    stream.stop()
            reached.set()

        thread = threading.Thread(target=follow)
        thread.start()
        v1.create_namespaced_config_map("default", config_map("w"))
        v1.patch_namespaced_config_map("w", "default", {"data": {"a": "b"}})
        v1.delete_namespaced_config_map("w", "default")
        thread.join(25)
        assert reached.is_set()
        assert seen == [("ADDED", "w"), ("MODIFIED", "w"), ("DELETED", "w")]

    await in_thread(go)


async def test_a_watch_from_the_forgotten_past_is_told_410(api, in_thread):
    def go():
        v1 = k8s.CoreV1Api(api)
        with pytest.raises(k8s.ApiException) as error:
            next(watch.Watch().stream(v1.list_namespaced_config_map, "default", resource_version="99999999"))
        assert error.value.status in {410, 504}

    await in_thread(go)


async def test_files_of_many_kinds(api, in_thread):
    def go():
        made = utils.create_from_yaml(api, yaml_objects=list(yaml.safe_load_all(APP)), namespace="default")
        assert [objects[0].kind for objects in made] == ["Deployment", "Service", "Secret"]
        assert made[1][0].spec.cluster_ip.startswith("10.43.0.")
        assert made[2][0].data == {"a": "Yg=="}
        with pytest.raises(utils.FailToCreateError) as error:
            utils.create_from_yaml(api, yaml_objects=list(yaml.safe_load_all(APP)), namespace="default")
        assert {each.status for each in error.value.api_exceptions} == {409}

    await in_thread(go)


async def test_the_dynamic_client_finds_kinds_by_itself(api, in_thread):
    def go():
        v1 = k8s.ApiextensionsV1Api(api)
        v1.create_custom_resource_definition(yaml.safe_load(WIDGETS))
        found = dynamic.DynamicClient(api)
        deployments = found.resources.get(api_version="apps/v1", kind="Deployment")
        assert deployments.create(next(yaml.safe_load_all(APP)), namespace="default").spec.replicas == 2
        assert [item.metadata.name for item in deployments.get(namespace="default").items] == ["web"]
        widgets = found.resources.get(api_version="example.com/v1", kind="Widget")
        body = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {}}
        assert widgets.create(body, namespace="default").spec.size == 3
        ready = {"status": {"ready": True}}
        patched = widgets.status.patch(
            ready, name="w", namespace="default", content_type="application/merge-patch+json"
        )
        assert patched.status.ready is True
        applied = widgets.server_side_apply(
            body={**body, "spec": {"size": 7}}, name="w", namespace="default", field_manager="me", force_conflicts=True,
        )  # fmt: skip
        assert applied.spec.size == 7
        events = [
            (event["type"], event["object"].metadata.name)
            for event in widgets.watch(namespace="default", timeout=1)
        ]
        assert events == [("ADDED", "w")]
        widgets.delete(name="w", namespace="default")
        custom = k8s.CustomObjectsApi(api)
        assert custom.list_namespaced_custom_object("example.com", "v1", "default", "widgets")["items"] == []

    await in_thread(go)


async def test_who_am_i_and_may_i(api, in_thread):
    def go():
        review = k8s.AuthenticationV1Api(api).create_self_subject_review(k8s.V1SelfSubjectReview())
        assert review.status.user_info.username == "admin"
        attributes = k8s.V1ResourceAttributes(verb="list", resource="pods", namespace="default")
        access = k8s.V1SelfSubjectAccessReview(
            spec=k8s.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        )
        assert k8s.AuthorizationV1Api(api).create_self_subject_access_review(access).status.allowed
        assert k8s.VersionApi(api).get_code().major == "1"
        groups = {group.name for group in k8s.ApisApi(api).get_api_versions().groups}
        assert {"apps", "batch", "rbac.authorization.k8s.io"} <= groups

    await in_thread(go)
