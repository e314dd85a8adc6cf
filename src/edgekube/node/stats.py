"""Resource usage in the shape of the kubelet's summary API (/stats/summary)."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from edgekube.board.base import Board, BoardUsage
from edgekube.lib.errors import EdgekubeError
from edgekube.network.base import Traffic
from edgekube.node import labels
from edgekube.node.clock import stamp
from edgekube.node.host import Host
from edgekube.runtime.base import ContainerInfo, Usage

log = logging.getLogger(__name__)

AT_LEAST = 4
"""Periods after which the summary is sent though hardly anything changed."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A CPU counter at a time; two of them make a rate."""

    at: float
    cpu_ns: int


def nano_cores(before: Reading | None, now: Reading) -> int:
    """Return CPU use in billionths of a core between two readings."""
    if before is None or now.at <= before.at or now.cpu_ns < before.cpu_ns:
        return 0
    return int((now.cpu_ns - before.cpu_ns) / (now.at - before.at))


class StatsLoop:
    """Sends the summary every `stats_period` while pods run."""

    def __init__(self, host: Host, board: Board) -> None:
        self._host, self._board = host, board
        self._readings: dict[str, Reading] = {}
        self._coarse: object = None
        self._skipped = 0

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            try:
                await self._report()
            except EdgekubeError as error:
                log.warning("stats: %s", error)
            await asyncio.sleep(self._host.config.stats_period)

    async def _report(self) -> None:
        now = self._host.clock()
        usage = self._board.usage()
        used = {item.id: item for item in await self._host.runtime.containers.usage()}
        infos = [info for info in self._host.containers.all() if info.id in used]
        readings = {"": Reading(now, usage.cpu_ns)} | {i.id: Reading(now, used[i.id].cpu_ns) for i in infos}
        rates = {key: nano_cores(self._readings.get(key), reading) for key, reading in readings.items()}
        self._readings = readings
        pods = await self._pods(infos, used, rates, now=now)
        summary = {"node": self._node(usage, rates[""], now), "pods": pods}
        coarse = _coarse(usage, used, rates)
        if coarse == self._coarse and self._skipped + 1 < AT_LEAST:
            self._skipped += 1
            return
        self._coarse, self._skipped = coarse, 0
        self._host.reporter.stats(msgspec.json.encode(summary))

    def _node(self, usage: BoardUsage, rate: int, now: float) -> dict[str, Any]:
        time = stamp(now)
        return {
            "nodeName": self._host.config.node_name,
            "cpu": {"time": time, "usageNanoCores": rate, "usageCoreNanoSeconds": usage.cpu_ns},
            "memory": {
                "time": time,
                "availableBytes": usage.memory_available,
                "usageBytes": usage.memory_used,
                "workingSetBytes": usage.memory_working_set,
            },
            "network": {"time": time, "rxBytes": usage.received_bytes, "txBytes": usage.sent_bytes},
            "fs": {
                "time": time,
                "capacityBytes": usage.disk_capacity,
                "availableBytes": usage.disk_available,
                "usedBytes": usage.disk_capacity - usage.disk_available,
                "inodes": usage.inodes,
                "inodesFree": usage.inodes_free,
            },
        }

    async def _pods(
        self, infos: list[ContainerInfo], used: Mapping[str, Usage], rates: Mapping[str, int], *, now: float
    ) -> list[dict[str, Any]]:
        by_pod: dict[str, list[ContainerInfo]] = {}
        for info in infos:
            by_pod.setdefault(info.labels.get(labels.POD_UID, ""), []).append(info)
        found = []
        for uid, own in by_pod.items():
            containers = [_container(info, used[info.id], rates[info.id], now=now) for info in own]
            pod = {
                "podRef": {
                    "name": own[0].labels.get(labels.POD_NAME, ""),
                    "namespace": own[0].labels.get(labels.POD_NAMESPACE, ""),
                    "uid": uid,
                },
                "startTime": stamp(min(info.started_at for info in own)),
                "containers": containers,
                "cpu": _total(containers, "cpu", now),
                "memory": _total(containers, "memory", now),
            }
            if (traffic := await self._traffic(uid)) is not None:
                pod["network"] = {
                    "time": stamp(now), "name": "eth0", "rxBytes": traffic.received_bytes, "txBytes": traffic.sent_bytes,
                }  # fmt: skip
            found.append(pod)
        return found

    async def _traffic(self, uid: str) -> Traffic | None:
        network = self._host.network
        if network is None:
            return None
        try:
            return await network.traffic(uid)
        except EdgekubeError:
            return None


def _container(info: ContainerInfo, usage: Usage, rate: int, *, now: float) -> dict[str, Any]:
    time = stamp(now)
    return {
        "name": info.labels.get(labels.CONTAINER_NAME, ""),
        "startTime": stamp(info.started_at),
        "cpu": {"time": time, "usageNanoCores": rate, "usageCoreNanoSeconds": usage.cpu_ns},
        "memory": {
            "time": time,
            "usageBytes": usage.memory_bytes,
            "workingSetBytes": usage.working_set_bytes,
        },
    }


def _total(containers: list[dict[str, Any]], what: str, now: float) -> dict[str, Any]:
    names = [name for name in containers[0][what] if name != "time"]
    return {"time": stamp(now), **{name: sum(item[what][name] for item in containers) for name in names}}


def _coarse(usage: BoardUsage, used: Mapping[str, Usage], rates: Mapping[str, int]) -> object:
    """Return what must change for a summary to be news: hundredths of a core, steps of 4 MiB."""
    return (
        usage.memory_working_set >> 24,
        {key: rate // 10_000_000 for key, rate in rates.items()},
        {key: item.working_set_bytes >> 22 for key, item in used.items()},
    )
