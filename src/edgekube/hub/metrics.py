"""metrics.k8s.io from nodes' summaries: one NodeMetrics, one PodMetrics a pod (kubelet summary API in, KEP-117 out)."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from edgekube.api.errors import NotFound, StatusError
from edgekube.api.kinds.metrics_v1beta1 import NODE_METRICS, POD_METRICS
from edgekube.api.resource import AnyResource, Key
from edgekube.client.typed import Client

log = logging.getLogger(__name__)

LabelsOf = Callable[[Key], Mapping[str, str]]
"""Returns a pod's labels, none when it is not known."""
WINDOW = "15s"
"""The period rates are taken over, as agents report."""


class MetricsWriter:
    """Writes what a summary says; forgets pods that are no longer in it."""

    def __init__(self, client: Client, labels_of: LabelsOf) -> None:
        self._client, self._labels_of = client, labels_of
        self._pods: dict[str, frozenset[Key]] = {}

    async def write(self, node: str, summary: bytes) -> None:
        """Take one node's summary; a malformed one is dropped."""
        try:
            tree = msgspec.json.decode(summary)
            objects = list(metrics_of(node, tree, self._labels_of))
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s: summary: %s", node, error)
            return
        for resource, obj in objects:
            await self._put(resource, obj)
        pods = frozenset(
            Key(o["metadata"]["namespace"], o["metadata"]["name"]) for r, o in objects if r is POD_METRICS
        )
        for key in self._pods.get(node, frozenset()) - pods:
            try:
                await self._client.delete(POD_METRICS, key)
            except NotFound:
                continue
        self._pods[node] = pods

    async def _put(self, resource: AnyResource, obj: dict[str, Any]) -> None:
        try:
            try:
                await self._client.update(resource, obj)
            except NotFound:
                await self._client.create(resource, obj)
        except StatusError as error:
            # E.g. the namespace is being deleted: there is nothing to measure any more.
            log.debug("metrics of %s: %s", obj["metadata"]["name"], error)


def metrics_of(
    node: str, summary: Mapping[str, Any], labels_of: LabelsOf = lambda _key: {}
) -> Iterator[tuple[AnyResource, dict[str, Any]]]:
    """Yield the objects a summary stands for; pods' have the labels of their pod, to be selected by."""
    whole = summary["node"]
    yield (
        NODE_METRICS,
        {
            "apiVersion": NODE_METRICS.api_version,
            "kind": NODE_METRICS.kind,
            "metadata": {"name": node},
            "timestamp": whole["cpu"]["time"],
            "window": WINDOW,
            "usage": _usage(whole),
        },
    )
    for pod in summary.get("pods", ()):
        yield (
            POD_METRICS,
            {
                "apiVersion": POD_METRICS.api_version,
                "kind": POD_METRICS.kind,
                "metadata": _metadata(Key(pod["podRef"]["namespace"], pod["podRef"]["name"]), labels_of),
                "timestamp": pod["cpu"]["time"],
                "window": WINDOW,
                "containers": [{"name": c["name"], "usage": _usage(c)} for c in pod["containers"]],
            },
        )


def _metadata(key: Key, labels_of: LabelsOf) -> dict[str, Any]:
    labels = labels_of(key)
    return {"name": key.name, "namespace": key.namespace, **({"labels": dict(labels)} if labels else {})}


def _usage(part: Mapping[str, Any]) -> dict[str, str]:
    return {
        "cpu": f"{part['cpu']['usageNanoCores']}n",
        "memory": f"{part['memory']['workingSetBytes'] // 1024}Ki",
    }
