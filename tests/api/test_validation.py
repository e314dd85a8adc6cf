import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api import defaults, validation
from edgekube.api.errors import Cause
from edgekube.api.resource import Resource, Scope
from edgekube.api.schema import Schemas
from edgekube.api.scheme import Scheme
from edgekube.api.validation import names

MANIFESTS = list(yaml.safe_load_all(Path(__file__).with_name("manifests.yaml").read_text()))
SCHEMAS = Schemas.load()
SCHEME = Scheme()
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
REQUIRED, INVALID, DUPLICATE = "FieldValueRequired", "FieldValueInvalid", "FieldValueDuplicate"
FORBIDDEN, UNSUPPORTED = "FieldValueForbidden", "FieldValueNotSupported"
DROP = object()


def row_of(tree):
    return SCHEME.by_kind(tree["apiVersion"], tree["kind"])


def ready(kind, name):
    tree = copy.deepcopy(next(m for m in MANIFESTS if (m["kind"], m["metadata"]["name"]) == (kind, name)))
    row = row_of(tree)
    tree = SCHEMAS.normalise(SCHEMAS.definition_of(row.api_version, row.kind), tree).tree
    defaults.apply(row, tree)
    return tree


def put(tree, path, value):
    """Set (or drop) what a path such as `spec.containers.0.image` names."""
    *way, last = [int(step) if step.isdigit() else step for step in path.split(" ")]
    for step in way:
        tree = tree.setdefault(step, {}) if isinstance(tree, dict) else tree[step]
    if value is DROP:
        del tree[last]
    else:
        tree[last] = value


@pytest.mark.parametrize("tree", MANIFESTS, ids=lambda tree: f"{tree['kind']}-{tree['metadata']['name']}")
def test_what_is_valid_is_accepted(tree):
    tree = ready(tree["kind"], tree["metadata"]["name"])
    assert validation.create(row_of(tree), tree) == []
    assert validation.update(row_of(tree), tree, copy.deepcopy(tree)) == []
    assert validation.update(row_of(tree), tree, copy.deepcopy(tree), subresource="status") == []


POD = ("Pod", "bare")
WEB = ("Deployment", "web")
C = "spec template spec containers 0"
P = "spec.template.spec.containers[0]"
PORT = {"port": 80, "protocol": "TCP", "targetPort": 80}
CREATE = [
    # metadata
    (POD, "metadata name", "A_b", INVALID, "metadata.name", f'Invalid value: "A_b": {SUBDOMAIN}'),
    (POD, "metadata name", DROP, REQUIRED, "metadata.name", "Required value: name or generateName is required"),
    (POD, "metadata namespace", DROP, REQUIRED, "metadata.namespace", "Required value"),
    (POD, "metadata namespace", "A", INVALID, "metadata.namespace", f'Invalid value: "A": {LABEL}'),
    (("Namespace", "team-a"), "metadata name", "a.b", INVALID, "metadata.name", f'Invalid value: "a.b": {LABEL}'),
    (("Namespace", "team-a"), "metadata namespace", "x", FORBIDDEN, "metadata.namespace", "Forbidden: not allowed on this type"),
    (("Service", "web"), "metadata name", "1web", INVALID, "metadata.name",
     ("Invalid value: \"1web\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
      "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
      "'[a-z]([-a-z0-9]*[a-z0-9])?')")),
    (POD, "metadata generateName", "A-", INVALID, "metadata.generateName", f'Invalid value: "A-": {SUBDOMAIN}'),
    (POD, "metadata labels", {"a": "b c"}, INVALID, "metadata.labels",
     ("Invalid value: \"b c\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and "
      "must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation "
      "is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')")),
    (POD, "metadata labels", {"/a": "b"}, INVALID, "metadata.labels", 'Invalid value: "/a": prefix part must be non-empty'),
    (POD, "metadata annotations", {"a": "x" * 262144}, "FieldValueTooLong", "metadata.annotations",
     "Too long: may not be more than 262144 bytes"),
    (POD, "metadata finalizers", ["x"], INVALID, "metadata.finalizers[0]",
     'Invalid value: "x": name is neither a standard finalizer name nor is it fully qualified'),
    (POD, "metadata ownerReferences", [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": ""}], INVALID,
     "metadata.ownerReferences[0].uid", 'Invalid value: "": must not be empty'),
    # workloads
    (WEB, "spec replicas", -1, INVALID, "spec.replicas", "Invalid value: -1: must be greater than or equal to 0"),
    (WEB, "spec selector", {}, INVALID, "spec.selector", "Invalid value: {}: empty selector is invalid for deployment"),
    (WEB, "spec selector", DROP, REQUIRED, "spec.selector", "Required value"),
    (WEB, "spec template metadata labels", {"app": "other"}, INVALID, "spec.template.metadata.labels",
     'Invalid value: {"app":"other"}: `selector` does not match template `labels`'),
    (WEB, "spec template spec restartPolicy", "Never", UNSUPPORTED, "spec.template.spec.restartPolicy",
     'Unsupported value: "Never": supported values: "Always"'),
    (WEB, "spec strategy type", "Blue", UNSUPPORTED, "spec.strategy.type",
     'Unsupported value: "Blue": supported values: "Recreate", "RollingUpdate"'),
    (WEB, "spec strategy type", "Recreate", FORBIDDEN, "spec.strategy.rollingUpdate",
     "Forbidden: may not be specified when strategy `type` is 'Recreate'"),
    (WEB, "spec strategy rollingUpdate", {"maxUnavailable": 0, "maxSurge": "0%"}, INVALID,
     "spec.strategy.rollingUpdate.maxUnavailable", "Invalid value: 0: may not be 0 when `maxSurge` is 0"),
    (WEB, "spec strategy rollingUpdate maxSurge", "x", INVALID, "spec.strategy.rollingUpdate.maxSurge",
     ("Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', "
      "regex used for validation is '[0-9]+%')")),
    (WEB, "spec progressDeadlineSeconds", 0, INVALID, "spec.progressDeadlineSeconds",
     "Invalid value: 0: must be greater than minReadySeconds"),
    (("ReplicaSet", "web-1"), "spec selector", {"matchExpressions": [{"key": "app", "operator": "In"}]}, REQUIRED,
     "spec.selector.matchExpressions[0].values", "Required value: must be specified when `operator` is 'In' or 'NotIn'"),
    # containers
    (WEB, "spec template spec containers", [], REQUIRED, "spec.template.spec.containers", "Required value"),
    (WEB, f"{C} name", "", REQUIRED, f"{P}.name", "Required value"),
    (WEB, f"{C} name", "A", INVALID, f"{P}.name", f'Invalid value: "A": {LABEL}'),
    (WEB, f"{C} name", "init", DUPLICATE, f"{P}.name", 'Duplicate value: "init"'),
    (WEB, f"{C} image", DROP, REQUIRED, f"{P}.image", "Required value"),
    (WEB, f"{C} image", " a", INVALID, f"{P}.image", 'Invalid value: " a": must not have leading or trailing whitespace'),
    (WEB, f"{C} imagePullPolicy", "Maybe", UNSUPPORTED, f"{P}.imagePullPolicy",
     'Unsupported value: "Maybe": supported values: "Always", "IfNotPresent", "Never"'),
    (WEB, f"{C} ports 0 containerPort", 70000, INVALID, f"{P}.ports[0].containerPort",
     "Invalid value: 70000: must be between 1 and 65535, inclusive"),
    (WEB, f"{C} ports 0 name", "too--long-a-name-x", INVALID, f"{P}.ports[0].name",
     'Invalid value: "too--long-a-name-x": must be no more than 15 bytes'),
    (WEB, f"{C} ports 1 name", "http", DUPLICATE, f"{P}.ports[1].name", 'Duplicate value: "http"'),
    (WEB, f"{C} ports 0 protocol", "tcp", UNSUPPORTED, f"{P}.ports[0].protocol",
     'Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"'),
    (WEB, f"{C} env 0 name", "a=b", INVALID, f"{P}.env[0].name",
     "Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='"),
    (WEB, f"{C} env 1 value", "x", INVALID, f"{P}.env[1].valueFrom",
     'Invalid value: "": may not be specified when `value` is not empty'),
    (WEB, f"{C} env 1 valueFrom", {}, INVALID, f"{P}.env[1].valueFrom",
     'Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`'),
    (WEB, f"{C} env 1 valueFrom fieldRef fieldPath", "spec.x", UNSUPPORTED, f"{P}.env[1].valueFrom.fieldRef.fieldPath",
     ('Unsupported value: "spec.x": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", '
      '"spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"')),
    (WEB, f"{C} envFrom 0", {}, INVALID, f"{P}.envFrom[0]",
     'Invalid value: "": must specify one of: `configMapRef` or `secretRef`'),
    (WEB, f"{C} livenessProbe", {}, REQUIRED, f"{P}.livenessProbe", "Required value: must specify a handler type"),
    (WEB, f"{C} livenessProbe tcpSocket", {"port": 1}, FORBIDDEN, f"{P}.livenessProbe.tcpSocket",
     "Forbidden: may not specify more than 1 handler type"),
    (WEB, f"{C} livenessProbe successThreshold", 2, INVALID, f"{P}.livenessProbe.successThreshold",
     "Invalid value: 2: must be 1"),
    (WEB, f"{C} livenessProbe httpGet port", 0, INVALID, f"{P}.livenessProbe.httpGet.port",
     "Invalid value: 0: must be between 1 and 65535, inclusive"),
    (WEB, f"{C} livenessProbe periodSeconds", -1, INVALID, f"{P}.livenessProbe.periodSeconds",
     "Invalid value: -1: must be greater than or equal to 0"),
    (WEB, f"{C} resources requests cpu", "2", INVALID, f"{P}.resources.requests",
     'Invalid value: "2": must be less than or equal to cpu limit of 500m'),
    (WEB, f"{C} resources limits memory", "-1", INVALID, f"{P}.resources.limits[memory]",
     'Invalid value: "-1": must be greater than or equal to 0'),
    (WEB, f"{C} resources limits disk", "1", INVALID, f"{P}.resources.limits[disk]",
     'Invalid value: "disk": must be a standard resource type or fully qualified'),
    (WEB, f"{C} volumeMounts 0 name", "gone", "FieldValueNotFound", f"{P}.volumeMounts[0].name", 'Not found: "gone"'),
    (WEB, f"{C} volumeMounts 1 mountPath", "/etc/web", INVALID, f"{P}.volumeMounts[1].mountPath",
     'Invalid value: "/etc/web": must be unique'),
    (WEB, f"{C} volumeMounts 1 subPath", "../x", INVALID, f"{P}.volumeMounts[1].subPath",
     "Invalid value: \"../x\": must not contain '..'"),
    (WEB, f"{C} securityContext", {"runAsUser": -1}, INVALID, f"{P}.securityContext.runAsUser",
     "Invalid value: -1: must be between 0 and 2147483647, inclusive"),
    # volumes
    (WEB, "spec template spec volumes 1 name", "config", DUPLICATE, "spec.template.spec.volumes[1].name", 'Duplicate value: "config"'),
    (WEB, "spec template spec volumes 1 hostPath", {"path": "/x"}, FORBIDDEN, "spec.template.spec.volumes[1].hostPath",
     "Forbidden: may not specify more than 1 volume type"),
    (WEB, "spec template spec volumes 2 hostPath", {"path": "/a/../b"}, INVALID, "spec.template.spec.volumes[2].hostPath.path",
     "Invalid value: \"/a/../b\": must not contain '..'"),
    (WEB, "spec template spec volumes 3 secret defaultMode", 0o1000, INVALID, "spec.template.spec.volumes[3].secret.defaultMode",
     "Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive"),
    # pods
    (POD, "spec dnsPolicy", "None", REQUIRED, "spec.dnsConfig", "Required value: must provide `dnsConfig` when `dnsPolicy` is None"),
    (POD, "spec restartPolicy", "x", UNSUPPORTED, "spec.restartPolicy",
     'Unsupported value: "x": supported values: "Always", "Never", "OnFailure"'),
    (POD, "spec terminationGracePeriodSeconds", -1, INVALID, "spec.terminationGracePeriodSeconds",
     "Invalid value: -1: must be greater than or equal to 0"),
    (POD, "spec containers 0 ports 0 hostPort", 81, INVALID, "spec.containers[0].ports[0].containerPort",
     "Invalid value: 80: must match `hostPort` when `hostNetwork` is true"),
    (POD, "spec containers 0 resources requests example.com/gpu", "1", INVALID, "spec.containers[0].resources.requests",
     'Invalid value: "1": must be equal to example.com/gpu limit of 2'),
    (POD, "spec containers 0 resources limits example.com/gpu", DROP, REQUIRED, "spec.containers[0].resources.limits",
     "Required value: Limit must be set for non overcommitable resources"),
    (POD, "spec tolerations", [{"key": "a", "operator": "x"}], UNSUPPORTED, "spec.tolerations[0].operator",
     'Unsupported value: "x": supported values: "Equal", "Exists"'),
    (POD, "spec affinity nodeAffinity requiredDuringSchedulingIgnoredDuringExecution", {}, REQUIRED,
     "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
     "Required value: must have at least one node selector term"),
    (POD, "spec affinity nodeAffinity preferredDuringSchedulingIgnoredDuringExecution",
     [{"weight": 0, "preference": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": []}]}}], REQUIRED,
     "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values",
     "Required value: must be specified single value when `operator` is 'Lt' or 'Gt'"),
    (POD, "spec affinity podAntiAffinity requiredDuringSchedulingIgnoredDuringExecution", [{"topologyKey": ""}], REQUIRED,
     "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey",
     "Required value: can not be empty"),
    (POD, "spec affinity podAffinity preferredDuringSchedulingIgnoredDuringExecution",
     [{"weight": 101, "podAffinityTerm": {"topologyKey": "a"}}], INVALID,
     "spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight",
     "Invalid value: 101: must be in the range 1-100"),
    (POD, "spec topologySpreadConstraints", [{"maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}], INVALID,
     "spec.topologySpreadConstraints[0].maxSkew", "Invalid value: 0: must be greater than zero"),
    (POD, "spec securityContext seccompProfile", {"type": "Localhost"}, REQUIRED,
     "spec.securityContext.seccompProfile.localhostProfile", "Required value: must be set when seccomp type is Localhost"),
    (POD, "spec securityContext supplementalGroups", [-1], INVALID, "spec.securityContext.supplementalGroups[0]",
     "Invalid value: -1: must be between 0 and 2147483647, inclusive"),
    (WEB, f"{C} volumeMounts 0 mountPropagation", "Bidirectional", FORBIDDEN, f"{P}.volumeMounts[0].mountPropagation",
     "Forbidden: Bidirectional mount propagation is available only to privileged containers"),
    # services
    (("Service", "web"), "spec ports", [], REQUIRED, "spec.ports", "Required value"),
    (("Service", "web"), "spec ports", [PORT, PORT | {"name": "b", "port": 81}], REQUIRED, "spec.ports[0].name", "Required value"),
    (("Service", "many"), "spec ports 1 name", "http", DUPLICATE, "spec.ports[1].name", 'Duplicate value: "http"'),
    (("Service", "web"), "spec ports 0 port", 0, INVALID, "spec.ports[0].port", "Invalid value: 0: must be between 1 and 65535, inclusive"),
    (("Service", "web"), "spec ports 0 nodePort", 30000, FORBIDDEN, "spec.ports[0].nodePort",
     "Forbidden: may not be used when `type` is 'ClusterIP'"),
    (("Service", "web"), "spec type", "x", UNSUPPORTED, "spec.type",
     'Unsupported value: "x": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"'),
    (("Service", "headless"), "spec type", "NodePort", INVALID, "spec.clusterIPs[0]",
     "Invalid value: \"None\": may not be set to 'None' for NodePort services"),
    (("Service", "web"), "spec externalTrafficPolicy", "Local", INVALID, "spec.externalTrafficPolicy",
     'Invalid value: "Local": may only be set for externally-accessible services'),
    (("Service", "many"), "spec ports 1", {**PORT, "name": "x", "nodePort": 30080, "port": 90}, DUPLICATE,
     "spec.ports[1].nodePort", "Duplicate value: 30080"),
    (("Service", "many"), "spec ports 1", {**PORT, "name": "x"}, DUPLICATE, "spec.ports[1]",
     'Duplicate value: {"protocol":"TCP","port":80}'),
    (("Service", "alias"), "spec externalName", "", REQUIRED, "spec.externalName", "Required value"),
    # the rest
    (("ConfigMap", "cm"), "data", {"a b": ""}, INVALID, "data[a b]",
     ("Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
      "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')")),
    (("ConfigMap", "cm"), "data x", "", INVALID, "data[x]", 'Invalid value: "x": duplicate of key present in binaryData'),
    (("ConfigMap", "cm"), "data big", "x" * 2**20, "FieldValueTooLong", "", "Too long: may not be more than 1048576 bytes"),
    (("Secret", "tls"), "data tls.key", DROP, REQUIRED, "data[tls.key]", "Required value"),
    (("Node", "pi-1"), "spec taints 0 effect", "x", UNSUPPORTED, "spec.taints[0].effect",
     'Unsupported value: "x": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"'),
    (("EndpointSlice", "web-x"), "endpoints 0 addresses", ["x"], INVALID, "endpoints[0].addresses[0]",
     'Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'),
    (("EndpointSlice", "web-x"), "addressType", "IPv5", UNSUPPORTED, "addressType",
     'Unsupported value: "IPv5": supported values: "FQDN", "IPv4", "IPv6"'),
    (("Endpoints", "web"), "subsets 0 addresses", [], REQUIRED, "subsets[0]",
     "Required value: must specify `addresses` or `notReadyAddresses`"),
    (("Lease", "l"), "spec leaseDurationSeconds", 0, INVALID, "spec.leaseDurationSeconds", "Invalid value: 0: must be greater than 0"),
    (("Event", "e"), "involvedObject namespace", "x", INVALID, "involvedObject.namespace",
     'Invalid value: "x": does not match event.namespace'),
    (("PersistentVolume", "pv"), "spec hostPath", DROP, REQUIRED, "spec", "Required value: must specify a volume type"),
    (("PersistentVolumeClaim", "pvc"), "spec accessModes", [], REQUIRED, "spec.accessModes",
     "Required value: at least 1 access mode is required"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("which", "path", "value", "reason", "field", "message"),
    CREATE,
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_what_is_wrong_is_named(which, path, value, reason, field, message):
    tree = ready(*which)
    put(tree, path, value)
    assert Cause(reason, message, field) in validation.create(row_of(tree), tree)


FROZEN = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
UPDATE = [
    (POD, "metadata name", "other", INVALID, "metadata.name", 'Invalid value: "other": field is immutable'),
    (POD, "metadata uid", "u", INVALID, "metadata.uid", 'Invalid value: "u": field is immutable'),
    (POD, "spec hostname", "h", FORBIDDEN, "spec", f"{FROZEN}\nspec.hostname differs"),
    (POD, "spec containers 0 command", ["x"], FORBIDDEN, "spec", f"{FROZEN}\nspec.containers differs"),
    (POD, "spec containers", [], FORBIDDEN, "spec.containers", "Forbidden: pod updates may not add or remove containers"),
    (POD, "spec containers 0 image", "", REQUIRED, "spec.containers[0].image", "Required value"),
    (WEB, "spec selector matchLabels", {"tier": "front"}, INVALID, "spec.selector",
     'Invalid value: {"matchLabels":{"tier":"front"}}: field is immutable'),
    (("Secret", "s"), "type", "kubernetes.io/tls", INVALID, "type", 'Invalid value: "kubernetes.io/tls": field is immutable'),
    (("EndpointSlice", "web-x"), "addressType", "IPv6", INVALID, "addressType", 'Invalid value: "IPv6": field is immutable'),
    (("PersistentVolume", "pv"), "spec hostPath path", "/b", FORBIDDEN, "spec.persistentvolumesource",
     "Forbidden: spec.persistentvolumesource is immutable after creation"),
    (("PersistentVolumeClaim", "pvc"), "spec resources requests storage", "1Mi", FORBIDDEN, "spec.resources.requests.storage",
     "Forbidden: field can not be less than status.capacity"),
    (("Node", "pi-1"), "spec podCIDRs", [], FORBIDDEN, "spec.podCIDRs",
     'Forbidden: node updates may not change podCIDR except from "" to valid'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("which", "path", "value", "reason", "field", "message"),
    UPDATE,
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_what_may_not_change(which, path, value, reason, field, message):
    old = ready(*which)
    tree = copy.deepcopy(old)
    put(tree, path, value)
    assert Cause(reason, message, field) in validation.update(row_of(tree), tree, old)


@pytest.mark.parametrize(
    ("which", "path", "value"),
    [
        (POD, "spec containers 0 image", "localhost/b:2"),
        (POD, "spec activeDeadlineSeconds", 5),
        (POD, "spec tolerations", [{"operator": "Exists"}]),
        (POD, "metadata labels", {"a": "b"}),
        (WEB, "spec replicas", 5),
        (WEB, "spec template spec containers 0 image", "localhost/b:2"),
        (("PersistentVolumeClaim", "pvc"), "spec resources requests storage", "2Gi"),
        (("PersistentVolumeClaim", "pvc"), "spec volumeName", "pv"),
    ],
)
def test_what_may_change(which, path, value):
    old = ready(*which)
    tree = copy.deepcopy(old)
    put(tree, path, value)
    assert validation.update(row_of(tree), tree, old) == []


def test_an_address_stays_unless_the_service_becomes_an_alias():
    old = ready("Service", "web")
    old["spec"] |= {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}
    tree = copy.deepcopy(old)
    tree["spec"] |= {"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]}
    causes = validation.update(row_of(tree), tree, old)
    assert [(c.field, c.message) for c in causes] == [
        ("spec.clusterIPs[0]", 'Invalid value: ["10.0.0.2"]: may not change once set')
    ]
    alias = ready("Service", "alias")
    alias["metadata"]["name"] = "web"
    assert validation.update(row_of(tree), alias, old) == []


@pytest.mark.parametrize("which", [("ConfigMap", "cm"), ("Secret", "s")])
def test_what_is_immutable_stays(which):
    old = ready(*which) | {"immutable": True}
    tree = copy.deepcopy(old)
    tree["metadata"]["labels"] = {"a": "b"}
    assert validation.update(row_of(tree), tree, old) == []
    tree["data"] = {}
    del tree["immutable"]
    causes = validation.update(row_of(tree), tree, old)
    assert {c.field for c in causes} == {"immutable", "data"}
    assert {c.message for c in causes} == {"Forbidden: field is immutable when `immutable` is set"}


def test_no_finalizers_are_added_to_what_is_being_deleted():
    old = ready(*POD)
    old["metadata"]["deletionTimestamp"] = "2024-01-02T03:04:05Z"
    tree = copy.deepcopy(old)
    tree["metadata"]["finalizers"].append("example.com/more")
    (cause,) = validation.update(row_of(tree), tree, old)
    assert cause.message == (
        "Forbidden: no new finalizers can be added if the object is being deleted, "
        'found new finalizers []string{"example.com/more"}'
    )
    tree["metadata"]["finalizers"] = []
    assert validation.update(row_of(tree), tree, old) == []


def test_debug_containers_are_added_through_their_subresource():
    old = ready(*POD)
    tree = copy.deepcopy(old)
    tree["spec"]["ephemeralContainers"] = [{"name": "d", "image": "localhost/d"}]
    defaults.apply(row_of(tree), tree)
    assert validation.update(row_of(tree), tree, old, subresource="ephemeralcontainers") == []
    assert validation.update(row_of(tree), tree, old) != []
    gone = validation.update(row_of(tree), old, tree, subresource="ephemeralcontainers")
    assert [c.field for c in gone] == ["spec.ephemeralContainers[0]"]


def test_two_controllers():
    tree = ready(*POD)
    owner = {"apiVersion": "v1", "kind": "Node", "uid": "u", "controller": True}
    tree["metadata"]["ownerReferences"] = [owner | {"name": "a"}, owner | {"name": "b"}]
    (cause,) = validation.create(row_of(tree), tree)
    assert cause.message.endswith(
        'Only one reference can have Controller set to true. Found "true" in references for a and b'
    )


def test_unknown_resources_get_the_rules_of_metadata():
    row = Resource("example.org", "v1", "Foo", "foos", dict, scope=Scope.CLUSTER)
    assert validation.create(row, {"metadata": {"name": "a"}, "spec": {"any": 1}}) == []
    assert [c.field for c in validation.create(row, {"metadata": {}})] == ["metadata.name"]


def test_missing_values_are_named_as_decoding_names_them():
    tree = copy.deepcopy(next(m for m in MANIFESTS if m["metadata"]["name"] == "one"))
    del tree["spec"]["selector"], tree["spec"]["template"]["spec"]["containers"][0]["name"]
    row = row_of(tree)
    result = SCHEMAS.normalise(SCHEMAS.definition_of(row.api_version, row.kind), tree)
    defaults.apply(row, result.tree)
    causes = {cause for cause in validation.create(row, result.tree) if cause.reason == REQUIRED}
    assert causes == {Cause(REQUIRED, "Required value", "spec.template.spec.containers[0].name")}
    assert {c.field for c in result.missing} == {"spec.selector", "spec.template.spec.containers[0].name"}
    assert causes < set(result.missing)


@given(st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True))
def test_labels_are_subdomains(text):
    assert names.label(text) == names.subdomain(text) == []
    assert names.as_prefix(names.label, f"{text}-") == []
    assert names.label(f"{text}-") != []


@given(st.text(max_size=20))
def test_any_text_is_judged(text):
    for rule in (names.label, names.subdomain, names.qualified, names.label_value, names.config_key, names.port_name,
                 names.variable, names.ip_address, names.cidr, names.percent, names.path_segment):  # fmt: skip
        assert all(isinstance(detail, str) for detail in rule(text))


@given(st.sampled_from(MANIFESTS), st.data())
def test_damaged_objects_are_judged(tree, data):
    """Whatever is missing from a decoded object, the rules find it or accept it, and do not fail."""
    tree = copy.deepcopy(tree)
    node = tree
    for _ in range(8):
        keys = [
            k
            for k in (node if isinstance(node, dict) else range(len(node)))
            if k not in ("apiVersion", "kind")
        ]
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if not isinstance(node[key], (dict, list)) or data.draw(st.booleans()):
            del node[key]
            break
        node = node[key]
    row = row_of(tree)
    result = SCHEMAS.normalise(SCHEMAS.definition_of(row.api_version, row.kind), tree)
    defaults.apply(row, result.tree)
    for cause in validation.create(row, result.tree):
        assert cause.reason.startswith("FieldValue")
        assert cause.message
