"""The audit log: what is noted, and where."""

import asyncio

import msgspec
import pytest

from edgekube.api.errors import Forbidden
from edgekube.apiserver.audit import sink as sinks
from edgekube.apiserver.audit.auditor import Auditor
from edgekube.apiserver.audit.policy import BadPolicy, policy_of
from edgekube.apiserver.audit.sink import LogFile, Sink
from edgekube.apiserver.authz import Access
from edgekube.apiserver.identity import User
from edgekube.apiserver.request import Request, Response
from edgekube.apiserver.streaming import Streaming

JOE = User("joe", ("dev", "system:authenticated"))
HEAD = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy"}
MAPS = "/api/v1/namespaces/default/configmaps"


def policy(*rules, **more):
    return policy_of({**HEAD, "rules": list(rules), **more})


SECRETS = Access(verb="get", plural="secrets", namespace="a", name="x")
LOGS = Access(verb="get", plural="pods", subresource="log", namespace="a", name="p")
LEASES = Access(verb="update", group="coordination.k8s.io", plural="leases", namespace="a")


@pytest.mark.parametrize(
    ("rule", "access", "matches"),
    [
        ({}, SECRETS, True),
        ({"users": ["ann"]}, SECRETS, False), ({"users": ["joe"]}, SECRETS, True),
        ({"userGroups": ["dev"]}, SECRETS, True), ({"userGroups": ["ops"]}, SECRETS, False),
        ({"verbs": ["get"]}, SECRETS, True), ({"verbs": ["update"]}, SECRETS, False),
        ({"resources": [{"resources": ["secrets"]}]}, SECRETS, True),
        ({"resources": [{"group": "coordination.k8s.io"}]}, LEASES, True),
        ({"resources": [{"group": "coordination.k8s.io"}]}, SECRETS, False),
        ({"resources": [{"resources": ["secrets"], "resourceNames": ["y"]}]}, SECRETS, False),
        ({"resources": [{"resources": ["pods"]}]}, LOGS, False),
        ({"resources": [{"resources": ["pods/log"]}]}, LOGS, True),
        ({"resources": [{"resources": ["pods/*"]}]}, LOGS, True),
        ({"resources": [{"resources": ["*/log"]}]}, LOGS, True),
        ({"namespaces": ["b"]}, SECRETS, False), ({"namespaces": ["a"]}, SECRETS, True),
        ({"nonResourceURLs": ["/healthz*"]}, Access(verb="get", path="/healthz/ping"), True),
        ({"nonResourceURLs": ["/healthz"]}, SECRETS, False),
        ({"resources": [{}]}, Access(verb="get", path="/healthz"), False),
    ],
)  # fmt: skip
def test_rules(rule, access, matches):
    found = policy({**rule, "level": "Metadata"}).of(JOE, access)
    assert found.level == ("Metadata" if matches else "None")


def test_the_first_rule_decides():
    rules = ({"level": "None", "verbs": ["get"]}, {"level": "Request"})
    assert policy(*rules).of(JOE, SECRETS).level == "None"
    assert policy(*rules).of(JOE, LEASES).level == "Request"


@pytest.mark.parametrize(
    "tree",
    [
        None, {}, {**HEAD}, {**HEAD, "rules": []}, {**HEAD, "rules": [{"level": "All"}]},
        {**HEAD, "rules": [{"level": "Metadata", "omitStages": ["Never"]}]},
        {**HEAD, "rules": [{"level": "Metadata", "nonResourceURLs": ["/a"], "namespaces": ["b"]}]},
    ],
)  # fmt: skip
def test_bad_policies(tree):
    with pytest.raises(BadPolicy):
        policy_of(tree)


def lines(path):
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def test_the_file_is_turned_over(tmp_path):
    file = LogFile(path=tmp_path / "deep" / "audit.log", size=10, kept=2)
    for number in range(5):
        file.append(f"line {number}\n".encode())
    found = {path.name: path.read_text() for path in (tmp_path / "deep").iterdir()}
    assert found == {"audit.log": "line 4\n", "audit.log.1": "line 3\n", "audit.log.2": "line 2\n"}
    assert file.path.stat().st_mode & 0o777 == 0o600


async def test_too_much_is_lost_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "WAITING", 2)
    sink = Sink(LogFile(path=tmp_path / "a"))
    for _ in range(5):
        sink.put(b"{}")
    assert sink.lost == 3
    sink._write()
    assert (tmp_path / "a").read_bytes() == b"{}\n{}\n"


async def test_a_full_disk_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    sink = Sink(LogFile(path=tmp_path / "file" / "below"))
    sink.put(b"{}")
    sink._write()
    assert sink.lost == 1


def record(tmp_path, rules, request, access, response):
    sink = Sink(LogFile(path=tmp_path / "log"))
    made = Auditor(rules, sink).begin(request, access)
    if made is not None:
        made.stage("ResponseComplete", response)
    sink._write()
    return lines(tmp_path / "log") if (tmp_path / "log").exists() else []


def test_levels_say_more_and_more(tmp_path):
    body = b'{"metadata":{"name":"x","managedFields":[]},"data":{}}'
    request = Request(method="PUT", path=f"{MAPS}/x", user=JOE, query={"dryRun": "All"}, body=body)
    access = Access(verb="update", plural="configmaps", namespace="default", name="x")
    answers = Response(body=body)
    for level, fields in (
        ("Metadata", set()),
        ("Request", {"requestObject"}),
        ("RequestResponse", {"requestObject", "responseObject"}),
    ):
        folder = tmp_path / level
        folder.mkdir()
        rules = policy({"level": level}, omitManagedFields=True, omitStages=["RequestReceived"])
        (event,) = record(folder, rules, request, access, answers)
        assert {name for name in event if name.endswith("Object")} == fields
        assert event["objectRef"] == {
            "resource": "configmaps",
            "namespace": "default",
            "name": "x",
            "apiVersion": "v1",
        }
        assert event["requestURI"] == f"{MAPS}/x?dryRun=All"
        assert all("managedFields" not in event[name]["metadata"] for name in fields)
    assert record(tmp_path, policy({"level": "None"}), request, access, answers) == []


async def test_a_server_notes_requests(make_server, start, tmp_path, config_map):
    auditor = Auditor(policy({"level": "Request"}), Sink(LogFile(path=tmp_path / "log")))
    server = make_server(auditor=auditor)
    async with start(server) as api:
        await api.post("/api/v1/namespaces", {"metadata": {"name": "default"}})
        await api.post(MAPS, config_map("a"), code=403, user=JOE)
        async with asyncio.timeout(10):
            while not (tmp_path / "log").exists():
                await asyncio.sleep(0.02)
    events = lines(tmp_path / "log")
    assert [event["stage"] for event in events] == ["RequestReceived", "ResponseComplete"] * 2
    assert events[0]["auditID"] == events[1]["auditID"] != events[2]["auditID"]
    refused = events[3]
    assert refused["user"] == {"username": "joe", "groups": ["dev", "system:authenticated"]}
    assert (refused["responseStatus"]["code"], refused["responseStatus"]["reason"]) == (403, "Forbidden")
    assert refused["requestObject"]["metadata"]["name"] == "a"


async def test_streams_are_noted_as_well(make_server, start, tmp_path):
    auditor = Auditor(policy({"level": "Metadata"}), Sink(LogFile(path=tmp_path / "log")))
    server = make_server(auditor=auditor)
    async with start(server):
        streaming = Streaming(server.handler, None)
        path = "/api/v1/namespaces/default/pods/p/exec"
        with pytest.raises(Forbidden):
            await streaming.serve(None, Request(method="POST", path=path, user=JOE))
    events = lines(tmp_path / "log")
    assert [event["stage"] for event in events] == ["RequestReceived", "ResponseComplete"]
    assert events[1]["objectRef"]["subresource"] == "exec"
    assert events[1]["responseStatus"]["code"] == 403
