"""Small files of /proc and /sys, read below a root so that a tree of files can stand for a machine."""

from collections.abc import Mapping
from pathlib import Path


class Tree:
    """The file system of a machine. What cannot be read reads as empty."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Return where `name` (absolute) is."""
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str:
        """Return a file's text without surrounding white space and NULs (device tree strings end in one)."""
        try:
            return self.path(name).read_bytes().decode(errors="replace").strip("\0 \t\r\n")
        except OSError:
            return ""

    def first(self, *names: str) -> str:
        """Return the first text that is not empty."""
        return next((text for name in names if (text := self.text(name))), "")

    def exists(self, name: str) -> bool:
        """Tell whether it is there."""
        return self.path(name).exists()

    def glob(self, pattern: str) -> list[Path]:
        """Return what matches, sorted."""
        return sorted(self.root.glob(pattern.lstrip("/")))

    def target(self, name: str) -> str:
        """Return where a symbolic link leads, "" if it is none."""
        try:
            return str(self.path(name).readlink())
        except OSError:
            return ""

    def fields(self, name: str, separator: str) -> Mapping[str, str]:
        """Return a file of `key<separator>value` lines; quotes around values go."""
        pairs = (line.partition(separator) for line in self.text(name).splitlines())
        return {key.strip(): value.strip().strip('"') for key, found, value in pairs if found}


def read(path: Path) -> str:
    """Return a file's text stripped, "" if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip("\0 \t\r\n")
    except OSError:
        return ""
