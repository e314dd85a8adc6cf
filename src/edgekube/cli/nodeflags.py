"""The flags of `edgekube agent` about resources, named like the kubelet's."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekube.app import nodeoptions
from edgekube.app.nodeoptions import NodeOptions
from edgekube.cli.session import UsageError
from edgekube.node.config import ImageGcSettings
from edgekube.node.eviction.settings import BadThreshold, EvictionSettings

DEFAULT = NodeOptions()
Parse = Callable[[str], Any]
FLAGS: tuple[tuple[str, Parse, str, str], ...] = (
    ("--kube-reserved", nodeoptions.resources, "cpu=100m,memory=100Mi", "kept for the agent and podman"),
    ("--system-reserved", nodeoptions.resources, "cpu=100m,memory=100Mi", "kept for the rest of the system"),
    ("--eviction-hard", nodeoptions.thresholds, "memory.available<100Mi,...", "evict pods at once below this"),
    ("--eviction-soft", nodeoptions.thresholds, "memory.available<200Mi,...", "evict pods after a grace period"),
    ("--eviction-soft-grace-period", nodeoptions.graces, "memory.available=1m30s,...", "of each soft threshold"),
    ("--eviction-minimum-reclaim", nodeoptions.reclaims, "nodefs.available=1Gi,...", "to free beyond a threshold"),
    ("--eviction-pressure-transition-period", nodeoptions.duration, "5m", "a pressure must be over for this long"),
    ("--eviction-max-pod-grace-period", float, "SECONDS", "of pods evicted by soft thresholds"),
    ("--image-gc-high-threshold", int, "PERCENT", "of the disk: then images are removed; 100: never"),
    ("--image-gc-low-threshold", int, "PERCENT", "of the disk: until then"),
    ("--minimum-image-ttl-duration", nodeoptions.duration, "2m", "an image is kept at least"),
    ("--image-maximum-gc-age", nodeoptions.duration, "0", "an unused image is kept at most; 0: no limit"),
    ("--oom-score-adj", int, "NUMBER", "of the agent, -1000 to 1000; default -999"),
    ("--max-pods", int, "NUMBER", "on this node"),
    ("--pod-manifest-path", Path, "FOLDER", "of static pods; default: manifests below --data-dir"),
    ("--shutdown-grace-period", nodeoptions.duration, "30s", "for pods to end when the machine is shut down; default 0: they come back with it"),
    ("--shutdown-grace-period-critical-pods", nodeoptions.duration, "10s", "of that, for critical pods"),
)  # fmt: skip


def add(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    group = parser.add_argument_group("resources", "as the kubelet's flags of these names")
    for name, parse, metavar, text in FLAGS:
        group.add_argument(name, type=_told(parse), metavar=metavar, help=text.replace("%", "%%"))
    group.add_argument(
        "--pin-image",
        action="append",
        default=[],
        metavar="NAME",
        help="never removed; * stands for anything",
    )


def _told(parse: Parse) -> Parse:
    """Return `parse` with its own words for what is wrong, which argparse else keeps to itself."""

    def told(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return told


def take(values: dict[str, Any]) -> NodeOptions:
    """Take the flags out of the parsed ones; raises UsageError for what does not fit together."""
    given = {name: values.pop(name[2:].replace("-", "_")) for name, *_ in FLAGS}
    pinned = tuple(values.pop("pin_image"))
    images, evictions = ImageGcSettings(), EvictionSettings()

    def of(name: str, default: Any) -> Any:
        return default if given[name] is None else given[name]

    eviction = EvictionSettings(
        hard=of("--eviction-hard", evictions.hard),
        soft=of("--eviction-soft", {}),
        soft_grace=of("--eviction-soft-grace-period", {}),
        minimum_reclaim=of("--eviction-minimum-reclaim", {}),
        transition=of("--eviction-pressure-transition-period", evictions.transition),
        max_pod_grace=of("--eviction-max-pod-grace-period", evictions.max_pod_grace),
    )
    collection = ImageGcSettings(
        high=of("--image-gc-high-threshold", images.high),
        low=of("--image-gc-low-threshold", images.low),
        min_age=of("--minimum-image-ttl-duration", images.min_age),
        max_age=of("--image-maximum-gc-age", images.max_age),
        pinned=pinned,
    )
    if not 0 <= collection.low < collection.high <= 100:
        raise UsageError("--image-gc-low-threshold must be below --image-gc-high-threshold, both of 0 to 100")
    try:
        eviction.thresholds()
    except BadThreshold as error:
        raise UsageError(str(error)) from error
    options = NodeOptions(
        max_pods=of("--max-pods", DEFAULT.max_pods), oom_score_adj=of("--oom-score-adj", DEFAULT.oom_score_adj), kube_reserved=of("--kube-reserved", {}),
        system_reserved=of("--system-reserved", {}), eviction=eviction, image_gc=collection,
        manifests=given["--pod-manifest-path"],
        shutdown_grace=of("--shutdown-grace-period", DEFAULT.shutdown_grace),
        shutdown_grace_critical=of("--shutdown-grace-period-critical-pods", DEFAULT.shutdown_grace_critical),
    )  # fmt: skip
    if options.shutdown_grace_critical > options.shutdown_grace:
        raise UsageError("--shutdown-grace-period-critical-pods is a part of --shutdown-grace-period")
    return options
