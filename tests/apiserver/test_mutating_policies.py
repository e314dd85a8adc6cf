"""MutatingAdmissionPolicies: configurations and patches in CEL change what is written."""

import pytest

CONFIGS = "/apis/admissionregistration.k8s.io/v1"
POLICIES, BINDINGS = f"{CONFIGS}/mutatingadmissionpolicies", f"{CONFIGS}/mutatingadmissionpolicybindings"
DEFAULT = "/api/v1/namespaces/default"
MAPS, PODS = f"{DEFAULT}/configmaps", f"{DEFAULT}/pods"


def apply(expression):
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def json_patch(expression):
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def policy(name, *mutations, resource="configmaps", **more):
    rules = [
        {
            "operations": ["CREATE", "UPDATE"],
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "resources": [resource],
        }
    ]
    return {
        "metadata": {"name": name},
        "spec": {"matchConstraints": {"resourceRules": rules}, "mutations": list(mutations), **more},
    }


async def bound(api, tree, **more):
    name = tree["metadata"]["name"]
    await api.post(POLICIES, tree)
    await api.post(BINDINGS, {"metadata": {"name": name}, "spec": {"policyName": name, **more}})


def config(name="c", **data):
    return {"metadata": {"name": name}, "data": data}


async def test_a_configuration_is_applied(api):
    await bound(
        api,
        policy("p", apply("Object{metadata: Object.metadata{labels: {'by': request.userInfo.username}}}")),
    )
    made = await api.post(MAPS, config(a="1"))
    assert made["metadata"]["labels"] == {"by": "admin"}
    assert made["data"] == {"a": "1"}
    made["metadata"]["labels"] = {"own": "x"}
    assert (await api.put(f"{MAPS}/c", made))["metadata"]["labels"] == {"own": "x", "by": "admin"}
    await api.delete(f"{MAPS}/c")


async def test_lists_with_keys_are_merged(api, account, pod):
    sidecar = """
        Object{spec: Object.spec{initContainers: [
            Object.spec.initContainers{name: "mesh", image: "localhost/mesh:1", restartPolicy: "Always"}
        ]}}"""
    conditions = [{"name": "once", "expression": "!has(object.spec.initContainers)"}]
    image = "Object{spec: Object.spec{containers: object.spec.containers.map(c, Object.spec.containers{name: c.name, image: c.image + '-slim'})}}"
    await bound(
        api,
        policy("p", apply(sidecar), apply(image), resource="pods", matchConditions=conditions),
    )
    made = (await api.post(PODS, pod("a")))["spec"]
    assert [(c["name"], c["image"], c["restartPolicy"]) for c in made["initContainers"]] == [
        ("mesh", "localhost/mesh:1", "Always")
    ]
    assert made["initContainers"][0]["imagePullPolicy"] == "IfNotPresent", "it is defaulted"
    assert [(c["name"], c["image"]) for c in made["containers"]] == [("c", "localhost/x:1-slim")]


async def test_a_patch_is_applied(api):
    patch = """
        has(object.metadata.labels) ? [] : [
            JSONPatch{op: "add", path: "/metadata/labels", value: {}},
            JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("a.io/b"), value: "c"}
        ]"""
    await bound(api, policy("p", json_patch(patch)))
    assert (await api.post(MAPS, config()))["metadata"]["labels"] == {"a.io/b": "c"}
    own = config("d") | {"metadata": {"name": "d", "labels": {"x": "y"}}}
    assert (await api.post(MAPS, own))["metadata"]["labels"] == {"x": "y"}


async def test_policies_run_in_order_and_again_when_they_want(api):
    count = "Object{data: {'n': string(size(object.data))}}"
    await bound(api, policy("a", apply(count), reinvocationPolicy="IfNeeded"))
    await bound(api, policy("b", apply("Object{data: {'more': 'x'}}")))
    assert (await api.post(MAPS, config(k="1")))["data"] == {"k": "1", "n": "3", "more": "x"}


async def test_variables_and_parameters(api):
    await api.post(MAPS, config("limits", tier="gold"))
    tree = policy(
        "p",
        apply("Object{data: {'tier': variables.tier}}"),
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        variables=[{"name": "tier", "expression": "params.data.tier"}],
    )
    ref = {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"}
    await bound(api, tree, paramRef=ref)
    assert (await api.post(MAPS, config()))["data"] == {"tier": "gold"}


@pytest.mark.parametrize(
    ("mutation", "message"),
    [
        (apply("Object{data: {'a': object.nothing}}"), "no such key: nothing"),
        (apply("'text'"), "must evaluate to an Object"),
        (json_patch("{'a': 1}"), "must evaluate to a list of JSONPatch"),
        (json_patch("[JSONPatch{op: 'remove', path: '/nothing'}]"), "resulted in error"),
    ],
)  # fmt: skip
async def test_what_fails_counts_as_the_policy_says(api, mutation, message):
    await bound(api, policy("p", mutation))
    status = await api.post(MAPS, config(), 422)
    assert "MutatingAdmissionPolicy 'p' with binding 'p' denied request" in status["message"]
    assert message in status["message"]
    await api.patch(f"{POLICIES}/p", {"spec": {"failurePolicy": "Ignore"}})
    await api.post(MAPS, config())


async def test_atomic_lists_cannot_be_merged_into(api, account, pod):
    await bound(api, policy("p", apply("Object{spec: Object.spec{tolerations: []}}"), resource="pods"))
    status = await api.post(PODS, pod("a"), 422)
    assert "may not mutate atomic arrays, maps or structs: .spec.tolerations" in status["message"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"mutations": []}, "spec.mutations"),
        ({"mutations": [{"patchType": "Other"}]}, "spec.mutations[0].patchType"),
        ({"mutations": [{"patchType": "JSONPatch"}]}, "spec.mutations[0].jsonPatch"),
        ({"mutations": [json_patch("[")]}, "spec.mutations[0].jsonPatch.expression"),
        ({"reinvocationPolicy": "Often"}, "spec.reinvocationPolicy"),
        ({"matchConstraints": {}}, "spec.matchConstraints.resourceRules"),
    ],
)
async def test_policies_that_cannot_be(api, change, field):
    tree = policy("p", apply("Object{}"))
    tree["spec"] |= change
    status = await api.post(POLICIES, tree, 422)
    assert field in {cause["field"] for cause in status["details"]["causes"]}


async def test_columns(api):
    await bound(api, policy("p", apply("Object{}")))
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    found = await api.get(POLICIES, accept=table)
    assert [column["name"] for column in found["columnDefinitions"]] == [
        "Name",
        "Mutations",
        "ParamKind",
        "Age",
    ]
    assert found["rows"][0]["cells"][:3] == ["p", 1, "<unset>"]
    found = await api.get(BINDINGS, accept=table)
    assert found["rows"][0]["cells"][:3] == ["p", "p", "<unset>"]
