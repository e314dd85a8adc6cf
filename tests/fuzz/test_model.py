"""Store and registry against a dict: whatever the order of requests, both tell the same."""

import asyncio

import hypothesis.strategies as st
import msgspec
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgekube.api.schema import Schemas
from edgekube.apiserver.bootstrap import BootstrapConfig, bootstrap
from edgekube.apiserver.identity import User
from edgekube.apiserver.request import Request
from edgekube.apiserver.server import ApiServer, ApiServerConfig
from edgekube.client.typed import Client
from edgekube.store.memory import MemoryStore

ADMIN = User("admin", ("system:masters", "system:authenticated"))
MAPS = "/api/v1/namespaces/default/configmaps"
NAMES = st.sampled_from(["a", "b", "c"])
DATA = st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["1", "2"]), max_size=2)
LABELS = st.dictionaries(st.just("l"), st.sampled_from(["1", "2"]), max_size=1)
PATCH = st.dictionaries(st.sampled_from(["x", "y"]), st.none() | st.sampled_from(["1", "3"]), max_size=2)
SCHEMAS = Schemas.load()


class Machine(RuleBasedStateMachine):
    """`model` maps names to [data, labels, resourceVersion, finalized, deleting]."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self.begin())
        self.model = {}
        self.last = 0
        self.pages = {}

    async def begin(self):
        self.server = ApiServer(MemoryStore(), SCHEMAS, ApiServerConfig())
        self.task = asyncio.create_task(self.server.run())
        await self.server.ready.wait()
        await bootstrap(Client(self.server.local(ADMIN)), BootstrapConfig(address="192.0.2.1"))

    def teardown(self):
        self.task.cancel()
        self.loop.run_until_complete(asyncio.gather(self.task, return_exceptions=True))
        self.loop.close()

    def send(self, method, path, body=None, kind="json", **query):
        data = b"" if body is None else msgspec.json.encode(body)
        request = Request(
            method=method, path=path, user=ADMIN, query=query, headers={"content-type": f"application/{kind}"}, body=data,
        )  # fmt: skip
        response = self.loop.run_until_complete(self.server.handler.answer(request))
        return response.code, msgspec.json.decode(response.body)

    def keep(self, name, tree):
        """Note an object as answered; its revision is newer than all before unless nothing changed."""
        version = int(tree["metadata"]["resourceVersion"])
        before = self.model.get(name)
        shown = (tree.get("data", {}), tree["metadata"].get("labels", {}))
        marks = (bool(tree["metadata"].get("finalizers")), "deletionTimestamp" in tree["metadata"])
        if before is not None and (before[0], before[1], *before[3:]) == (*shown, *marks):
            assert version == before[2], "a write that changes nothing makes no revision"
        else:
            assert version > self.last
            self.last = version
        self.model[name] = [*shown, version, *marks]

    @rule(name=NAMES, data=DATA, labels=LABELS, finalized=st.booleans())
    def create(self, name, data, labels, finalized):
        metadata = {"name": name, "labels": labels, "finalizers": ["example.com/f"] if finalized else []}
        code, tree = self.send("POST", MAPS, {"metadata": metadata, "data": data})
        if name in self.model:
            assert (code, tree["reason"]) == (409, "AlreadyExists")
        else:
            assert code == 201
            self.keep(name, tree)
            assert self.model[name][:2] == [data, labels]

    @rule(name=NAMES, data=DATA, labels=LABELS, fresh=st.sampled_from(["", "current", "old"]))
    def update(self, name, data, labels, fresh):
        known = self.model.get(name)
        finalizers = ["example.com/f"] if known and known[3] else []
        metadata = {"name": name, "labels": labels, "finalizers": finalizers}
        if fresh and known:
            metadata["resourceVersion"] = str(known[2] if fresh == "current" else known[2] - 1)
        code, tree = self.send("PUT", f"{MAPS}/{name}", {"metadata": metadata, "data": data})
        if known is None:
            assert code == 404
        elif fresh == "old":
            assert (code, tree["reason"]) == (409, "Conflict")
        else:
            assert code == 200
            self.keep(name, tree)
            assert self.model[name][:2] == [data, labels]

    @rule(name=NAMES, change=PATCH, kind=st.sampled_from(["merge-patch+json", "strategic-merge-patch+json"]))
    def patch(self, name, change, kind):
        code, tree = self.send("PATCH", f"{MAPS}/{name}", {"data": change}, kind=kind)
        known = self.model.get(name)
        assert code == (200 if known else 404)
        if known:
            wish = {k: v for k, v in (known[0] | change).items() if v is not None}
            self.keep(name, tree)
            assert self.model[name][0] == wish

    @rule(name=NAMES)
    def delete(self, name):
        code, tree = self.send("DELETE", f"{MAPS}/{name}")
        known = self.model.get(name)
        assert code == (200 if known else 404)
        if known and known[3]:
            self.keep(name, tree)
            assert self.model[name][4]
        else:
            self.model.pop(name, None)

    @rule(name=NAMES)
    def release(self, name):
        code, _ = self.send(
            "PATCH", f"{MAPS}/{name}", {"metadata": {"finalizers": None}}, kind="merge-patch+json"
        )
        known = self.model.get(name)
        assert code == (200 if known else 404)
        if known and known[4]:
            del self.model[name]
        elif known:
            self.keep(name, self.send("GET", f"{MAPS}/{name}")[1])

    @rule(name=NAMES, data=DATA)
    def rehearse(self, name, data):
        code, _ = self.send("POST", MAPS, {"metadata": {"name": name}, "data": data}, dryRun="All")
        assert code == (409 if name in self.model else 201)

    @rule(label=LABELS)
    def delete_several(self, label):
        selector = ",".join(f"{key}={value}" for key, value in label.items())
        assert self.send("DELETE", MAPS, labelSelector=selector)[0] == 200
        for name in [name for name, known in self.model.items() if label.items() <= known[1].items()]:
            if self.model[name][3]:
                self.keep(name, self.send("GET", f"{MAPS}/{name}")[1])
            else:
                del self.model[name]

    def selected(self, tree):
        return {
            item["metadata"]["name"]: (item.get("data", {}), item["metadata"].get("labels", {}))
            for item in tree["items"]
        }

    @rule(label=LABELS)
    def list_selected(self, label):
        selector = ",".join(f"{key}={value}" for key, value in label.items())
        _, tree = self.send("GET", MAPS, labelSelector=selector)
        expected = {name: (k[0], k[1]) for name, k in self.model.items() if label.items() <= k[1].items()}
        assert self.selected(tree) == expected

    @rule()
    def begin_pages(self):
        """A list in pages shows what was there at its beginning, however much happens meanwhile."""
        _, tree = self.send("GET", MAPS, limit="1")
        self.pages = {
            "token": tree["metadata"].get("continue"), "seen": self.selected(tree),
            "expected": {name: (known[0], known[1]) for name, known in self.model.items()},
        }  # fmt: skip

    @rule()
    def next_page(self):
        if not self.pages.get("token"):
            return
        code, tree = self.send("GET", MAPS, limit="1", **{"continue": self.pages["token"]})
        assert code == 200
        self.pages["seen"] |= self.selected(tree)
        self.pages["token"] = tree["metadata"].get("continue")
        if not self.pages["token"]:
            assert self.pages["seen"] == self.pages["expected"]

    @invariant()
    def the_same(self):
        _, tree = self.send("GET", MAPS)
        found = [
            (item["metadata"]["name"], int(item["metadata"]["resourceVersion"])) for item in tree["items"]
        ]
        assert found == sorted((name, known[2]) for name, known in self.model.items())


# Each example starts a server: few long ones.
Machine.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
TestModel = Machine.TestCase
