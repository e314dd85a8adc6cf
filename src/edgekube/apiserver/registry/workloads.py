"""What is particular about writing workloads (pkg/registry/{apps,batch,core} strategies)."""

from edgekube.apiserver.request import Tree

PREFIX = "batch.kubernetes.io/"
UID, NAME = "controller-uid", "job-name"


def generate_selector(job: Tree) -> None:
    """
    Give a new Job a selector that only its own pods fulfil, and its pods the labels for it.

    The labels without prefix are from before Kubernetes 1.27; clients still select by them. Labels
    that the template already has stay, and validation refuses wrong ones.
    """
    job["status"] = {}
    spec, fields = job["spec"], job["metadata"]
    if spec.get("manualSelector"):
        return
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    for name, value in ((UID, fields["uid"]), (NAME, fields.get("name", ""))):
        labels.setdefault(name, value)
        labels.setdefault(PREFIX + name, value)
    if not fields.get("labels"):
        fields["labels"] = dict(labels)
    chosen = spec.setdefault("selector", {})
    chosen.setdefault("matchLabels", {}).setdefault(PREFIX + UID, fields["uid"])


def no_replicas(obj: Tree) -> None:
    """Give a new ReplicaSet or ReplicationController its status."""
    obj["status"] = {"replicas": 0}


def no_stateful_replicas(obj: Tree) -> None:
    """Give a new StatefulSet its status: these two always show."""
    obj["status"] = {"replicas": 0, "availableReplicas": 0}


def no_daemons(obj: Tree) -> None:
    """Give a new DaemonSet its status: these four always show."""
    obj["status"] = dict.fromkeys(
        ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"), 0
    )


def no_disruptions(obj: Tree) -> None:
    """Give a new PodDisruptionBudget its status: nothing may be disrupted until its controller has counted."""
    obj["status"] = dict.fromkeys(
        ("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"), 0
    )


def never_scaled(obj: Tree) -> None:
    """Give a new HorizontalPodAutoscaler its status."""
    obj["status"] = {"desiredReplicas": 0}
