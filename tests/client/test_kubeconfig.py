"""Kubeconfig files: merging, contexts, and what is wrong with them."""

from pathlib import Path

import pytest
import yaml

from edgekube.client import kubeconfig


def config(name, server, **user):
    return {
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "ns"}}],
    }


def write(path, tree):
    path.write_text(yaml.safe_dump(tree))
    return path


def test_the_first_file_wins_and_later_ones_add(tmp_path):
    first = write(tmp_path / "a", config("a", "https://a:1/", token="ta"))
    second = write(tmp_path / "b", config("b", "https://b:1", token="tb"))
    access = kubeconfig.load((first, second))
    assert (access.server, access.token, access.namespace) == ("https://a:1", "ta", "ns")
    assert kubeconfig.load((first, second), context="b").token == "tb"
    assert kubeconfig.load((tmp_path / "missing", second)).token == "tb"


def test_files_are_relative_to_their_kubeconfig(tmp_path):
    (tmp_path / "tok").write_text("secret\n")
    assert (
        kubeconfig.load((write(tmp_path / "a", config("a", "https://a", tokenFile="tok")),)).token == "secret"
    )


def test_what_we_render_reads_back(tmp_path):
    access = kubeconfig.Access(
        server="https://x:6443", authority=b"ca", certificate=b"crt", key=b"key", token="t"
    )
    file = tmp_path / "k"
    file.write_text(kubeconfig.render(access, name="edge"))
    assert kubeconfig.load((file,)) == access


@pytest.mark.parametrize(
    ("tree", "wrong"),
    [
        ("]", "a: "),
        ([1], "not a kubeconfig"),
        ({}, "no context chosen"),
        ({"current-context": "x"}, "context 'x' does not exist"),
        ({**config("a", ""), "clusters": [{"name": "a", "cluster": {}}]}, "names no server"),
    ],
)
def test_mistakes_are_named(tmp_path, tree, wrong):
    file = tmp_path / "a"
    file.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
    with pytest.raises(kubeconfig.BadKubeconfig, match=wrong):
        kubeconfig.load((file,))


def test_which_files(tmp_path):
    assert kubeconfig.files("x", {"KUBECONFIG": "y"}, tmp_path) == (Path("x"),)
    assert kubeconfig.files("", {"KUBECONFIG": "y:z"}, tmp_path) == (Path("y"), Path("z"))
    assert kubeconfig.files("", {}, tmp_path) == (tmp_path / ".kube" / "config",)
