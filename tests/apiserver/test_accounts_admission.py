"""What a ServiceAccount lets its pods have."""

import pytest

NS = "/api/v1/namespaces/default"
MIRROR = {"kubernetes.io/config.mirror": "x"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"serviceAccountName": "default"}, "a mirror pod may not reference service accounts"),
        (
            {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]},
            "a mirror pod may not reference secrets",
        ),
    ],
)
async def test_mirror_pods_have_nothing_of_the_api(api, account, pod, spec, words):
    body = pod("p", **spec)
    body["metadata"]["annotations"] = MIRROR
    assert words in (await api.post(f"{NS}/pods", body, code=403))["message"]


async def test_a_mirror_pod_gets_no_token(api, account, pod):
    body = pod("p")
    body["metadata"]["annotations"] = MIRROR
    made = await api.post(f"{NS}/pods", body)
    assert "volumes" not in made["spec"]


async def test_only_the_secrets_of_the_account(api, pod):
    annotations = {"kubernetes.io/enforce-mountable-secrets": "true"}
    body = {"metadata": {"name": "tight", "annotations": annotations}, "secrets": [{"name": "mine"}]}
    await api.post(f"{NS}/serviceaccounts", body)

    def using(name, secret):
        variable = {"name": "E", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}
        container = {"name": "c", "image": "localhost/x:1", "env": [variable]}
        return pod(name, serviceAccountName="tight", containers=[container])

    await api.post(f"{NS}/pods", using("a", "mine"))
    status = await api.post(f"{NS}/pods", using("b", "other"), code=403)
    assert status["message"] == (
        'pods "b" is forbidden: container c with envVar E referencing secret.secretName="other" is not allowed '
        "because service account tight does not reference that secret"
    )


async def test_pull_secrets_are_inherited(api, pod):
    body = {"metadata": {"name": "puller"}, "imagePullSecrets": [{"name": "registry"}]}
    await api.post(f"{NS}/serviceaccounts", body)
    made = await api.post(f"{NS}/pods", pod("a", serviceAccountName="puller"))
    assert made["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    own = pod("b", serviceAccountName="puller", imagePullSecrets=[{"name": "own"}])
    assert (await api.post(f"{NS}/pods", own))["spec"]["imagePullSecrets"] == [{"name": "own"}]
