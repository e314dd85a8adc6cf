"""Kubernetes' protobuf bodies (`application/vnd.kubernetes.protobuf`) as JSON trees and back.

client-go sends these for built-in kinds. Nothing here needs a protobuf library: a shipped table
of field numbers drives both directions.
"""

from edgekube.api.protobuf.decode import decode
from edgekube.api.protobuf.encode import encode
from edgekube.api.protobuf.table import FieldTable

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"

__all__ = ["CONTENT_TYPE", "FieldTable", "decode", "encode"]
