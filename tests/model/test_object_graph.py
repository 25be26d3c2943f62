# SPDX-License-Identifier: Apache-2.0
"""Values of a saved object graph are found by the attributes that lead to them."""

import pytest

from ipu_utils.model.checkpoint_store import ObjectGraph, TrackableObjectGraph


def saved(children, keys):
    """A graph of nodes with the children given by name, some of which have a value under a key."""
    graph = TrackableObjectGraph()
    for number, named in enumerate(children):
        node = graph.nodes.add()
        for name, child in named.items():
            node.children.add(node_id=child, local_name=name)
        if number in keys:
            node.attributes.add(name="VARIABLE_VALUE", full_name=f"variable_{number}", checkpoint_key=keys[number])
    return ObjectGraph.parse(graph.SerializeToString())


CHILDREN = [{"model": 1, "teacher": 5}, {"backbone": 2, "head": 3}, {"bias": 4}, {"bias": 4, "kernel": 6}, {},
            {"backbone": 3, "head": 2}, {}]  # fmt: skip


@pytest.mark.parametrize(
    "paths, found",
    [
        (["model/backbone/bias"], [["shared"]]),
        (["backbone/bias", "head/bias"], [["shared", "shared"], ["shared", "shared"]]),  # of the model and the teacher
        (["head/kernel", "backbone/bias"], [["kernel", "shared"]]),  # the teacher's head has none
        (["backbone/kernel"], [["kernel"]]),
        (["head/gamma"], []),
        (["backbone"], []),  # an object, no value
    ],
)
def test_keys_are_those_of_each_object_that_has_all_paths(paths, found):
    assert saved(CHILDREN, {4: "shared", 6: "kernel"}).keys(paths) == found


def test_a_child_that_is_not_there_leads_to_nothing():
    assert saved([{"bias": 7}], {}).keys(["bias"]) == []
    assert saved([{"bias": -1}, {}], {1: "last"}).keys(["bias"]) == []


def test_names_are_those_of_the_variables_and_damage_is_an_empty_graph():
    assert saved([{}, {}], {1: "key"}).names() == {"key": "variable_1"}
    assert ObjectGraph.parse(b"\xff\xfe no graph").names() == {}
