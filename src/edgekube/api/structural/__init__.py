"""Structural schemas of custom resources (Kubernetes docs, "Extend the API with CustomResourceDefinitions")."""

from edgekube.api.structural.defaulting import fill
from edgekube.api.structural.pruning import prune
from edgekube.api.structural.rules import check
from edgekube.api.structural.schema import Schema, lean
from edgekube.api.structural.validating import validate

__all__ = ["Schema", "check", "fill", "lean", "prune", "validate"]
