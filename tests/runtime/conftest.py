from collections.abc import Iterator

import pytest

from runtime.machine import PodmanMachine


@pytest.fixture(scope="module")
def machine() -> Iterator[PodmanMachine]:
    machine = PodmanMachine()
    try:
        machine.start()
        yield machine
    finally:
        machine.close()
