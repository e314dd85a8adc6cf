import copy
from base64 import b64encode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.api.patch.strategic import strategic_patch
from edgekube.api.resource import Resource
from edgekube.api.schema import Schemas
from edgekube.api.scheme import BUILT_IN

DEPLOYMENT = "io.k8s.api.apps.v1.Deployment"
# Metrics are served by another API server in Kubernetes, so their schemas are elsewhere.
ROWS = [row for row in BUILT_IN if row.group != "metrics.k8s.io"]


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas.load()


def deployment(**container):
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}, "creationTimestamp": None},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "localhost/web:1", **container}]},
            },
        },
    }


def container_of(result):
    return result.tree["spec"]["template"]["spec"]["containers"][0]


def test_every_row_of_the_scheme_has_a_definition(schemas):
    for row in ROWS:
        name = schemas.definition_of(row.api_version, row.kind)
        assert name is not None
        assert schemas.definition(name)["type"] == "object"
    assert schemas.definition_of("example.org/v1", "Foo") is None
    assert (
        schemas.definition_of("apps/v1", "DeleteOptions")
        == "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
    )


def test_a_clean_tree_comes_back_as_it_is(schemas):
    tree = deployment()
    del tree["metadata"]["creationTimestamp"]
    before = copy.deepcopy(tree)
    result = schemas.normalise(DEPLOYMENT, tree)
    assert result.tree == before
    assert tree == before
    assert (result.unknown, result.causes) == ((), ())


def test_nulls_are_dropped_and_quantities_canonical(schemas):
    tree = deployment(
        env=None,
        command=["a", None],
        resources={"limits": {"cpu": 0.5, "memory": "1024Mi"}, "requests": {"cpu": "1000m", "memory": None}},
    )
    result = schemas.normalise(DEPLOYMENT, tree)
    assert result.causes == ()
    assert "creationTimestamp" not in result.tree["metadata"]
    container = container_of(result)
    assert "env" not in container
    assert container["command"] == ["a", ""]
    assert container["resources"] == {
        "limits": {"cpu": "500m", "memory": "1Gi"},
        "requests": {"cpu": "1", "memory": "0"},
    }


def test_zero_values_that_say_nothing_go(schemas):
    """Go leaves them out when it encodes, so two clients of one object would differ."""
    tree = deployment(
        args=[], tty=False, securityContext={}, env=[{"name": "A", "value": ""}], ports=[{"containerPort": 80, "hostPort": 0}],
        livenessProbe={"grpc": {"port": 1, "service": ""}, "periodSeconds": 0},
    )  # fmt: skip
    tree["spec"] |= {"replicas": 0, "paused": False, "minReadySeconds": 0}
    tree["metadata"] |= {"annotations": {}, "namespace": "", "labels": {"a": ""}}
    tree["spec"]["template"]["spec"] |= {
        "hostNetwork": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
    }
    result = schemas.normalise(DEPLOYMENT, tree)
    assert container_of(result) == {
        "name": "web", "image": "localhost/web:1", "securityContext": {}, "env": [{"name": "A"}],
        "ports": [{"containerPort": 80}], "livenessProbe": {"grpc": {"port": 1, "service": ""}},
    }  # fmt: skip
    assert result.tree["metadata"] == {"name": "web", "labels": {"a": ""}}
    assert result.tree["spec"].keys() == {"replicas", "selector", "template"}
    pod = result.tree["spec"]["template"]["spec"]
    assert (pod["enableServiceLinks"], pod["terminationGracePeriodSeconds"]) == (False, 0)
    assert "hostNetwork" not in pod
    claim = {"metadata": {"name": "a"}, "spec": {"storageClassName": "", "accessModes": []}}
    assert schemas.normalise("io.k8s.api.core.v1.PersistentVolumeClaim", claim).tree["spec"] == {
        "storageClassName": ""
    }


def test_unknown_fields_are_named_and_removed(schemas):
    tree = deployment(bar=1, livenessProbe={"httpGet": {"port": 80, "pathh": None}})
    tree["spec"]["foo"] = {"deep": 1}
    tree["metadata"]["annotations"] = {"free": "form"}
    result = schemas.normalise(DEPLOYMENT, tree)
    assert set(result.unknown) == {
        "spec.foo",
        "spec.template.spec.containers[0].bar",
        "spec.template.spec.containers[0].livenessProbe.httpGet.pathh",
    }
    assert "foo" not in result.tree["spec"]
    assert "bar" not in container_of(result)


@pytest.mark.parametrize(
    ("path", "value", "field", "message"),
    [
        (("spec", "replicas"), "2", "spec.replicas",
         "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"),
        (("spec", "replicas"), True, "spec.replicas",
         "json: cannot unmarshal bool into Go struct field DeploymentSpec.spec.replicas of type int32"),
        (("spec", "replicas"), 2**31, "spec.replicas",
         "json: cannot unmarshal number 2147483648 into Go struct field DeploymentSpec.spec.replicas of type int32"),
        (("spec", "replicas"), 1.5, "spec.replicas",
         "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"),
        (("metadata", "labels", "app"), 1, "metadata.labels[app]",
         "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"),
        (("spec", "template", "spec", "containers"), {}, "spec.template.spec.containers",
         "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container"),
        (("spec", "template", "spec", "containers", 0), "x", "spec.template.spec.containers[0]",
         "json: cannot unmarshal string into Go struct field Container.spec.template.spec.containers of type v1.Container"),
        (("spec", "template", "spec", "containers", 0, "ports"), [{"containerPort": "80"}],
         "spec.template.spec.containers[0].ports[0].containerPort",
         ("json: cannot unmarshal string into Go struct field "
          "ContainerPort.spec.template.spec.containers.ports.containerPort of type int32")),
        (("spec", "template", "spec", "containers", 0, "resources"), {"limits": {"cpu": "1x"}},
         "spec.template.spec.containers[0].resources.limits[cpu]", "unable to parse quantity's suffix"),
        (("metadata", "creationTimestamp"), "yesterday", "metadata.creationTimestamp",
         'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday"'),
    ],
)  # fmt: skip
def test_values_of_a_wrong_type_are_malformed(schemas, path, value, field, message):
    tree = deployment()
    at = tree
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    result = schemas.normalise(DEPLOYMENT, tree)
    (cause,) = result.malformed
    assert (cause.reason, cause.field, cause.message) == ("FieldValueTypeInvalid", field, message)
    assert result.missing == ()


def test_missing_values_are_named_and_zero(schemas):
    tree = deployment()
    del tree["spec"]["selector"]
    del tree["spec"]["template"]["spec"]["containers"][0]["name"]
    tree["spec"]["template"]["spec"]["initContainers"] = [None]
    result = schemas.normalise(DEPLOYMENT, tree)
    assert {(c.reason, c.field, c.message) for c in result.missing} == {
        ("FieldValueRequired", "spec.selector", "Required value"),
        ("FieldValueRequired", "spec.template.spec.containers[0].name", "Required value"),
        ("FieldValueRequired", "spec.template.spec.initContainers[0].name", "Required value"),
    }
    assert result.malformed == ()
    assert container_of(result)["name"] == ""
    assert result.tree["spec"]["selector"] == {}


def test_missing_values_of_a_status_are_zero_without_a_word(schemas):
    pod = {
        "metadata": {"name": "a"},
        "spec": {"containers": []},
        "status": {"containerStatuses": [{"name": "a", "ready": True}]},
    }
    result = schemas.normalise("io.k8s.api.core.v1.Pod", pod)
    assert result.causes == ()
    assert result.tree["status"]["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
        ("2024-01-02T03:04:05.999Z", "2024-01-02T03:04:05Z"),
        ("2024-01-02T03:04:05+01:00", "2024-01-02T02:04:05Z"),
    ],
)
def test_times_become_utc(schemas, given, expected):
    result = schemas.normalise("io.k8s.api.core.v1.Namespace", {"metadata": {"creationTimestamp": given}})
    assert result.tree["metadata"]["creationTimestamp"] == expected


@pytest.mark.parametrize("given", ["2024-13-02T03:04:05Z", "2024-01-02", "0001-01-01T00:00:00+23:00", 5, ""])
def test_what_is_no_time(schemas, given):
    result = schemas.normalise("io.k8s.api.core.v1.Namespace", {"metadata": {"creationTimestamp": given}})
    assert len(result.malformed) == 1


def test_micro_times(schemas):
    lease = {"metadata": {"name": "a"}, "spec": {"renewTime": "2024-01-02T03:04:05Z"}}
    result = schemas.normalise("io.k8s.api.coordination.v1.Lease", lease)
    assert result.tree["spec"]["renewTime"] == "2024-01-02T03:04:05.000000Z"


def test_bytes_are_base64(schemas):
    secret = "io.k8s.api.core.v1.Secret"
    assert schemas.normalise(secret, {"data": {"a": "aGk=", "b": "", "c": "aG\nk="}}).tree["data"] == {
        "a": "aGk=",
        "b": "",
        "c": "aGk=",
    }
    (cause,) = schemas.normalise(secret, {"data": {"a": "aGk=!"}}).malformed
    assert (cause.field, cause.message) == ("data[a]", "illegal base64 data at input byte 4")


def test_int_or_string(schemas):
    service = "io.k8s.api.core.v1.Service"
    tree = {"spec": {"ports": [{"port": 1, "targetPort": "http"}, {"port": 2, "targetPort": 3}]}}
    assert schemas.normalise(service, tree).tree == tree
    tree["spec"]["ports"][0]["targetPort"] = 1.5
    assert schemas.normalise(service, tree).malformed[0].field == "spec.ports[0].targetPort"


def test_not_an_object(schemas):
    (cause,) = schemas.normalise(DEPLOYMENT, []).malformed
    assert cause.message == "json: cannot unmarshal array into Go value of type v1.Deployment"


def test_free_form_values_stay(schemas):
    revision = {"data": {"a": None, "b": [{"c": 1}]}, "revision": 1}
    assert schemas.normalise("io.k8s.api.apps.v1.ControllerRevision", revision).tree == revision


def test_endless_nesting_is_malformed(schemas):
    tree: dict = {}
    for _ in range(2000):
        tree = {"not": tree}
    crd = {"spec": {"versions": [{"schema": {"openAPIV3Schema": tree}}]}}
    result = schemas.normalise(
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition", crd
    )
    assert result.malformed[-1].message == "json: exceeded max depth"


def test_merge_shapes(schemas):
    spec = schemas.shape(DEPLOYMENT).field("spec").shape
    pod = spec.field("template").shape.field("spec").shape
    containers = pod.field("containers")
    assert (containers.strategies, containers.merge_key) == (("merge",), "name")
    assert containers.shape.field("ports").merge_key == "containerPort"
    assert containers.shape.field("nothing") is None
    assert pod.field("volumes").strategies == ("merge", "retainKeys")
    assert spec.field("strategy").strategies == ("retainKeys",)
    assert spec.field("replicas").shape is None
    meta = schemas.shape(DEPLOYMENT).field("metadata").shape
    assert (meta.field("finalizers").strategies, meta.field("finalizers").merge_key) == (("merge",), "")
    assert meta.field("labels").shape is None


def test_strategic_patches_by_shape(schemas):
    tree = deployment(env=[{"name": "A", "value": "1"}], ports=[{"containerPort": 80}])
    patch = {
        "spec": {
            "template": {
                "spec": {
                    "containers": [
                        {"name": "side", "image": "localhost/s:1"},
                        {"name": "web", "env": [{"name": "B", "value": "2"}]},
                    ],
                    "tolerations": [{"operator": "Exists"}],
                }
            }
        }
    }
    patched = strategic_patch(tree, patch, schemas.shape(DEPLOYMENT))
    by_name = {one["name"]: one for one in patched["spec"]["template"]["spec"]["containers"]}
    assert by_name.keys() == {"web", "side"}
    assert by_name["web"]["image"] == "localhost/web:1"
    assert {variable["name"] for variable in by_name["web"]["env"]} == {"A", "B"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**33) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def trees(schemas, spec, depth):
    """Values that mostly fit a property."""
    if ref := spec.get("$ref"):
        if "Quantity" in ref:
            return st.sampled_from(["1", "0.5", "1024Mi", 3, 2.5])
        if ref.endswith("Time"):
            return st.sampled_from(["2024-01-02T03:04:05Z", "2024-01-02T03:04:05.123456+02:00"])
        if ref.endswith("IntOrString"):
            return st.sampled_from(["http", 80])
        return structs(schemas, ref, depth - 1)
    kind = spec.get("type")
    if kind == "array":
        return st.lists(trees(schemas, spec["items"], depth), max_size=2)
    if kind == "object":
        return st.dictionaries(
            st.text("abc", min_size=1),
            trees(schemas, spec.get("additionalProperties", {"type": "string"}), depth),
            max_size=2,
        )
    if spec.get("format") == "byte":
        return st.binary(max_size=5).map(lambda b: b64encode(b).decode())
    return {
        "integer": st.integers(0, 9),
        "boolean": st.booleans(),
        "number": st.floats(0, 1),
        "string": st.sampled_from(["", "a", "TCP"]),
    }[kind]


def structs(schemas, name, depth):
    definition = schemas.definition(name)
    required = definition.get("required", ())
    specs = definition.get("properties", {})
    if depth <= 0:
        specs = {k: v for k, v in specs.items() if k in required}

    @st.composite
    def build(draw):
        optional = [k for k in specs if k not in required]
        chosen = draw(st.lists(st.sampled_from(optional), max_size=4, unique=True)) if optional else []
        return {
            key: draw(trees(schemas, specs[key], depth))
            for key in [*chosen, *(k for k in specs if k in required)]
        }

    return build()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind)
def test_what_fits_is_accepted_stays_and_decodes(schemas, row: Resource):
    name = schemas.definition_of(row.api_version, row.kind)

    @settings(max_examples=30)
    @given(structs(schemas, name, 4))
    def check(tree):
        once = schemas.normalise(name, {**tree, "apiVersion": row.api_version, "kind": row.kind})
        assert once.malformed == ()
        # Only what the schema calls optional (a LimitRange's spec, too) and validation insists on.
        assert {cause.field.rpartition(".")[2] for cause in once.missing} <= {"containers", "limits"}
        assert once.unknown == ()
        assert schemas.normalise(name, once.tree).tree == once.tree
        msgspec.convert(once.tree, row.type)

    check()


@given(JSON)
def test_any_json_is_walked(tree):
    result = Schemas.load().normalise(
        DEPLOYMENT, {"apiVersion": "v1", "spec": {"template": tree, "selector": tree}}
    )
    assert {c.field for c in result.causes} >= {"spec.template.spec.containers"} or result.malformed


def test_what_is_zero_for_missing_values_decodes(schemas):
    for row in ROWS:
        name = schemas.definition_of(row.api_version, row.kind)
        msgspec.convert(
            schemas.normalise(
                name, {"spec": {}, "status": {}} if "spec" in schemas.definition(name)["properties"] else {}
            ).tree,
            row.type,
        )
