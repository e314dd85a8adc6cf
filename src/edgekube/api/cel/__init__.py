"""CEL as Kubernetes uses it: validation rules, match conditions, admission policies (Kubernetes docs, "CEL in Kubernetes")."""

from edgekube.api.cel.program import Budget, CelError, CostExceeded, Program, compile_expression
from edgekube.api.cel.rules import check_rules, compiled_rules

__all__ = [
    "Budget",
    "CelError",
    "CostExceeded",
    "Program",
    "check_rules",
    "compile_expression",
    "compiled_rules",
]
