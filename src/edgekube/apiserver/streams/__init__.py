"""Logs, exec, attach and port-forward: HTTP on one side, a stream to the node on the other."""

from edgekube.apiserver.streams.serve import serve_stream

__all__ = ["serve_stream"]
