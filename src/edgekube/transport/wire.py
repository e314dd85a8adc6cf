"""
What master and nodes say to each other: msgpack arrays, `[version, epoch, seq, kind, body]`.

`epoch` names one run of a sender, `seq` counts its messages to one receiver from 1, so that a gap,
a restart or a duplicate can be told. Bodies are msgpack too, zlib-compressed above 1 KiB (`kind`
is then negative). An unknown kind is skipped and counted: version skew of one minor release works.
"""

from enum import IntEnum

import msgspec

VERSION = 1


class Kind(IntEnum):
    """Message kinds; numbers are for ever."""

    OBJECTS = 1
    """hub → node, hub → all: objects that changed or went away."""
    SNAPSHOT_END = 2
    """hub → node: a resync is complete; keys not listed are gone."""
    RESYNC = 3
    """node → hub: here is what I have, send me the difference."""
    ACK = 4
    """node → hub: received and on my disk, up to seq."""
    POD_STATUS = 5
    NODE_STATUS = 6
    EVENT = 7
    STATS = 8
    GOODBYE = 9
    """node → hub: an orderly shutdown."""
    HELLO = 10
    """hub → all: a new epoch began."""
    POD_GONE = 11
    """node → hub: the pod of that uid has ended and left nothing behind; delete it."""
    REQUEST = 12
    """node → hub: a question (e.g. a ServiceAccount token), answered by REPLY."""
    REPLY = 13
    DONE = 14
    """hub → node: these messages of yours are written; do not repeat them."""
    VOLUME_GONE = 15
    """node → hub: the data of a volume that is being deleted are removed."""
    MIRROR_POD = 16
    """node → hub: a static pod runs here; show it."""


class Envelope(msgspec.Struct, array_like=True, frozen=True):
    """The outermost form of every message."""

    version: int
    epoch: str
    seq: int
    kind: int
    body: bytes


class ObjectDelta(msgspec.Struct, array_like=True, frozen=True):
    """An object as a node may see it. `raw` is its JSON, b"" when it is gone."""

    path: str
    """`v1/pods`, `discovery.k8s.io/v1/endpointslices`: apiVersion/plural."""
    namespace: str
    name: str
    version: str
    """Names this content: equal versions of a key mean equal content. Opaque to the node."""
    raw: bytes

    @property
    def key(self) -> str:
        """How digests name the object."""
        return f"{self.path}/{self.namespace}/{self.name}"


class Objects(msgspec.Struct, array_like=True, frozen=True):
    """Body of OBJECTS."""

    deltas: tuple[ObjectDelta, ...]


class SnapshotEnd(msgspec.Struct, array_like=True, frozen=True):
    """Body of SNAPSHOT_END: everything the node should have, `{path/namespace/name: version}`."""

    digest: dict[str, str]


class Resync(msgspec.Struct, array_like=True, frozen=True):
    """Body of RESYNC: everything the node has, `{path/namespace/name: version}`."""

    digest: dict[str, str]


class PodStatusReport(msgspec.Struct, array_like=True, frozen=True):
    """Body of POD_STATUS: the pod's whole status as JSON."""

    namespace: str
    name: str
    uid: str
    status: bytes


class PodGone(msgspec.Struct, array_like=True, frozen=True):
    """Body of POD_GONE."""

    namespace: str
    name: str
    uid: str


class VolumeGone(msgspec.Struct, array_like=True, frozen=True):
    """Body of VOLUME_GONE."""

    name: str
    uid: str


class MirrorPod(msgspec.Struct, array_like=True, frozen=True):
    """Body of MIRROR_POD: the static pod as JSON."""

    raw: bytes


class NodeStatusReport(msgspec.Struct, array_like=True, frozen=True):
    """Body of NODE_STATUS: a Node object's JSON with the labels, annotations, taints and status the agent sees."""

    raw: bytes


class EventReport(msgspec.Struct, array_like=True, frozen=True):
    """Body of EVENT: about an object of this node. `type` is Normal or Warning."""

    path: str
    namespace: str
    name: str
    uid: str
    field_path: str
    type: str
    reason: str
    message: str
    count: int
    first: str
    last: str


class StatsReport(msgspec.Struct, array_like=True, frozen=True):
    """Body of STATS: the kubelet's summary API shape as JSON."""

    summary: bytes


class Ack(msgspec.Struct, array_like=True, frozen=True):
    """Body of ACK: the last sequence numbers on disk, of the node's own topic and of the broadcast."""

    epoch: str
    own: int
    broadcast: int


class Done(msgspec.Struct, array_like=True, frozen=True):
    """Body of DONE: sequence numbers of the node's epoch."""

    epoch: str
    seqs: tuple[int, ...]


class Request(msgspec.Struct, array_like=True, frozen=True):
    """Body of REQUEST: `subject` says what `body` is; `id` is the node's own, unique in its epoch."""

    id: int
    subject: str
    body: bytes


class Reply(msgspec.Struct, array_like=True, frozen=True):
    """Body of REPLY: `error` is for people, "" when `body` is the answer."""

    id: int
    error: str
    body: bytes


TOKEN = "token"  # noqa: S105 - the subject of a request
"""Subject of a REQUEST with a TokenRequest; answered with a Token."""


class TokenRequest(msgspec.Struct, array_like=True, frozen=True):
    """Ask for a token of ServiceAccount `namespace/name` bound to a pod of this node; `seconds` to live."""

    namespace: str
    name: str
    audience: str
    seconds: int
    pod: str
    uid: str


class Token(msgspec.Struct, array_like=True, frozen=True):
    """A token and when it ends (RFC 3339)."""

    token: str
    expires: str
