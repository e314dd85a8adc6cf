"""OpenAPI v3 as kubectl (explain, apply) and helm read it: an index and one document a group version.

Documents are built on demand and not kept: cache their compressed bytes.
"""

from collections.abc import Iterable
from typing import Any

from edgekube.api.openapi import custom
from edgekube.api.openapi.components import components
from edgekube.api.openapi.custom import SchemaOf
from edgekube.api.openapi.paths import paths
from edgekube.api.resource import AnyResource
from edgekube.api.schema import Schemas

VERSION = "v1.37.0"


def group_path(group: str, version: str) -> str:
    """Return the key of a group version in the index: `api/v1`, `apis/apps/v1`."""
    return f"apis/{group}/{version}" if group else f"api/{version}"


def index(scheme: Iterable[AnyResource], digest: str) -> dict[str, Any]:
    """Return the answer to GET /openapi/v3; clients cache documents by `digest`."""
    keys = sorted({group_path(row.group, row.version) for row in scheme})
    return {"paths": {key: {"serverRelativeURL": f"/openapi/v3/{key}?hash={digest}"} for key in keys}}


def document(
    schemas: Schemas,
    group: str,
    version: str,
    rows: Iterable[AnyResource],
    *,
    schema_of: SchemaOf | None = None,
) -> dict[str, Any]:
    """
    Return the answer to GET /openapi/v3/<group path>, describing `rows` of that group version.

    `schema_of` returns the schemas of custom resources.
    """
    here = [row for row in rows if (row.group, row.version) == (group, version) and _described(schemas, row)]
    described, roots = paths(schemas, here)
    own: dict[str, Any] = {}
    for row in here:
        if row.custom is not None:
            own |= custom.schemas(row, schema_of(row) if schema_of else row.custom.schema)
            roots = (roots - own.keys()) | set(custom.ROOTS)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": described,
        "components": {
            "schemas": components(schemas, roots) | own,
            "securitySchemes": {
                "BearerToken": {
                    "description": "Bearer Token authentication",
                    "in": "header",
                    "name": "authorization",
                    "type": "apiKey",
                }
            },
        },
    }


def _described(schemas: Schemas, row: AnyResource) -> bool:
    return row.custom is not None or schemas.definition_of(row.api_version, row.kind) is not None
