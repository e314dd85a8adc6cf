"""How fast a target may grow and shrink (HPA spec.behavior, KEP-853)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from edgekube.api.types import autoscaling_v2 as v2

UP = v2.HPAScalingRules(
    stabilization_window_seconds=0,
    select_policy="Max",
    policies=(
        v2.HPAScalingPolicy(type="Pods", value=4, period_seconds=15),
        v2.HPAScalingPolicy(type="Percent", value=100, period_seconds=15),
    ),
)
DOWN = v2.HPAScalingRules(
    stabilization_window_seconds=300,
    select_policy="Max",
    policies=(v2.HPAScalingPolicy(type="Percent", value=100, period_seconds=15),),
)
"""What holds when an autoscaler says nothing of its own."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A number of pods at a time (Unix seconds): recommended then, or added (below 0: removed)."""

    time: float
    pods: int


@dataclass(frozen=True, slots=True)
class Rules:
    """Both directions, nothing left open."""

    up: v2.HPAScalingRules
    down: v2.HPAScalingRules

    @property
    def memory(self) -> float:
        """Seconds that recommendations and changes matter."""
        periods = [p.period_seconds for rules in (self.up, self.down) for p in rules.policies]
        return max([_window(self.up), _window(self.down), *periods])


def rules_of(behavior: v2.HorizontalPodAutoscalerBehavior | None) -> Rules:
    """Fill what was left out."""
    up = behavior.scale_up if behavior else None
    down = behavior.scale_down if behavior else None
    return Rules(_filled(up, UP), _filled(down, DOWN))


def _filled(rules: v2.HPAScalingRules | None, default: v2.HPAScalingRules) -> v2.HPAScalingRules:
    if rules is None:
        return default
    window = rules.stabilization_window_seconds
    return v2.HPAScalingRules(
        policies=rules.policies or default.policies,
        select_policy=rules.select_policy or default.select_policy,
        stabilization_window_seconds=default.stabilization_window_seconds if window is None else window,
        tolerance=rules.tolerance,
    )


@dataclass(frozen=True, slots=True)
class Decision:
    """`pods` after a rule, and why, if it changed anything."""

    pods: int
    reason: str = ""
    message: str = ""


def steady(wanted: int, rules: Rules, advised: Iterable[Moment], *, current: int, now: float) -> Decision:
    """Grow only to the least, shrink only to the most that was advised in the window."""
    advised = tuple(advised)
    least = min([wanted, *_within(advised, now - _window(rules.up))])
    most = max([wanted, *_within(advised, now - _window(rules.down))])
    pods = min(max(current, least), most)
    if pods > wanted:
        return Decision(pods, "ScaleDownStabilized", STABILIZED.format("higher", "highest"))
    if pods < wanted:
        return Decision(pods, "ScaleUpStabilized", STABILIZED.format("lower", "lowest"))
    return Decision(pods)


STABILIZED = "recent recommendations were {} than current one, applying the {} recent recommendation"


def limited(
    wanted: int, rules: Rules, changes: Sequence[Moment], *, current: int, low: int, high: int, now: float
) -> Decision:
    """Keep the pace and the bounds."""
    if wanted > current:
        pace = max(current, _pace_up(rules.up, changes, current, now))
        most = min(high, pace)
        if wanted > most:
            return Decision(most, *(TOO_FAST_UP if pace < high else TOO_MANY))
    elif wanted < current:
        pace = min(current, _pace_down(rules.down, changes, current, now))
        least = max(low, pace)
        if wanted < least:
            return Decision(least, *(TOO_FAST_DOWN if pace > low else TOO_FEW))
    return Decision(wanted)


TOO_FAST_UP = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
TOO_FAST_DOWN = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
)
TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")


def _pace_up(rules: v2.HPAScalingRules, changes: Sequence[Moment], current: int, now: float) -> int:
    if rules.select_policy == "Disabled":
        return current

    def limit(policy: v2.HPAScalingPolicy) -> int:
        before = current - sum(_within(changes, now - policy.period_seconds))
        return before + policy.value if policy.type == "Pods" else ceil(before * (100 + policy.value) / 100)

    choose: Callable[[Iterable[int]], int] = min if rules.select_policy == "Min" else max
    return choose(limit(policy) for policy in rules.policies)


def _pace_down(rules: v2.HPAScalingRules, changes: Sequence[Moment], current: int, now: float) -> int:
    if rules.select_policy == "Disabled":
        return current

    def limit(policy: v2.HPAScalingPolicy) -> int:
        before = current - sum(_within(changes, now - policy.period_seconds))
        return before - policy.value if policy.type == "Pods" else before * (100 - policy.value) // 100

    # "Max" is the most change: the fewest pods left.
    choose: Callable[[Iterable[int]], int] = max if rules.select_policy == "Min" else min
    return choose(limit(policy) for policy in rules.policies)


def _window(rules: v2.HPAScalingRules) -> float:
    return float(rules.stabilization_window_seconds or 0)


def _within(moments: Iterable[Moment], since: float) -> list[int]:
    return [moment.pods for moment in moments if moment.time > since]
