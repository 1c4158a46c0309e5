"""Collectives against routed messages and lower bounds."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.parallel import collectives
from sim.parallel.collectives import all_gather, all_reduce, all_to_all, broadcast, point_to_point, reduce_scatter
from sim.parallel.network import Chips

KINDS = (all_reduce, all_gather, reduce_scatter, all_to_all, broadcast)


def build(count=4, topology="ring", link=50.0, latency=700.0, links=4, rows=None, cols=None, pj=2.0):
    return Chips(
        count=count,
        topology=topology,
        link_gb_per_s=link,
        link_latency_ns=latency,
        links_per_chip=links,
        energy_pj_per_bit=pj,
        mesh_rows=rows,
        mesh_cols=cols,
    )


NETWORKS = [build(p, t) for t in ("ring", "all_to_all", "switch") for p in (2, 3, 4, 7, 8, 16)]
NETWORKS += [build(r * c, "mesh", rows=r, cols=c) for r, c in ((1, 2), (1, 5), (2, 2), (2, 3), (3, 3), (4, 4), (5, 1))]


def route(chips, source, target):
    """Directed channels of one message, one hop at a time; a tie on a ring goes clockwise from even chips."""
    if chips.topology == "switch":
        return [(source, "switch")]
    if chips.topology == "all_to_all":
        return [(source, target)]
    path, at, p = [], source, chips.count
    if chips.topology == "ring":
        ahead = (target - source) % p
        clockwise = 2 * ahead < p or (2 * ahead == p and source % 2 == 0)
        while at != target:
            path.append((at, (at + (1 if clockwise else -1)) % p))
            at = path[-1][1]
        return path
    cols = chips.shape[1]
    while at % cols != target % cols:
        path.append((at, at + (1 if target % cols > at % cols else -1)))
        at = path[-1][1]
    while at != target:
        path.append((at, at + (cols if target > at else -cols)))
        at = path[-1][1]
    return path


@pytest.mark.parametrize("chips", NETWORKS, ids=str)
def test_direct_exchange_is_what_routing_every_message_gives(chips):
    routes = [route(chips, a, b) for a, b in itertools.permutations(range(chips.count), 2)]
    load = Counter(channel for path in routes for channel in path)
    plan = collectives._exchange(chips, 1.0)
    assert plan.wire_bytes == sum(load.values())
    assert plan.hops == max(map(len, routes))
    slack = 1.0 if chips.topology == "ring" and chips.count % 2 == 0 and chips.count > 2 else 0.0
    assert max(load.values()) - slack <= plan.channel_bytes <= max(load.values())


@pytest.mark.parametrize("chips", NETWORKS, ids=str)
def test_scatter_is_what_routing_every_part_gives(chips):
    routes = [route(chips, 0, b) for b in range(1, chips.count)]
    load = Counter(channel for path in routes for channel in path)
    plan = collectives._scatter(chips, float(chips.count))
    assert plan.wire_bytes == pytest.approx(sum(load.values()))
    assert plan.channel_bytes == pytest.approx(max(load.values())) and plan.hops == max(map(len, routes))


@pytest.mark.parametrize("chips", NETWORKS, ids=str)
def test_no_collective_beats_the_bandwidth_of_a_chip(chips):
    n, p, rate = 1e9, chips.count, chips.injection_gb_per_s * 1e9
    assert all_reduce(chips, n).seconds >= 2 * (p - 1) / p * n / rate
    for half in (all_gather, reduce_scatter, all_to_all):
        assert half(chips, n).seconds >= (p - 1) / p * n / rate
    assert broadcast(chips, n).seconds >= n / rate
    assert all_reduce(chips, 0).seconds >= chips.link_latency_ns * 1e-9


@pytest.mark.parametrize("topology", ["ring", "switch", "all_to_all"])
def test_large_all_reduce_reaches_the_bound(topology):
    chips = build(8, topology, latency=0)
    assert all_reduce(chips, 1e9).seconds == pytest.approx(2 * 7 / 8 * 1e9 / 200e9)


def test_ring_all_reduce_by_hand():
    """4 chips, 2 links of 25 GB/s, 1 us: 6 steps, 1.5 n over 50 GB/s, 6 n over all channels (Thakur et al. 2005)."""
    found = all_reduce(build(4, "ring", link=25, links=2, latency=1000), 1e6, "ring")
    assert found.seconds == pytest.approx(6e-6 + 1.5e6 / 50e9)
    assert found.bytes_on_wire == 6e6 and found.energy_pj == 6e6 * 8 * 2


def test_tree_by_hand():
    found = broadcast(build(5, "switch", link=10, links=1, latency=100), 1e4, "tree")
    assert found.seconds == pytest.approx(3 * (100e-9 + 1e4 / 10e9)) and found.bytes_on_wire == 4e4


def test_mesh_by_dimension_by_hand():
    """2 x 2: each dimension is a pair, so n/2 twice along rows and n/4 twice along columns, over one channel of B/2."""
    chips = build(4, "mesh", rows=2, cols=2, link=10, links=2, latency=100)
    found = all_reduce(chips, 1e6, "by_dimension")
    assert found.seconds == pytest.approx(4 * 100e-9 + 1.5e6 / 10e9)
    assert found.bytes_on_wire == 2 * 2e6 + 2 * 1e6


def test_few_bytes_and_many_take_different_algorithms():
    chips = build(16, "ring")
    assert all_reduce(chips, 8).algorithm != all_reduce(chips, 1e9).algorithm == "ring"


@pytest.mark.parametrize("kind", KINDS)
def test_one_chip_has_nobody_to_talk_to(kind):
    for topology in ("ring", "switch", "all_to_all"):
        found = kind(build(1, topology), 1e6)
        assert found.seconds == found.bytes_on_wire == found.energy_pj == 0


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NETWORKS), st.sampled_from(KINDS), st.floats(0, 1e10), st.floats(1, 10), st.sampled_from("nblk"))
def test_more_of_anything_good_is_never_slower(chips, kind, size, factor, what):
    base = kind(chips, size).seconds
    if what == "n":
        assert kind(chips, size * factor).seconds >= base
    elif what == "b":
        assert kind(chips.model_copy(update={"link_gb_per_s": 50 * factor}), size).seconds <= base
    elif what == "l":
        assert kind(chips.model_copy(update={"link_latency_ns": 700 / factor}), size).seconds <= base
    else:
        assert kind(chips.model_copy(update={"links_per_chip": 4 * int(factor)}), size).seconds <= base


@pytest.mark.parametrize("topology", ["ring", "switch"])
@pytest.mark.parametrize("size", [1.0, 1e5, 1e9])
def test_more_chips_take_longer_to_agree(topology, size):
    times = [all_reduce(build(p, topology), size).seconds for p in range(1, 20)]
    assert times == sorted(times)


def test_point_to_point_by_hand():
    chips = build(8, "ring", link=10, links=2, latency=500)
    found = point_to_point(chips, 1e4, hops=3, sharing=2)
    assert found.seconds == pytest.approx(1.5e-6 + 2e4 / 10e9) and found.bytes_on_wire == 3e4


def test_hierarchy_of_one_box_or_of_boxes_of_one_is_flat():
    a, b, one = build(4, "switch"), build(3, "ring"), build(1, "switch")
    flat = all_reduce(b, 1e6)
    assert collectives.hierarchical_all_reduce(one, b, 1e6).seconds == pytest.approx(flat.seconds)
    both = collectives.hierarchical_all_reduce(a, b, 1e6)
    assert both.seconds == pytest.approx(2 * all_gather(a, 1e6).seconds + flat.seconds)
    assert collectives.hierarchical_all_reduce(a, one, 1e6).seconds == pytest.approx(2 * all_gather(a, 1e6).seconds)


@pytest.mark.parametrize("chips", NETWORKS, ids=str)
def test_a_group_keeps_its_channels(chips):
    for size in range(1, chips.count + 1):
        cols = chips.shape[1]
        tiles = chips.topology != "mesh" or cols % size == 0 or size % cols == 0
        if chips.count % size or not tiles:
            with pytest.raises(InputError, match="group"):
                chips.group(size)
            continue
        group = chips.group(size)
        assert group.count == size
        assert group.ports == 0 or group.channel_gb_per_s == pytest.approx(chips.channel_gb_per_s)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"count": 0}, "chips: count must be greater than 0, got 0"),
        ({"topology": "rings"}, "did you mean 'ring'"),
        ({"link_gbs": 3}, "unknown field 'link_gbs', did you mean 'link_gb_per_s'"),
        ({"mesh_rows": 2}, "mesh_rows and mesh_cols are for topology mesh, got ring"),
        ({"topology": "mesh", "mesh_rows": 3, "mesh_cols": 2}, "must be count 4, got 3 x 2"),
        ({"topology": "mesh"}, "must be count 4, got None x None"),
    ],
)
def test_bad_chips_are_one_clear_line(fields, message):
    good = {"count": 4, "topology": "ring", "link_gb_per_s": 1, "link_latency_ns": 1, "links_per_chip": 1}
    with pytest.raises(InputError, match=message) as error:
        Chips(**(good | {"energy_pj_per_bit": 1} | fields))
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="field 'energy_pj_per_bit' is missing"):
        Chips(**good)


def test_bad_calls_are_one_clear_line():
    with pytest.raises(InputError, match="did you mean 'tree'"):
        all_reduce(build(), 1, "trees")
    with pytest.raises(InputError, match="size_bytes must be >= 0"):
        broadcast(build(), -1)
