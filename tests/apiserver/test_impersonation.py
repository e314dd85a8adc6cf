"""Who may act as whom, and what that makes of them."""

import pytest

from edgekube.api.errors import Forbidden, InternalError
from edgekube.apiserver.authn.impersonation import impersonated, impersonating
from edgekube.apiserver.authz import Authorization
from edgekube.apiserver.identity import User

ANN = User("ann", ("system:authenticated",))


class Asked:
    """An authorizer that allows all but some accesses, and remembers what it was asked."""

    def __init__(self, *refused):
        self.refused, self.seen = refused, []

    def allows(self, user, access):
        resource = f"{access.plural}/{access.subresource}" if access.subresource else access.plural
        self.seen.append((access.verb, access.group, resource, access.namespace, access.name))
        return resource not in self.refused


FULL = {
    "impersonate-user": "joe",
    "impersonate-group": "a\nb",
    "impersonate-uid": "7",
    "impersonate-extra-example.com%2fteam": "x\ny",
}


def test_each_part_needs_its_right():
    asked = Asked()
    user = impersonated(ANN, FULL, Authorization([asked]))
    assert user == User("joe", ("a", "b", "system:authenticated"), "7", {"example.com/team": ("x", "y")})
    reviews = "authentication.k8s.io"
    assert asked.seen == [
        ("impersonate", "", "users", "", "joe"),
        ("impersonate", "", "groups", "", "a"),
        ("impersonate", "", "groups", "", "b"),
        ("impersonate", reviews, "uids", "", "7"),
        ("impersonate", reviews, "userextras/example.com/team", "", "x"),
        ("impersonate", reviews, "userextras/example.com/team", "", "y"),
    ]


@pytest.mark.parametrize("refused", ["users", "groups", "uids", "userextras/example.com/team"])
def test_one_missing_right_refuses_it_all(refused):
    with pytest.raises(Forbidden):
        impersonated(ANN, FULL, Authorization([Asked(refused)]))


@pytest.mark.parametrize(
    ("name", "groups", "needs"),
    [
        (
            "system:serviceaccount:ns:sa",
            ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"),
            ("impersonate", "", "serviceaccounts", "ns", "sa"),
        ),
        (
            "system:anonymous",
            ("system:unauthenticated",),
            ("impersonate", "", "users", "", "system:anonymous"),
        ),
    ],
)
def test_groups_that_come_by_themselves(name, groups, needs):
    asked = Asked()
    assert impersonated(ANN, {"impersonate-user": name}, Authorization([asked])).groups == groups
    assert asked.seen == [needs]


@pytest.mark.parametrize("header", ["impersonate-group", "impersonate-uid", "impersonate-extra-x"])
def test_a_user_must_be_named(header):
    assert impersonating({header: "x"})
    with pytest.raises(InternalError, match="without impersonating a user"):
        impersonated(ANN, {header: "x"}, Authorization([Asked()]))
