"""The root of the one error tree."""


class EdgekubeError(Exception):
    """Anything edgekube raises on purpose."""
