"""What every cloud provider must do."""

import pytest

from edgekube.cloud.base import BadCloudConfig, Balancer, CloudError, CloudNode, NothingLeft
from edgekube.cloud.open import open_cloud

CONFIG = {"fake": {"size": "2"}, "edge": {"pool.default": "198.51.100.1-198.51.100.2"}, "edge-nodes": {}}
NODES = (CloudNode(name="n1", addresses=("192.0.2.1",)), CloudNode(name="n2", addresses=("192.0.2.2",)))


def balancer(number, *, port=80, wanted="", given=()):
    return Balancer(
        uid=f"u{number}",
        name=f"default/s{number}",
        ports=frozenset({("TCP", port)}),
        wanted=wanted,
        given=given,
    )


async def fill(cloud):
    """Make balancers until there is nothing left; return what they got."""
    held = []
    for number in range(4):
        try:
            held.append(await cloud.balancers.ensure(balancer(number), NODES))
        except NothingLeft:
            return held
    return pytest.fail("there is always more")


@pytest.fixture(params=["fake", "edge", "edge-nodes"])
def cloud(request):
    made = open_cloud(f"{request.param.partition('-')[0]}://")
    made.configure(CONFIG[request.param])
    return made


async def test_addresses_are_given_once_and_kept(cloud):
    balancers = cloud.balancers
    balancers.adopt(())
    first = await balancers.ensure(balancer(1), NODES)
    assert first.addresses
    assert await balancers.ensure(balancer(1), NODES) == first
    second = await balancers.ensure(balancer(2, port=81), NODES)
    assert await balancers.ensure(balancer(1), NODES) == first
    if first.announced:
        assert not set(first.addresses) & set(second.addresses)


async def test_two_never_get_one_port_of_one_address(cloud):
    held = [address for assigned in await fill(cloud) for address in assigned.addresses]
    assert len(set(held)) == len(held) > 0


async def test_what_is_deleted_is_free_again(cloud):
    held = await fill(cloud)
    await cloud.balancers.delete("u0")
    await cloud.balancers.delete("u0")
    await cloud.balancers.delete("unknown")
    assert (await cloud.balancers.ensure(balancer(9), NODES)).addresses == held[0].addresses


async def test_after_a_restart_all_keep_theirs(cloud, request):
    first = await cloud.balancers.ensure(balancer(1), NODES)
    again = open_cloud(f"{cloud.name}://")
    again.configure(CONFIG[request.node.callspec.params["cloud"]])
    again.balancers.adopt([balancer(1, given=first.addresses)])
    try:
        assert (await again.balancers.ensure(balancer(2), NODES)).addresses != first.addresses
    except NothingLeft:
        assert not first.announced
    assert await again.balancers.ensure(balancer(1, given=first.addresses), NODES) == first


async def test_an_address_asked_for(cloud):
    first = await cloud.balancers.ensure(balancer(1), NODES)
    wanted = first.addresses[-1]
    await cloud.balancers.delete("u1")
    assert (await cloud.balancers.ensure(balancer(2, wanted=wanted), NODES)).addresses == (wanted,)
    with pytest.raises(NothingLeft):
        await cloud.balancers.ensure(balancer(3, wanted=wanted), NODES)


async def test_bad_configuration_is_named_and_the_old_one_kept(cloud):
    before = await cloud.balancers.ensure(balancer(1), NODES)
    with pytest.raises(BadCloudConfig, match=r"size|pool"):
        cloud.configure({"size": "many", "pool.default": "nonsense"})
    assert await cloud.balancers.ensure(balancer(1), NODES) == before


async def test_machines(cloud):
    if cloud.name == "fake":
        assert await cloud.instances.instance(NODES[0]) is None
    else:
        assert not (await cloud.instances.instance(NODES[0])).shut_down


def test_a_provider_nobody_installed():
    with pytest.raises(CloudError, match="there is: edge, fake"):
        open_cloud("gce://")
