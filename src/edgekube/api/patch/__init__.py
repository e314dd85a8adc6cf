"""The kinds of patch the API takes."""

from edgekube.api.patch.json_patch import json_patch
from edgekube.api.patch.merge_patch import merge_patch
from edgekube.api.patch.strategic import strategic_patch

__all__ = ["json_patch", "merge_patch", "strategic_patch"]
