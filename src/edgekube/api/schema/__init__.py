"""What Kubernetes' kinds look like: checking, cleaning and describing object trees."""

from edgekube.api.schema.findings import Normalised
from edgekube.api.schema.schemas import Schemas

__all__ = ["Normalised", "Schemas"]
