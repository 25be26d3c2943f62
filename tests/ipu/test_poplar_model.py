# SPDX-License-Identifier: Apache-2.0
"""The model of Poplar: what it refuses, and that what it runs comes out as on the device."""

import ctypes
import os
import shutil
import subprocess

import numpy as np
import poplar_model
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poplar_model import CustomOp, PoplarModelError

CASES = poplar_model.ROOT / "tests" / "poplar_cases"
INPUT = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
TILES = 8


def compile_library(target, *sources):
    command = [os.environ.get("CXX", "g++"), "-std=c++14", "-O0", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
    command += [f"-I{poplar_model.MODEL / 'include'}", f"-I{poplar_model.NMS}", *map(str, sources), "-o", str(target)]
    command += [f"-L{poplar_model.build()}", "-lpoplar_model", f"-Wl,-rpath,{poplar_model.BUILD}"]
    made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert made.returncode == 0, made.stdout.decode()
    return target


def popc(source, target):
    return subprocess.run(
        [str(poplar_model.MODEL / "popc"), "-O0", str(source), "-o", str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    poplar_model.build()
    made = popc(CASES / "codelets.cpp", folder / "codelet.gp")
    assert made.returncode == 0, made.stdout.decode()
    return compile_library(folder / "cases.so", CASES / "refused.cpp", CASES / "done.cpp")


def run(library, case, inputs, *outputs):
    """Run a case; outputs are (type, shape)."""
    specs = [(array.dtype.name, array.shape) for array in inputs]
    return CustomOp(library, specs, "", outputs, tiles=TILES, op_name=case)(inputs)


REFUSED = {
    "unmapped_variable": "invalid_tile_mapping: variable lost has elements on no tile",
    "partly_mapped_variable": "invalid_tile_mapping: variable half lost",
    "unmapped_constant": "invalid_tile_mapping: constant lost",
    "variable_on_a_tile_that_is_not_there": "invalid_tile_mapping: a tensor on tile 8 of 8",
    "vertex_on_a_tile_that_is_not_there": "invalid_tile_mapping: a vertex on tile 8 of 8",
    "vertex_on_no_tile": "invalid_tile_mapping: vertex Forgetful is on no tile",
    "unconnected_field": "graph_connection_error: field out of vertex ToHalf is not connected",
    "value_not_set": "graph_connection_error: field limit of vertex Count is not connected",
    "unknown_vertex": "unknown_vertex_type: no codelet Increment<double>",
    "unknown_field": "unknown_field: vertex ToHalf has no field input",
    "tensor_of_another_type": "type_error: ToFloat.in is half, the tensor is float",
    "value_of_another_type": "type_error: Count.limit is int, the value is unsigned int",
    "tensor_for_a_value": "graph_connection_error: Count.limit holds a value",
    "value_for_a_tensor": "graph_connection_error: count of Count needs a tensor",
    "several_elements_for_a_scalar": "graph_connection_error: Count.count needs a tensor of rank 0, got shape {2}",
    "one_dimension_for_a_scalar_input": "graph_connection_error: Scalars.in needs a tensor of rank 0, got shape {1}",
    "one_dimension_for_a_scalar_output": "graph_connection_error: Scalars.out needs a tensor of rank 0, got shape {1}",
    "one_dimension_for_a_scalar_that_is_both": "graph_connection_error: Scalars.inOut needs a tensor of rank 0",
    "two_dimensions_for_a_scalar": "graph_connection_error: Scalars.in needs a tensor of rank 0, got shape {1,1}",
    "no_dimension_for_a_vector": "graph_connection_error: ToHalf.in needs a tensor of rank 1, got shape {}",
    "two_dimensions_for_a_vector": "graph_connection_error: ToHalf.in needs a tensor of rank 1, got shape {3,4}",
    "two_vertices_write_one_element": "compute_set_conflict: two fields write one element",
    "one_vertex_reads_what_another_writes": "compute_set_conflict: one field writes and another one reads",
    "two_workers_write_one_word": "compute_set_conflict: two workers write one 32-bit word",
    "write_to_a_constant": "graph_connection_error: Increment<float>.out is written, but the tensor is constant",
    "write_to_one_element_twice": "graph_connection_error: Increment<float>.out is written, but",
    "more_memory_than_a_tile_has": "graph_memory_allocation_error: tile 0 needs",
    "more_remote_data_than_fits_beside": "graph_memory_allocation_error: tile 1 needs",
    "copy_of_another_size": "graph_connection_error: copy of 24 to 6 elements",
    "copy_to_another_type": "type_error: copy of float to half",
    "copy_onto_itself": "graph_connection_error: source and destination of a copy overlap",
    "copy_to_a_constant": "graph_connection_error: the destination of a copy is constant",
    "undefined_constant": "graph_connection_error: what is to be undefined is constant",
    "predicate_that_is_no_scalar": "control_program_error: a predicate must be a scalar",
    "predicate_that_is_no_bool": "control_program_error: a predicate must be bool",
    "slice_beyond_the_end": "index_error: slice 1 to 4 of dimension 1 of a tensor of shape {2,3,4}",
    "reshape_to_another_size": "reshape to another number of elements",
    "squeeze_of_more_than_one": "squeeze of a dimension that is not 1",
    "concat_of_two_types": "type_error: concat of float and half",
    "concat_of_two_widths": "concat of shapes {2,3,4} and {2,3,5}",
    "reinterpret_as_another_size": "type_error: reinterpret float as half",
    "input_moved": "invalid_tile_mapping: the operation moved input 0",
    "half_set_flags": "must set is_elementwise, is_stateless and is_hashable",
    "input_written": "the operation wrote input 0",
    "not_there": "does not export not_there",
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_the_model_refuses(case, library):
    with pytest.raises(PoplarModelError) as error:
        run(library, case, [INPUT])
    assert REFUSED[case] in str(error.value)


def test_every_case_of_the_library_is_tested():
    text = (CASES / "refused.cpp").read_text()
    assert set(REFUSED) - {"not_there"} == {part.split(")")[0] for part in text.split("CASE(")[1:]}


@pytest.mark.parametrize(
    ("outputs", "complaint"),
    [
        ([("float32", (2, 3, 4))] * 2, "2 outputs are declared, the operation gave 1"),
        ([("float16", (2, 3, 4))], "output 0 is float {2,3,4}, declared otherwise"),
        ([("float32", (2, 12))], "output 0 is float {2,3,4}, declared otherwise"),
    ],
)
def test_outputs_must_be_as_declared(outputs, complaint, library):
    with pytest.raises(PoplarModelError, match=complaint):
        run(library, "unchanged", [INPUT], *outputs)


def test_arrays_must_be_of_a_type_the_device_has(library):
    with pytest.raises(PoplarModelError, match="arrays cannot be float64"):
        run(library, "unchanged", [INPUT.astype(np.float64)])


def test_inputs_must_be_those_that_were_compiled_for(library):
    op = CustomOp(library, [("float32", (2, 3, 4))], "", [("float32", (2, 3, 4))], tiles=TILES, op_name="unchanged")
    with pytest.raises(PoplarModelError, match="the operation was compiled for"):
        op([INPUT[:1]])
    np.testing.assert_array_equal(op([INPUT])[0], INPUT)


def test_a_library_of_another_api_level_is_refused(tmp_path, library):
    source = tmp_path / "level.cpp"
    source.write_text('#include <cstdint>\nextern "C" { std::int32_t custom_op_api_level = 4; }\n')
    shutil.copy(library.parent / "codelet.gp", tmp_path)
    with pytest.raises(PoplarModelError, match=r"link_error: .* has custom_op_api_level 4, wanted 5"):
        run(compile_library(tmp_path / "level.so", source), "Build", [INPUT])


def test_missing_files_are_named(tmp_path, library):
    with pytest.raises(PoplarModelError, match=r"link_error: library cannot be loaded: .*nowhere\.so"):
        run(tmp_path / "nowhere.so", "Build", [INPUT])
    with pytest.raises(PoplarModelError, match=r"link_error: codelets cannot be loaded: .*nowhere\.gp"):
        CustomOp(library, [], "", [], gp_path=tmp_path / "nowhere.gp", op_name="unchanged")
    with pytest.raises(PoplarModelError, match="was not made by tests/poplar_model/popc"):
        CustomOp(library, [], "", [], gp_path=library, op_name="unchanged")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("class A : public MultiVertex { public: bool compute(unsigned); };", "MultiVertex is not part of the model"),
        ("class A : public Vertex { public: Input<int> a; };", "vertex A has no compute"),
        ("class A : public Vertex { public: A(int x); bool compute() { return true; } };", "not a field"),
        ("class A : public Vertex { public: B(); bool compute() { return true; } };", "not a field"),
        ("class A : public Vertex { public: const int a; bool compute() { return true; } };", "without a constructor"),
        ("class A : public Vertex { public: bool compute() { return true; }", "not closed"),
        ("class A : public Vertex { public: Input<int> a; bool compute() { *a = 1; return true; } };", "read-only"),
        (
            "class A : public Vertex { public: Input<Vector<int, VectorLayout::ONE_PTR>> a; Output<int> n;"
            " bool compute() { *n = a.size(); return true; } };",
            "this layout does not know its size",
        ),
    ],
)
def test_popc_refuses_codelets_that_the_device_or_the_model_cannot_have(text, complaint, tmp_path):
    source = tmp_path / "codelet.cpp"
    source.write_text("#include <poplar/Vertex.hpp>\nusing namespace poplar;\n" + text + "\n")
    made = popc(source, tmp_path / "codelet.gp")
    assert made.returncode != 0
    assert complaint in made.stdout.decode()
    assert not (tmp_path / "codelet.gp").exists()


def test_views_show_the_elements_that_numpy_shows(library):
    wanted = [
        INPUT.transpose(2, 0, 1),
        INPUT[:, 1:3],
        INPUT[0:2, 1:3, 2:4],
        INPUT[1],
        INPUT[1, 2],
        INPUT.reshape(4, 6)[:, 1:5],
        INPUT.reshape(2, 12),
        INPUT[None, ..., None],
        INPUT[0],
        np.tile(INPUT, (1, 3, 1)),
        np.concatenate([INPUT[..., 2:3], INPUT[..., 0:2]], -1),
        np.concatenate([INPUT[:, 0:1], INPUT[:, 2:3]], 0),
    ]
    found = run(library, "views", [INPUT], *[("float32", array.shape) for array in wanted])
    for mine, other in zip(found, wanted):
        np.testing.assert_array_equal(mine, other)


def test_fields_may_be_connected_to_scattered_elements(library):
    np.testing.assert_array_equal(run(library, "gathered_fields", [INPUT], ("float32", INPUT.shape))[0], INPUT + 1)


def test_a_scalar_field_takes_a_tensor_without_dimensions(library):
    out, both = run(library, "scalars", [INPUT], ("int32", ()), ("int32", (1,)))
    assert out == both == 8


@pytest.mark.parametrize("constructor", ["A();", "A( ) ;", "A() = default;"])
def test_popc_accepts_a_vertex_that_declares_a_constructor(constructor, tmp_path):
    source = tmp_path / "codelet.cpp"
    source.write_text(
        "#include <poplar/Vertex.hpp>\nusing namespace poplar;\n"
        f"class A : public Vertex {{ public: {constructor} Output<int> a; const int b;"
        " bool compute() { *a = b; return true; } };\n"
    )
    poplar_model.build()
    made = popc(source, tmp_path / "codelet.gp")
    assert made.returncode == 0, made.stdout.decode()


def test_loops_run_as_often_as_they_say_and_programs_are_copied_when_given(library):
    # Repeat 7; while-loops end at 4: with the body after the test, and with the condition program before it; the branch
    # not taken, then one call of a sequence that was changed after it had been given; two passes of the branch taken.
    assert list(run(library, "loops", [INPUT], ("int32", (5,)))[0]) == [7, 4, 4, 1, 2]


def test_what_was_declared_undefined_is_gone(library):
    first, undefined, last = run(library, "undefined", [INPUT], ("int32", (3,)))[0]
    assert first == last == 5 != undefined


def test_what_a_vertex_reads_from_its_outputs_is_not_what_was_there(library):
    assert 5 not in run(library, "forgetful", [INPUT], ("int32", (2,)))[0]


def test_every_half_is_widened_exactly(library):
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    np.testing.assert_array_equal(
        run(library, "to_float", [halves], ("float32", halves.shape))[0], halves.astype(np.float32)
    )


# Halves, the middles between neighbours, and the floats beside those: where rounding is decided.
def hard_to_round():
    halves = np.arange(0, 0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (halves[1:] + halves[:-1]) / 2
    positive = np.concatenate([halves, middles, np.nextafter(middles, np.float32(0)), np.nextafter(middles, np.inf)])
    return np.concatenate([positive, -positive]).astype(np.float32)


def test_floats_are_rounded_to_the_nearest_half_and_to_the_even_one_of_two(library):
    for floats in np.array_split(hard_to_round(), 8):  # all at once would not fit on the one tile that does it
        found = run(library, "to_half", [floats], ("float16", floats.shape))[0]
        np.testing.assert_array_equal(found, floats.astype(np.float16))


def test_what_half_cannot_hold_becomes_the_greatest_half(library):
    floats = np.array([65519.996, 65520, 1e9, np.inf, -65520, -np.inf, np.nan], np.float32)
    found = run(library, "to_half", [floats], ("float16", floats.shape))[0]
    np.testing.assert_array_equal(found, np.array([65504] * 4 + [-65504] * 2 + [np.nan], np.float16))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_half_arithmetic_rounds_every_result_to_half(library, seed):
    a, b = np.random.RandomState(seed).randint(0, 65536, (2, 1000)).astype(np.uint16).view(np.float16)
    finite = np.isfinite(a) & np.isfinite(b) & (b != 0)
    a, b = a[finite], b[finite]
    found = run(library, "half_arithmetic", [a, b], ("float16", (len(a), 4)))[0]
    with np.errstate(over="ignore"):
        wide_a, wide_b = a.astype(np.float32), b.astype(np.float32)
        exact = np.stack([wide_a + wide_b, wide_a - wide_b, wide_a * wide_b, wide_a / wide_b], 1)
        wanted = np.clip(exact.astype(np.float16), np.float16(-65504), np.float16(65504))
    np.testing.assert_array_equal(found, wanted)


def count_cycles(library, workers=1, readers=1):
    counts = (ctypes.c_double * 7)()
    ctypes.CDLL(str(library)).count_cycles(
        str(library.parent / "codelet.gp").encode(),
        ctypes.c_int64(workers),
        ctypes.c_int64(readers),
        ctypes.byref(counts),
    )
    return list(counts)


@pytest.mark.parametrize(("workers", "rounds"), [(1, 1), (6, 1), (7, 2), (13, 3)])
def test_a_superstep_costs_its_slowest_worker_and_its_fullest_exchange(workers, rounds, library):
    compute, exchange, sync, received, *_ = count_cycles(library, workers)
    assert compute == 3 * rounds * 10 * 6  # six workers take turns, so each issues every sixth cycle
    assert exchange == 3 * 400 / 4  # sent once, though two tiles receive it
    assert sync == 3 * 150
    assert received == 2 * 400


@pytest.mark.parametrize("readers", [1, 2, 6])
def test_what_vertices_of_a_tile_share_is_counted_once_and_once_for_each(readers, library):
    _, together, _, received, apart, bytes_together, bytes_apart = count_cycles(library, readers=readers)
    assert together == 3 * 400 / 4 and received == 2 * 400
    assert apart == readers * together
    assert bytes_apart - bytes_together == (readers - 1) * 400


@settings(max_examples=200, deadline=None)
@given(
    batch=st.integers(1, 6),
    anchors=st.integers(1, 60000),
    classes=st.sampled_from([1, 2, 90, 3000, 65536]),
    tiles=st.integers(1, 1500),
)
def test_the_operator_gives_every_image_its_own_tiles_and_every_anchor_to_one_worker(
    library, batch, anchors, classes, tiles
):
    plan = ctypes.CDLL(str(library)).plan_slices
    number, address = ctypes.c_int64, ctypes.c_void_p
    plan.restype, plan.argtypes = number, [*[number] * 6, address, number, address, address]
    workers, owners = 6, {}
    for image in range(batch):
        slices, extra = np.zeros((70000, 3), np.int64), np.zeros(2, np.int64)
        places = (slices.ctypes.data, len(slices), extra.ctypes.data, extra[1:].ctypes.data)
        count = plan(image, batch, anchors, classes, tiles, workers, *places)
        begin, end, tile = slices[:count].T
        assert begin[0] == 0 and end[-1] == anchors
        assert (begin[1:] == end[:-1]).all() and (begin < end).all()
        assert (np.diff(tile) >= 0).all() and tile.min() >= 0 and tile.max() < tiles
        assert ((end - begin) * classes <= extra[1]).all() and extra[1] <= 65536 and extra[1] % 2 == 0
        if (end - begin).max() * classes < 65536 // 2 and anchors * classes < 10**6:
            assert np.bincount(tile).max() <= workers
        if tiles >= 2 * batch:
            assert extra[0] not in tile  # the answer has a tile to itself
        if tiles >= batch:
            for used in {*tile, extra[0]}:
                assert owners.setdefault(used, image) == image
