"""Strategic merge patch, over the real merge rules of the built-in kinds."""

import copy
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.errors import BadRequest
from edgekube.api.patch import strategic_patch
from edgekube.api.patch.shape import FieldShape
from edgekube.api.schema import Schemas


@cache
def shape(api_version, kind):
    schemas = Schemas.load()
    return schemas.shape(schemas.definition_of(api_version, kind))


def patched(tree, patch, *, of=("v1", "Pod")):
    """Apply a patch; see that the arguments stay as they were and the result shares nothing with them."""
    before = copy.deepcopy((tree, patch))
    result = strategic_patch(tree, patch, shape(*of))
    assert (tree, patch) == before
    kept = copy.deepcopy(result)
    scramble(result)
    assert (tree, patch) == before
    return kept


def scramble(tree):
    if isinstance(tree, dict):
        for value in tree.values():
            scramble(value)
        tree["scrambled"] = True
    elif isinstance(tree, list):
        for value in tree:
            scramble(value)
        tree.append("scrambled")


def pod(*containers, **spec):
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers), **spec}}


A, B, C = ({"name": name, "image": f"{name}:1"} for name in "abc")

TABLE = {
    "maps merge and null removes": (
        {"metadata": {"labels": {"a": "1", "b": "2"}, "annotations": {"x": "y"}}},
        {"metadata": {"labels": {"a": "3", "b": None, "c": "4"}, "annotations": None}},
        {"metadata": {"labels": {"a": "3", "c": "4"}}},
    ),
    "a null for what is not there": ({"metadata": {}}, {"metadata": {"labels": {"a": None}}, "spec": None}, {"metadata": {"labels": {}}}),
    "containers merge by name": (
        pod(A, B),
        {"spec": {"containers": [{"name": "b", "image": "b:2"}]}},
        pod(A, {"name": "b", "image": "b:2"}),
    ),
    "what is new comes first without an order": (pod(A), {"spec": {"containers": [B]}}, pod(B, A)),
    "an item goes": (pod(A, B), {"spec": {"containers": [{"$patch": "delete", "name": "a"}]}}, pod(B)),
    "an item that is not there goes": (pod(A), {"spec": {"containers": [{"$patch": "delete", "name": "z"}]}}, pod(A)),
    "a list is replaced": (pod(A, B), {"spec": {"containers": [C, {"$patch": "replace"}]}}, pod(C)),
    "a list is emptied": (pod(A, B), {"spec": {"containers": [{"$patch": "replace"}]}}, pod()),
    "a map is replaced": (
        {"metadata": {"labels": {"a": "1"}}},
        {"metadata": {"labels": {"$patch": "replace", "b": "2"}}},
        {"metadata": {"labels": {"b": "2"}}},
    ),
    "a map is emptied": ({"metadata": {"labels": {"a": "1"}}}, {"metadata": {"labels": {"$patch": "delete"}}}, {"metadata": {"labels": {}}}),
    "a map merges on request": (
        {"metadata": {"labels": {"a": "1"}}},
        {"metadata": {"labels": {"$patch": "merge", "b": "2"}}},
        {"metadata": {"labels": {"a": "1", "b": "2"}}},
    ),
    "an atomic list is replaced": (
        pod(A, tolerations=[{"key": "x"}]),
        {"spec": {"tolerations": [{"key": "y"}]}},
        pod(A, tolerations=[{"key": "y"}]),
    ),
    "plain values unite": (
        {"metadata": {"finalizers": ["a", "b"]}},
        {"metadata": {"finalizers": ["b", "c"]}},
        {"metadata": {"finalizers": ["a", "b", "c"]}},
    ),
    "plain values go": (
        {"metadata": {"finalizers": ["a", "b", "c"]}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "c", "z"]}},
        {"metadata": {"finalizers": ["b"]}},
    ),
    "plain values go from nowhere": ({"metadata": {}}, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}, {"metadata": {}}),
    "plain values go, come and are ordered": (
        {"metadata": {"finalizers": ["a", "b", "server"]}},
        {"metadata": {
            "$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"],
        }},
        {"metadata": {"finalizers": ["c", "b", "server"]}},
    ),
    "owner references merge by uid": (
        {"metadata": {"ownerReferences": [{"uid": "1", "name": "a"}]}},
        {"metadata": {"ownerReferences": [{"uid": "1", "controller": True}, {"uid": "2"}]}},
        {"metadata": {"ownerReferences": [{"uid": "1", "name": "a", "controller": True}, {"uid": "2"}]}},
    ),
    "an order alone": (pod(A, B, C), {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}}, pod(C, A, B)),
    "what only the server has keeps its place": (
        pod(A, {"name": "injected"}, B),
        {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}},
        pod({"name": "injected"}, B, A),
    ),
    "what only the server has stays in front": (
        pod({"name": "injected"}, A, B),
        {"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}], "containers": [C]}},
        pod({"name": "injected"}, A, B, C),
    ),
    "an order for a list that goes": (
        pod(A, tolerations=[], volumes=[{"name": "v"}]),
        {"spec": {"$setElementOrder/volumes": [], "volumes": None}},
        pod(A, tolerations=[]),
    ),
    "an order for nothing": (pod(A), {"spec": {"$setElementOrder/volumes": [{"name": "v"}]}}, pod(A)),
    "a new list with its order": (
        pod(A),
        {"spec": {"$setElementOrder/volumes": [{"name": "v"}], "volumes": [{"name": "v", "emptyDir": {}}]}},
        pod(A, volumes=[{"name": "v", "emptyDir": {}}]),
    ),
    "a volume's source changes": (
        pod(A, volumes=[{"name": "v", "emptyDir": {}}, {"name": "w"}]),
        {"spec": {
            "$setElementOrder/volumes": [{"name": "v"}, {"name": "w"}],
            "volumes": [{"$retainKeys": ["name", "configMap"], "name": "v", "configMap": {"name": "c"}, "emptyDir": None}],
        }},
        pod(A, volumes=[{"name": "v", "configMap": {"name": "c"}}, {"name": "w"}]),
    ),
    "retained keys drop the others": (
        pod(A, volumes=[{"name": "v", "emptyDir": {}}]),
        {"spec": {"volumes": [{"$retainKeys": ["name", "configMap"], "name": "v", "configMap": {}}]}},
        pod(A, volumes=[{"name": "v", "configMap": {}}]),
    ),
    "directives in what is new fall away": (
        {"metadata": {}},
        {"spec": {
            "$setElementOrder/containers": [{"name": "a"}, {"name": "gone"}],
            "containers": [
                {"name": "a", "env": [{"name": "X", "value": None}], "resources": {"$patch": "replace", "limits": {}}},
                {"$patch": "delete", "name": "gone"},
            ],
            "$deleteFromPrimitiveList/x": ["y"],
        }},
        {"metadata": {}, "spec": {"containers": [{"name": "a", "env": [{"name": "X"}], "resources": {"limits": {}}}]}},
    ),
    "new twins by merge key both stay": (
        pod({"name": "a"}),
        {"spec": {"containers": [{"name": "a", "ports": [
            {"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"},
        ]}]}},
        pod({"name": "a", "ports": [{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}]}),
    ),
    "a value changes its type": ({"spec": {"hostname": "x"}}, {"spec": {"hostname": {"a": 1}}}, {"spec": {"hostname": {"a": 1}}}),
    "unknown fields merge or are replaced": (
        {"spec": {"odd": {"a": 1, "l": [1]}}},
        {"spec": {"odd": {"b": 2, "l": [2]}}},
        {"spec": {"odd": {"a": 1, "b": 2, "l": [2]}}},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("tree", "patch", "wanted"), TABLE.values(), ids=TABLE)
def test_table(tree, patch, wanted):
    assert patched(tree, patch) == wanted


REFUSED = {
    "not an object": (["x"], "is an object"),
    "an unknown directive": ({"metadata": {"$patch": "frobnicate"}}, "unknown patch type"),
    "a directive that is no word": ({"metadata": {"$patch": ["x"]}}, "unknown patch type"),
    "an unknown directive in a list": ({"spec": {"containers": [{"$patch": "merge", "name": "a"}]}}, "unknown patch type"),
    "an item without its key": ({"spec": {"containers": [{"image": "x"}]}}, "does not contain declared merge key: name"),
    "a deletion without its key": ({"spec": {"containers": [{"$patch": "delete"}]}}, "does not contain declared merge key: name"),
    "plain values among objects": ({"spec": {"containers": ["a"]}}, "objects and plain values"),
    "lists in a list": ({"spec": {"containers": [["a"]]}}, "lists of lists"),
    "an order that is no list": ({"spec": {"$setElementOrder/containers": {}}}, "is not a list"),
    "an order that leaves an item out": (
        {"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}}, "doesn't match",
    ),
    "an order that turns items round": (
        {"spec": {
            "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a"}, {"name": "b"}],
        }},
        "doesn't match",
    ),
    "retained keys that are no list": ({"spec": {"$retainKeys": "x"}}, "is not a list"),
    "a key that is not retained": ({"spec": {"$retainKeys": ["a"], "b": 1}}, "b is set but not in $retainKeys"),
    "a deletion that is no list": ({"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}}, "is not a list"),
}  # fmt: skip


@pytest.mark.parametrize(("patch", "says"), REFUSED.values(), ids=REFUSED)
def test_refused(patch, says):
    with pytest.raises(BadRequest) as caught:
        strategic_patch(pod(A, B), patch, shape("v1", "Pod"))
    assert says in caught.value.message


DEPLOYMENT = ("apps/v1", "Deployment")


def deployment(*containers, **spec):
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "annotations": {"deployment.kubernetes.io/revision": "1", "last": "old"}},
        "spec": {
            "replicas": 2,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": list(containers)}},
            **spec,
        },
        "status": {"replicas": 2},
    }


WEB = {
    "name": "web",
    "image": "web:1",
    "imagePullPolicy": "IfNotPresent",
    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
    "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 443, "protocol": "TCP"}],
}


def test_apply_that_changes_an_image_and_the_environment():
    """What kubectl apply sends: only what changed, with the order of every list on the way."""
    patch = {
        "metadata": {"annotations": {"last": "new"}},
        "spec": {
            "replicas": None,
            "template": {"spec": {
                "$setElementOrder/containers": [{"name": "web"}],
                "containers": [{
                    "$setElementOrder/env": [{"name": "C"}, {"name": "B"}],
                    "$setElementOrder/ports": [{"containerPort": 80}],
                    "env": [{"name": "C", "value": "3"}, {"$patch": "delete", "name": "A"}],
                    "image": "web:2",
                    "name": "web",
                    "ports": [{"$patch": "delete", "containerPort": 443}],
                }],
            }},
        },
    }  # fmt: skip
    result = patched(deployment(WEB), patch, of=DEPLOYMENT)
    (container,) = result["spec"]["template"]["spec"]["containers"]
    assert container == {
        **WEB,
        "image": "web:2",
        "env": [{"name": "C", "value": "3"}, {"name": "B", "value": "2"}],
        "ports": [{"containerPort": 80, "protocol": "TCP"}],
    }
    assert "replicas" not in result["spec"]
    assert result["metadata"]["annotations"] == {"deployment.kubernetes.io/revision": "1", "last": "new"}
    assert result["status"] == {"replicas": 2}


def test_apply_that_adds_and_removes_containers():
    side = {"name": "side", "image": "side:1"}
    patch = {"spec": {"template": {"spec": {
        "$setElementOrder/containers": [{"name": "side"}, {"name": "web"}],
        "containers": [side, {"$patch": "delete", "name": "old"}],
    }}}}  # fmt: skip
    result = patched(deployment(WEB, {"name": "old"}), patch, of=DEPLOYMENT)
    assert result["spec"]["template"]["spec"]["containers"] == [side, WEB]


def test_apply_that_changes_the_strategy():
    before = deployment(WEB, strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}})
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert patched(before, patch, of=DEPLOYMENT)["spec"]["strategy"] == {"type": "Recreate"}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate", "rollingUpdate": None}}}
    assert patched(before, patch, of=DEPLOYMENT)["spec"]["strategy"] == {"type": "Recreate"}
    fresh = deployment(WEB)
    assert patched(fresh, patch, of=DEPLOYMENT)["spec"]["strategy"] == {"type": "Recreate"}


def test_set_image_and_rollout_restart():
    result = patched(
        deployment(WEB),
        {"spec": {"template": {"spec": {
            "$setElementOrder/containers": [{"name": "web"}], "containers": [{"image": "web:3", "name": "web"}],
        }}}},
        of=DEPLOYMENT,
    )  # fmt: skip
    assert result["spec"]["template"]["spec"]["containers"] == [{**WEB, "image": "web:3"}]
    restart = {
        "spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}
    }
    result = patched(deployment(WEB), restart, of=DEPLOYMENT)
    assert result["spec"]["template"]["metadata"] == {
        "labels": {"app": "web"},
        "annotations": {"kubectl.kubernetes.io/restartedAt": "now"},
    }


def test_apply_to_a_service():
    service = {
        "spec": {
            "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}],
            "selector": {"app": "a"},
            "clusterIP": "10.0.0.1",
        }
    }
    patch = {"spec": {
        "$setElementOrder/ports": [{"port": 80}, {"port": 443}],
        "ports": [{"port": 80, "targetPort": 8080}, {"port": 443}],
        "selector": {"app": None, "new": "b"},
    }}  # fmt: skip
    assert patched(service, patch, of=("v1", "Service")) == {
        "spec": {
            "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}, {"port": 443}],
            "selector": {"new": "b"},
            "clusterIP": "10.0.0.1",
        }
    }


def test_node_conditions_merge_by_type():
    node = {
        "status": {
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "r"},
                {"type": "Disk", "status": "False"},
            ]
        }
    }
    patch = {"status": {
        "$setElementOrder/conditions": [{"type": "Ready"}, {"type": "Disk"}],
        "conditions": [{"type": "Ready", "status": "Unknown"}],
    }}  # fmt: skip
    assert patched(node, patch, of=("v1", "Node"))["status"]["conditions"] == [
        {"type": "Ready", "status": "Unknown", "reason": "r"},
        {"type": "Disk", "status": "False"},
    ]


def test_without_a_shape():
    tree = {"spec": {"list": [{"name": "a"}], "map": {"x": 1}}}
    patch = {"spec": {"list": [{"name": "b"}], "map": {"y": 2}}}
    assert strategic_patch(tree, patch, None) == {"spec": {"list": [{"name": "b"}], "map": {"x": 1, "y": 2}}}


class Fixed:
    """A shape from a table."""

    def __init__(self, **fields):
        self.fields = fields

    def field(self, name):
        return self.fields.get(name)


def test_a_map_that_is_replaced_by_its_strategy():
    rules = Fixed(
        whole=FieldShape(("replace",), "", None), both=FieldShape(("merge", "retainKeys"), "", None)
    )
    tree = {"whole": {"a": 1}, "both": {"a": 1}}
    patch = {"whole": {"b": 2, "$retainKeys": ["b"]}, "both": {"b": 2}}
    assert strategic_patch(tree, patch, rules) == {"whole": {"b": 2}, "both": {"a": 1, "b": 2}}


def test_a_merged_list_of_objects_needs_a_key():
    rules = Fixed(items=FieldShape(("merge",), "", None))
    with pytest.raises(BadRequest, match="without merge key"):
        strategic_patch({"items": []}, {"items": [{"a": 1}]}, rules)


NAMES = st.sampled_from("abcdef")
ITEMS = st.lists(
    st.builds(lambda name, image: {"name": name, "image": image}, NAMES, st.integers(0, 3)),
    unique_by=lambda item: item["name"],
)


@given(ITEMS, ITEMS)
def test_a_full_patch_makes_the_list_what_is_wished(before, wished):
    """The patch that turns one list into another: deletions, changes and the order."""
    names = {item["name"] for item in wished}
    gone = [{"$patch": "delete", "name": item["name"]} for item in before if item["name"] not in names]
    order = [{"name": item["name"]} for item in wished]
    patch = {"spec": {"$setElementOrder/containers": order, "containers": [*wished, *gone]}}
    assert patched(pod(*before), patch) == pod(*wished)


@given(ITEMS, ITEMS)
def test_applying_twice_is_applying_once(before, changes):
    patch = {"spec": {"containers": changes}}
    once = patched(pod(*before), patch)
    assert patched(once, patch) == once
    found = {item["name"]: item["image"] for item in once["spec"]["containers"]}
    assert found == {item["name"]: item["image"] for item in [*before, *changes]}


@given(ITEMS, st.permutations("abcdef"))
def test_an_order_changes_nothing_but_the_order(before, order):
    known = [{"name": name} for name in order[:4]]
    result = patched(pod(*before), {"spec": {"$setElementOrder/containers": known}})["spec"]["containers"]
    assert sorted(result, key=lambda item: item["name"]) == sorted(before, key=lambda item: item["name"])
    ordered = [item["name"] for item in result if item["name"] in order[:4]]
    assert ordered == [name for name in order[:4] if name in ordered]
    others = [item["name"] for item in result if item["name"] not in order[:4]]
    assert others == [item["name"] for item in before if item["name"] not in order[:4]]


TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(max_size=2)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "spec",
                    "containers",
                    "$patch",
                    "$retainKeys",
                    "$setElementOrder/containers",
                    "metadata",
                ]
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["metadata", "spec"]), TREES), TREES)
def test_any_patch_applies_or_is_a_bad_request(tree, patch):
    before = copy.deepcopy((tree, patch))
    try:
        result = strategic_patch(tree, patch, shape("v1", "Pod"))
    except BadRequest:
        pass
    else:
        assert isinstance(result, dict)
    assert (tree, patch) == before
