"""Rows of the autoscaling group."""

from edgekube.api.resource import Resource
from edgekube.api.types import autoscaling_v2 as t

HORIZONTAL_POD_AUTOSCALERS = Resource(
    "autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", t.HorizontalPodAutoscaler,
    short_names=("hpa",), categories=("all",), subresources=("status",),
)  # fmt: skip

RESOURCES = (HORIZONTAL_POD_AUTOSCALERS,)
