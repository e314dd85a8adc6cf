"""LimitRanger through the API: defaults, bounds, words."""

import pytest

NS = "/api/v1/namespaces/default"


async def limited(api, **item):
    body = {"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", **item}]}}
    await api.post(f"{NS}/limitranges", body)


def containers(**resources):
    return [{"name": "c", "image": "localhost/x:1", "resources": resources}]


async def test_defaults_are_filled_and_noted(api, account, pod):
    await limited(api, default={"cpu": "500m", "memory": "1Gi"}, defaultRequest={"cpu": "250m"})
    init = [{"name": "i", "image": "localhost/x:1", "resources": {"limits": {"cpu": "1"}}}]
    made = await api.post(f"{NS}/pods", pod("p", initContainers=init))
    resources = made["spec"]["containers"][0]["resources"]
    assert resources["limits"] == {"cpu": "500m", "memory": "1Gi"}
    assert resources["requests"]["cpu"] == "250m"
    # The request came from the container's own limit before.
    assert made["spec"]["initContainers"][0]["resources"]["requests"]["cpu"] == "1"
    note = made["metadata"]["annotations"]["kubernetes.io/limit-ranger"]
    assert note.startswith("LimitRanger plugin set: cpu")
    assert "cpu, memory limit for container c" in note
    assert "memory limit for init container i" in note


@pytest.mark.parametrize(
    ("item", "resources", "words"),
    [
        ({"max": {"memory": "1Gi"}}, {"limits": {"memory": "1536Mi"}}, "maximum memory usage per Container is 1Gi, but limit is 1536Mi"),
        ({"min": {"memory": "500Mi"}}, {"requests": {"memory": "100Mi"}}, "minimum memory usage per Container is 500Mi, but request is 100Mi"),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"requests": {"cpu": "100m"}, "limits": {"cpu": "300m"}},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
        ({"maxLimitRequestRatio": {"cpu": "2"}}, {}, "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"),
        ({"type": "Pod", "max": {"cpu": "1"}}, {}, "maximum cpu usage per Pod is 1.  No limit is specified"),
        ({"type": "Pod", "max": {"cpu": "1"}}, {"limits": {"cpu": "1500m"}}, "maximum cpu usage per Pod is 1, but limit is 1500m"),
    ],
)  # fmt: skip
async def test_bounds(api, account, pod, item, resources, words):
    await limited(api, **item)
    status = await api.post(f"{NS}/pods", pod("p", containers=containers(**resources)), code=403)
    assert status["message"] == f'pods "p" is forbidden: {words}'


async def test_two_broken_bounds_are_told_together(api, account, pod):
    await limited(api, type="Pod", max={"cpu": "1", "memory": "1Gi"})
    big = containers(limits={"cpu": "2", "memory": "2Gi"})
    status = await api.post(f"{NS}/pods", pod("p", containers=big), code=403)
    assert status["message"] == (
        'pods "p" is forbidden: [maximum cpu usage per Pod is 1, but limit is 2, '
        "maximum memory usage per Pod is 1Gi, but limit is 2Gi]"
    )


async def test_claims(api):
    await limited(api, type="PersistentVolumeClaim", min={"storage": "1Gi"}, max={"storage": "2Gi"})

    def claim(name, size):
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
        return {"metadata": {"name": name}, "spec": spec}

    path = f"{NS}/persistentvolumeclaims"
    assert "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi" in (
        await api.post(path, claim("a", "500Mi"), code=403)
    )["message"]  # fmt: skip
    assert "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi" in (
        await api.post(path, claim("a", "3Gi"), code=403)
    )["message"]  # fmt: skip
    await api.post(path, claim("a", "2Gi"))
