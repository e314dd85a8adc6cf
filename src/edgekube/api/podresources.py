"""
What a Pod asks for in all: containers, init containers, sidecars, pod-level resources, overhead.

Pods are JSON trees, amounts Decimals (k8s.io/component-helpers/resource, KEP-753, KEP-2837).
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Literal

from edgekube.api import quantity

Tree = Mapping[str, Any]
Amounts = dict[str, Decimal]
Side = Literal["requests", "limits"]


def amounts(texts: Mapping[str, str] | None) -> Amounts:
    """Read a ResourceList."""
    return {name: quantity.parse(str(text)) for name, text in (texts or {}).items()}


def text(amount: Decimal, *like: str) -> str:
    """Write an amount; in powers of 1024 when one of the quantities `like` is."""
    if amount == amount.to_integral_value() and any("i" in other for other in like):
        units = int(amount)
        return str(units) if units % 1024 else quantity.canonical(f"{units // 1024}Ki")
    return quantity.canonical(format(amount.normalize(), "f"))


def plus(left: Mapping[str, Decimal], right: Mapping[str, Decimal]) -> Amounts:
    """Return the sum by name."""
    total = dict(left)
    for name, amount in right.items():
        total[name] = total.get(name, Decimal(0)) + amount
    return total


def largest(left: Mapping[str, Decimal], right: Mapping[str, Decimal]) -> Amounts:
    """Return the larger amount by name."""
    return {n: max(left.get(n, right.get(n, Decimal(0))), right.get(n, left.get(n, Decimal(0)))) for n in {**left, **right}}  # fmt: skip


def of_container(container: Tree, side: Side) -> Amounts:
    """Return what one container asks for."""
    return amounts((container.get("resources") or {}).get(side))


def of_pod(spec: Tree, side: Side) -> Amounts:
    """Return what a whole pod asks for, overhead included."""
    total: Amounts = {}
    for container in spec.get("containers") or ():
        total = plus(total, of_container(container, side))
    total = _with_init(total, spec.get("initContainers") or (), side)
    total.update(amounts((spec.get("resources") or {}).get(side)))
    overhead = amounts(spec.get("overhead"))
    if side == "limits":
        # A resource without a limit stays without one.
        overhead = {name: amount for name, amount in overhead.items() if total.get(name)}
    return plus(total, overhead)


def texts_of_pod(spec: Tree, side: Side) -> dict[str, str]:
    """Return what a whole pod asks for as quantities, written like its containers write theirs."""
    written: dict[str, list[str]] = {}
    for one in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()), spec):
        for name, value in ((one.get("resources") or {}).get(side) or {}).items():
            written.setdefault(name, []).append(str(value))
    return {name: text(amount, *written.get(name, ())) for name, amount in of_pod(spec, side).items()}


def _with_init(total: Amounts, containers: Iterable[Tree], side: Side) -> Amounts:
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in containers:
        own = of_container(container, side)
        if container.get("restartPolicy") == "Always":
            sidecars = plus(sidecars, own)
            own = sidecars
        else:
            own = plus(sidecars, own)
        peak = largest(peak, own)
    return largest(plus(total, sidecars), peak)
