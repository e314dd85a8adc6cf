"""Metrics read from the API: metrics.k8s.io for resources, adapters' custom and external metrics for the rest."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from edgekube.api import quantity
from edgekube.api.errors import StatusError
from edgekube.api.kinds.metrics_v1beta1 import POD_METRICS
from edgekube.api.resource import Resource
from edgekube.api.scheme import Scheme
from edgekube.api.selectors import label_matcher
from edgekube.api.types import autoscaling_v2 as v2
from edgekube.api.types import core_v1, meta_v1
from edgekube.client.base import Call, Unreachable
from edgekube.client.typed import Client
from edgekube.control.clock import seconds
from edgekube.controllers.autoscale.behavior import rules_of
from edgekube.controllers.autoscale.plan import Reading
from edgekube.controllers.autoscale.samples import (
    TOLERANCE,
    NoMetric,
    Proposal,
    Sample,
    Target,
    ceiled,
    propose,
)

CUSTOM, EXTERNAL = ("custom.metrics.k8s.io", "v1beta2"), ("external.metrics.k8s.io", "v1beta1")
_WINDOW = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:([\d.]+)s)?")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is scaled: the autoscaler, its target's pods, and how many there are."""

    owner: v2.HorizontalPodAutoscaler
    pods: Sequence[core_v1.Pod]
    selector: str
    current: int
    status_replicas: int
    now: float

    @property
    def namespace(self) -> str:
        """Where all is."""
        return self.owner.metadata.namespace

    @property
    def ready(self) -> int:
        """Pods that are ready."""
        return sum(
            any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions) for pod in self.pods
        )

    def target(self, wish: v2.MetricTarget, *, resource: str = "", container: str = "") -> Target:
        """Return what a per-pod metric should be."""
        rules = rules_of(self.owner.spec.behavior)
        up, down = (
            float(quantity.parse(r.tolerance)) if r.tolerance else TOLERANCE for r in (rules.up, rules.down)
        )
        average = quantity.milli(wish.average_value) if wish.average_value else None
        return Target(
            utilization=None if average is not None else wish.average_utilization, average=average,
            resource=resource, container=container, up=up, down=down,
        )  # fmt: skip


class Readings:
    """Computes an autoscaler's metrics one by one."""

    def __init__(self, client: Client, scheme: Scheme) -> None:
        self._client, self._scheme = client, scheme
        self._sources: Mapping[str, Callable[[Subject, v2.MetricSpec], Awaitable[Reading]]] = {
            "Resource": self._resource, "ContainerResource": self._container, "Pods": self._pods,
            "Object": self._object, "External": self._external,
        }  # fmt: skip

    async def read(self, subject: Subject, metric: v2.MetricSpec) -> Reading | NoMetric:
        """Return the reading, or why there is none."""
        source = self._sources.get(metric.type)
        if source is None:
            return NoMetric(f'unknown metric source type "{metric.type}"', "InvalidMetricSourceType")
        try:
            return await source(subject, metric)
        except NoMetric as error:
            return NoMetric(str(error), f"FailedGet{metric.type}Metric")
        except (StatusError, Unreachable) as error:
            text = f"unable to get metric: unable to fetch metrics from the metrics API: {error}"
            return NoMetric(text, f"FailedGet{metric.type}Metric")

    async def _resource(self, subject: Subject, metric: v2.MetricSpec) -> Reading:
        source = _given(metric.resource)
        found = await self._usage(subject, source.name, "", source.target)
        status = v2.ResourceMetricStatus(name=source.name, current=_current(found, source.name))
        name = f"{source.name} resource{_kind(source.target)}"
        return Reading(found.replicas, name, v2.MetricStatus(type=metric.type, resource=status))

    async def _container(self, subject: Subject, metric: v2.MetricSpec) -> Reading:
        source = _given(metric.container_resource)
        found = await self._usage(subject, source.name, source.container, source.target)
        status = v2.ContainerResourceMetricStatus(
            name=source.name, container=source.container, current=_current(found, source.name)
        )
        name = f"{source.name} container resource{_kind(source.target)}"
        return Reading(found.replicas, name, v2.MetricStatus(type=metric.type, container_resource=status))

    async def _pods(self, subject: Subject, metric: v2.MetricSpec) -> Reading:
        source = _given(metric.pods)
        call = _custom("pods", source.metric, subject, name="*")
        samples = {}
        for item in await self._items(call, subject.selector):
            time, window = seconds(item.get("timestamp", "")), float(item.get("windowSeconds") or 60)
            samples[item["describedObject"]["name"]] = Sample(
                time, window, {"": quantity.milli(item["value"])}
            )
        found = propose(
            subject.pods, samples, subject.target(source.target), current=subject.current, now=subject.now
        )
        value = v2.MetricValueStatus(average_value=_text(found.average))
        status = v2.PodsMetricStatus(metric=source.metric, current=value)
        name = f"pods metric {source.metric.name}"
        return Reading(found.replicas, name, v2.MetricStatus(type=metric.type, pods=status))

    async def _object(self, subject: Subject, metric: v2.MetricSpec) -> Reading:
        source = _given(metric.object)
        about = source.described_object
        row = self._scheme.by_kind(about.api_version or "v1", about.kind)
        if row is None:
            raise NoMetric(f"unable to get metric {source.metric.name}: no matches for kind {about.kind}")
        items = await self._items(_custom(row.group_resource, source.metric, subject, name=about.name), "")
        replicas, value = _whole(items, source.target, subject)
        status = v2.ObjectMetricStatus(metric=source.metric, described_object=about, current=value)
        name = f"{about.kind} metric {source.metric.name}"
        return Reading(replicas, name, v2.MetricStatus(type=metric.type, object=status))

    async def _external(self, subject: Subject, metric: v2.MetricSpec) -> Reading:
        source = _given(metric.external)
        row = Resource(*EXTERNAL, "ExternalMetricValueList", source.metric.name, dict)
        call = Call(
            verb="list", resource=row, namespace=subject.namespace, query=_labels(source.metric.selector)
        )
        replicas, value = _whole(await self._items(call, ""), source.target, subject)
        status = v2.ExternalMetricStatus(metric=source.metric, current=value)
        name = f"external metric {source.metric.name}"
        return Reading(replicas, name, v2.MetricStatus(type=metric.type, external=status))

    async def _usage(
        self, subject: Subject, resource: str, container: str, wish: v2.MetricTarget
    ) -> Proposal:
        listing = await self._client.list(POD_METRICS, namespace=subject.namespace)
        names = {pod.metadata.name for pod in subject.pods}
        samples = {
            item["metadata"]["name"]: _sample(item, resource)
            for item in listing.items
            if item["metadata"]["name"] in names
        }
        target = subject.target(wish, resource=resource, container=container)
        return propose(subject.pods, samples, target, current=subject.current, now=subject.now)

    async def _items(self, call: Call, selector: str) -> list[dict[str, Any]]:
        if selector:
            call = Call(
                verb=call.verb, resource=call.resource, namespace=call.namespace, name=call.name,
                subresource=call.subresource, query={**call.query, "labelSelector": selector},
            )  # fmt: skip
        tree = msgspec.json.decode(await self._client.carrier.do(call))
        items: list[dict[str, Any]] = tree.get("items") or []
        if not items:
            raise NoMetric("no metrics returned from the metrics API")
        return items


def _given(source: Any) -> Any:
    if source is None:
        raise NoMetric("invalid metric source: the field of its type is not set")
    return source


def _custom(plural: str, metric: v2.MetricIdentifier, subject: Subject, *, name: str) -> Call:
    row = Resource(*CUSTOM, "MetricValueList", plural, dict)
    query = {"metricLabelSelector": text} if (text := _labels(metric.selector).get("labelSelector")) else {}
    return Call(
        verb="get", resource=row, namespace=subject.namespace, name=name, subresource=metric.name, query=query
    )


def _labels(selector: meta_v1.LabelSelector | None) -> dict[str, str]:
    return {} if selector is None else {"labelSelector": str(label_matcher(selector))}


def _whole(
    items: Sequence[Mapping[str, Any]], wish: v2.MetricTarget, subject: Subject
) -> tuple[int, v2.MetricValueStatus]:
    """Compute a metric that is not any pod's own: its value, or its share for each pod."""
    used = sum(quantity.milli(item["value"]) for item in items)
    target = subject.target(wish)
    if target.average is not None:
        ratio = used / max(1, target.average * subject.status_replicas)
        replicas = subject.status_replicas if target.near(ratio) else ceiled(used / max(1, target.average))
        return replicas, v2.MetricValueStatus(average_value=_text(used // max(1, subject.status_replicas)))
    wished = quantity.milli(wish.value)
    ratio = used / max(1, wished)
    replicas = subject.current if target.near(ratio) else ceiled(ratio * subject.ready)
    return replicas, v2.MetricValueStatus(value=_text(used))


def _sample(item: Mapping[str, Any], resource: str) -> Sample:
    found = _WINDOW.fullmatch(item.get("window") or "")
    hours, minutes, rest = (float(part or 0) for part in found.groups()) if found else (0.0, 0.0, 15.0)
    usage = {c["name"]: quantity.milli(c["usage"].get(resource, "0")) for c in item["containers"]}
    return Sample(seconds(item["timestamp"]), hours * 3600 + minutes * 60 + rest, usage)


def _kind(target: v2.MetricTarget) -> str:
    return " utilization (percentage of request)" if target.average_utilization is not None else ""


def _current(found: Proposal, resource: str) -> v2.MetricValueStatus:
    average = _text(found.average) if resource == "cpu" else _text(found.average // 1000 * 1000)
    return v2.MetricValueStatus(average_value=average, average_utilization=found.utilization)


def _text(thousandths: int) -> str:
    return quantity.canonical(f"{thousandths}m")
