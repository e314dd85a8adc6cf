"""status, scale, binding, eviction, token and the questions of authentication and authorization."""

from edgekube.apiserver.identity import User

NS = "/api/v1/namespaces/default"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


async def test_scale_shows_and_sets_replicas(api, deployment):
    await api.post(DEPLOYMENTS, deployment("a", replicas=2))
    scale = await api.get(f"{DEPLOYMENTS}/a/scale")
    assert (scale["apiVersion"], scale["kind"]) == ("autoscaling/v1", "Scale")
    assert scale["spec"] == {"replicas": 2}
    assert scale["status"]["selector"] == "app=a"
    changed = await api.patch(f"{DEPLOYMENTS}/a/scale", {"spec": {"replicas": 5}})
    assert changed["spec"]["replicas"] == 5
    assert (await api.get(f"{DEPLOYMENTS}/a"))["spec"]["replicas"] == 5
    status = await api.put(f"{DEPLOYMENTS}/a/scale", scale, code=409)
    assert status["message"].startswith('Operation cannot be fulfilled on deployments.apps "a"')
    del scale["metadata"]["resourceVersion"]
    scale["spec"] = {}
    assert (await api.put(f"{DEPLOYMENTS}/a/scale", scale))["spec"] == {}
    assert (await api.get(f"{DEPLOYMENTS}/a"))["spec"]["replicas"] == 0


async def test_unknown_subresources(api, config_map):
    await api.post(f"{NS}/configmaps", config_map("a"))
    await api.get(f"{NS}/configmaps/a/scale", code=404)
    await api.get(f"{NS}/configmaps/a/status", code=404)


async def test_a_pod_is_bound_once(api, pod, account):
    await api.post(f"{NS}/pods", pod("p"))
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
    assert (await api.post(f"{NS}/pods/p/binding", binding))["status"] == "Success"
    bound = await api.get(f"{NS}/pods/p")
    assert bound["spec"]["nodeName"] == "n1"
    (condition,) = bound["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("PodScheduled", "True")
    status = await api.post(f"{NS}/bindings", binding, code=409)
    wanted = 'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1"'
    assert status["message"] == wanted
    await api.post(f"{NS}/pods/q/binding", binding | {"metadata": {"name": "q"}}, code=404)


async def test_eviction_deletes(api, pod, account):
    await api.post(f"{NS}/pods", pod("p", nodeName="n"))
    eviction = {"metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 7}}
    await api.post(f"{NS}/pods/p/eviction", eviction)
    assert (await api.get(f"{NS}/pods/p"))["metadata"]["deletionGracePeriodSeconds"] == 7
    await api.post(f"{NS}/pods/q/eviction", eviction, code=400)
    await api.post(f"{NS}/pods/q/eviction", {"metadata": {"name": "q"}}, code=404)


async def test_ephemeral_containers_and_nothing_else(api, pod, account):
    made = await api.post(f"{NS}/pods", pod("p"))
    made["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "localhost/y:1"}]
    made["spec"]["priority"] = 7
    changed = await api.put(f"{NS}/pods/p/ephemeralcontainers", made)
    assert changed["spec"]["ephemeralContainers"][0]["name"] == "debug"
    assert changed["spec"]["priority"] == 0


async def test_a_token_authenticates_its_account(api, pod, account):
    made = await api.post(f"{NS}/pods", pod("p"))
    uid = made["metadata"]["uid"]
    request = {
        "spec": {
            "audiences": [],
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid},
        }
    }
    answer = await api.post(f"{NS}/serviceaccounts/default/token", request)
    token = answer["status"]["token"]
    review = {"spec": {"token": token}}
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    status = (await api.post(path, review))["status"]
    assert status["authenticated"]
    assert status["user"]["username"] == "system:serviceaccount:default:default"
    assert "system:serviceaccounts:default" in status["user"]["groups"]
    assert status["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
    await api.delete(f"{NS}/pods/p")
    assert not (await api.post(path, review))["status"].get("authenticated")


async def test_a_token_is_bound_to_what_exists(api, account):
    path = f"{NS}/serviceaccounts/default/token"
    status = await api.post(path, {"spec": {"expirationSeconds": 60, "audiences": []}}, code=422)
    assert (
        "spec.expirationSeconds: Invalid value: 60: may not specify a duration less than" in status["message"]
    )
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "none"}
    await api.post(path, {"spec": {"boundObjectRef": reference, "audiences": []}}, code=404)
    await api.post(
        path, {"spec": {"boundObjectRef": {"kind": "Service", "name": "n"}, "audiences": []}}, code=400
    )
    await api.post(f"{NS}/serviceaccounts/none/token", {"spec": {"audiences": []}}, code=404)


async def test_who_am_i_and_may_i(api):
    joe = User("joe", ("system:authenticated",))
    me = await api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, user=joe)
    assert me["status"]["userInfo"] == {"username": "joe", "groups": ["system:authenticated"]}
    question = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert not (await api.post(path, question, user=joe))["status"]["allowed"]
    assert (await api.post(path, question))["status"]["allowed"]
    rules = await api.post(
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {"spec": {"namespace": "default"}}, user=joe
    )
    assert {name for rule in rules["status"]["resourceRules"] for name in rule["resources"]} == {
        "selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews",
    }  # fmt: skip
