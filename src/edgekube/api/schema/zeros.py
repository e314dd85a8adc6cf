"""Which fields can hold a zero value that says something.

In Go an optional field is either a pointer (nil: nothing was said) or a plain value, whose zero
is left out when it is encoded. Schemas do not tell the two apart, so this table does.
"""

# Optional strings that are pointers, and in which "" is not the same as nothing.
_POINTER_STRINGS = frozenset({
    "ingressClassName", "loadBalancerClass", "runtimeClassName", "storageClassName", "volumeAttributesClassName",
})  # fmt: skip
_POINTERS = frozenset({
    ("ClientIPConfig", "timeoutSeconds"), ("EndpointPort", "name"), ("GRPCAction", "service"),
    ("HostPathVolumeSource", "type"), ("VolumeNodeResources", "count"), ("LeaseSpec", "holderIdentity"),
    ("LeaseSpec", "preferredHolder"), ("IngressClassParametersReference", "apiGroup"),
    ("MutatingWebhook", "timeoutSeconds"), ("TypedLocalObjectReference", "apiGroup"),
    ("ValidatingWebhook", "timeoutSeconds"),
    # Plain values that are never left out.
    ("PodDisruptionBudgetStatus", "currentHealthy"), ("PodDisruptionBudgetStatus", "desiredHealthy"),
    ("PodDisruptionBudgetStatus", "disruptionsAllowed"), ("PodDisruptionBudgetStatus", "expectedPods"),
    ("StatefulSetStatus", "availableReplicas"),
})  # fmt: skip
# Optional numbers and booleans that are plain values.
_VALUES = frozenset({
    "active", "authenticated", "availableReplicas", "chapAuthDiscovery", "chapAuthSession", "clusterScope", "code", "count",
    "currentHealthy", "currentReplicas", "denied", "deprecatedCount", "desiredHealthy", "disruptionsAllowed",
    "expectedPods", "failed", "failureThreshold", "fullyLabeledReplicas", "generation", "globalDefault",
    "healthCheckNodePort", "hostIPC", "hostNetwork", "hostPID", "hostPort", "initialDelaySeconds",
    "insecureSkipTLSVerify",
    "minReadySeconds", "nodePort", "number", "numberAvailable", "numberUnavailable", "observedGeneration",
    "paused", "periodSeconds", "publishNotReadyAddresses", "readOnly", "readyReplicas", "retryAfterSeconds",
    "signal", "sizeBytes", "sslEnabled", "stdin", "stdinOnce", "succeeded", "successThreshold",
    "timeoutSeconds", "tty", "unavailableReplicas", "unschedulable", "updatedNumberScheduled",
    "updatedReplicas",
})  # fmt: skip
_VALUES_OF_STATUS = frozenset({"replicas"})


def is_pointer(struct: str, field: str, *, text: bool) -> bool:
    """Return whether an optional scalar is a pointer; `text` says that it is a string or bytes."""
    if (struct, field) in _POINTERS:
        return True
    if text:
        return field in _POINTER_STRINGS
    return field not in _VALUES and not (struct.endswith("Status") and field in _VALUES_OF_STATUS)
