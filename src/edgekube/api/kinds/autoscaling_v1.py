"""Rows of autoscaling/v1: another view of the v2 autoscalers, same storage."""

from edgekube.api.resource import Resource
from edgekube.api.types import autoscaling_v1 as t

HORIZONTAL_POD_AUTOSCALERS = Resource(
    "autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", t.HorizontalPodAutoscaler,
    short_names=("hpa",), categories=("all",), subresources=("status",),
)  # fmt: skip

RESOURCES = (HORIZONTAL_POD_AUTOSCALERS,)
