"""What a container said at its end: the termination message file, or the tail of its log."""

from edgekube.api.types import core_v1
from edgekube.node import labels
from edgekube.node.folders import PodFolder
from edgekube.node.log.read import tail_text
from edgekube.runtime.base import ContainerInfo

FILE_LIMIT = 4096
LOG_LINES, LOG_BYTES = 80, 2048


def termination_message(folder: PodFolder, container: core_v1.Container, info: ContainerInfo) -> str:
    """Return the message, at most 4 KiB; "" when there is none."""
    attempt = labels.attempt_of(info.labels)
    try:
        with folder.termination(container.name, attempt).open("rb") as file:
            text = file.read(FILE_LIMIT).decode(errors="replace")
    except OSError:
        text = ""
    if not text and info.exit_code != 0 and container.termination_message_policy == "FallbackToLogsOnError":
        text = tail_text(folder.log(container.name, attempt), lines=LOG_LINES, limit=LOG_BYTES)
    return text
