"""Requests that never stop while what answers them changes: not one may fail."""

import contextlib

import pytest

from e2e.harness import eventually, running_lab
from e2e.manifests import IMAGE
from e2e.places import Place

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

PAUSE = 0.01
"""Seconds between two requests of one source."""
WEB = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: web
        image: {IMAGE}
        command:
        - sh
        - -c
        - |
          mkdir -p /www
          echo $VERSION > /www/index.html
          httpd -f -p 8080 -h /www &
          trap 'kill $!; exit' TERM
          wait
        env: [{{name: VERSION, value: one}}]
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
        lifecycle: {{preStop: {{sleep: {{seconds: 3}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: NodePort
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: http}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: visitor}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: {IMAGE}
    command: [sh, -c, 'trap exit TERM; sleep 3600 & wait']
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running_lab(tmp_path_factory.mktemp("traffic"), name="ek-traf", nodes=3, lans=2) as made:
        made.kubectl("apply", "-f", "-", stdin=WEB)
        made.kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout=70)
        made.kubectl("wait", "--for=condition=Ready", "pod/visitor", "--timeout=60s", timeout=70)
        yield made


@pytest.fixture
def sources(cluster):
    """Where requests come from, and the URL each uses."""
    lab = cluster.lab
    spec = cluster.json("get", "service", "web")["spec"]
    pod = cluster.json("get", "pod", "visitor")
    inside, port = f"http://{spec['clusterIP']}/", spec["ports"][0]["nodePort"]
    found = {
        Place(lab, pod["spec"]["nodeName"], pod["metadata"]["uid"]): inside,
        Place(lab, "node2"): inside,
        Place(lab, "client1"): f"http://{lab.address('node3')}:{port}/",
    }
    for place, url in found.items():
        eventually(
            lambda place=place, url=url: not any(w.startswith("error") for w in place.ask("spread", url, 6)),
            f"the Service answers {place.machine}",
        )
    return found


@contextlib.contextmanager
def requests(sources):
    """Requests from everywhere while the body runs; none may fail. The list given has who answered, by source."""
    answered = []
    with contextlib.ExitStack() as stack:
        said = [stack.enter_context(place.going_on("steady", url, PAUSE)) for place, url in sources.items()]
        yield answered
    for place, (result,) in zip(sources, said, strict=True):
        assert result["failed"] == [], f"{place.machine}: {result}"
        assert sum(result["answers"].values()) > 50
        answered.append(result["answers"])


def roll_out(cluster, *words, replicas=3):
    """Do it and wait until it is done: also until the last of the old pods is gone."""
    cluster.kubectl(*words)
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=90s", timeout=100)
    eventually(lambda: len(pods(cluster)) == replicas, "the old pods are gone")


def pods(cluster):
    return cluster.kubectl("get", "pods", "-l", "app=web", "-o", "name").split()


def test_a_rolling_update_fails_no_request(cluster, sources):
    with requests(sources) as answered:
        roll_out(cluster, "set", "env", "deployment/web", "VERSION=two")
    for answers in answered:
        assert set(answers) == {"one", "two"}


def test_a_rollback_fails_no_request(cluster, sources):
    with requests(sources) as answered:
        roll_out(cluster, "rollout", "undo", "deployment/web")
    for answers in answered:
        assert set(answers) == {"one", "two"}


def test_more_and_fewer_replicas_fail_no_request(cluster, sources):
    with requests(sources):
        roll_out(cluster, "scale", "deployment/web", "--replicas=5", replicas=5)
        roll_out(cluster, "scale", "deployment/web", "--replicas=1", replicas=1)
        roll_out(cluster, "scale", "deployment/web", "--replicas=3", replicas=3)


def test_deleted_pods_fail_no_request(cluster, sources):
    with requests(sources):
        for name in pods(cluster)[:2]:
            cluster.kubectl("delete", name, timeout=60)
            cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout=70)
