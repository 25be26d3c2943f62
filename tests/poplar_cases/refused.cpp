// SPDX-License-Identifier: Apache-2.0
//
// Custom operations that make one mistake each, under whose name they are exported. Inputs: [0] float [2, 3, 4].
#include "cases.hpp"

extern "C" std::int32_t custom_op_api_level;
std::int32_t custom_op_api_level = 5;

CASE(unmapped_variable) {
  UNUSED;
  graph.addVariable(FLOAT, {4}, "lost");
  return Sequence();
}

CASE(partly_mapped_variable) {
  UNUSED;
  graph.setTileMapping(graph.addVariable(FLOAT, {4}, "half lost").slice(0, 3), 0);
  return Sequence();
}

CASE(unmapped_constant) {
  UNUSED;
  graph.addConstant(FLOAT, {1}, 1.0f, "lost");
  return Sequence();
}

CASE(variable_on_a_tile_that_is_not_there) {
  UNUSED;
  variable(graph, FLOAT, {4}, graph.getTarget().getNumTiles());
  return Sequence();
}

CASE(vertex_on_a_tile_that_is_not_there) {
  UNUSED;
  const Tensor a = variable(graph, FLOAT, {4}), b = variable(graph, FLOAT, {4});
  increment(graph, graph.addComputeSet("set"), a, b, graph.getTarget().getNumTiles());
  return Sequence();
}

CASE(vertex_on_no_tile) {
  UNUSED;
  VertexRef vertex = graph.addVertex(graph.addComputeSet("set"), "Forgetful", {{"out", variable(graph, INT, {2})}});
  (void)vertex;
  return Sequence();
}

CASE(unconnected_field) {
  UNUSED;
  VertexRef vertex = graph.addVertex(graph.addComputeSet("set"), "ToHalf", {{"in", inputs[0].flatten()}});
  graph.setTileMapping(vertex, 0);
  return Sequence();
}

CASE(value_not_set) {
  UNUSED;
  VertexRef vertex = graph.addVertex(graph.addComputeSet("set"), "Count");
  graph.connect(vertex["count"], variable(graph, INT, {}));
  graph.connect(vertex["below"], variable(graph, BOOL, {}));
  graph.setTileMapping(vertex, 0);
  return Sequence();
}

CASE(unknown_vertex) {
  UNUSED;
  graph.addVertex(graph.addComputeSet("set"), "Increment<double>");
  return Sequence();
}

CASE(unknown_field) {
  UNUSED;
  VertexRef vertex = graph.addVertex(graph.addComputeSet("set"), "ToHalf");
  graph.connect(vertex["input"], inputs[0].flatten());
  return Sequence();
}

CASE(tensor_of_another_type) {
  UNUSED;
  VertexRef vertex = graph.addVertex(graph.addComputeSet("set"), "ToFloat");
  graph.connect(vertex["in"], inputs[0].flatten());
  return Sequence();
}

CASE(value_of_another_type) {
  UNUSED;
  VertexRef vertex = graph.addVertex(graph.addComputeSet("set"), "Count");
  graph.setInitialValue(vertex["limit"], 4u);
  return Sequence();
}

CASE(tensor_for_a_value) {
  UNUSED;
  VertexRef vertex = graph.addVertex(graph.addComputeSet("set"), "Count");
  graph.connect(vertex["limit"], variable(graph, INT, {}));
  return Sequence();
}

CASE(value_for_a_tensor) {
  UNUSED;
  VertexRef vertex = graph.addVertex(graph.addComputeSet("set"), "Count");
  graph.setInitialValue(vertex["count"], 4);
  return Sequence();
}

CASE(several_elements_for_a_scalar) {
  UNUSED;
  VertexRef vertex = graph.addVertex(graph.addComputeSet("set"), "Count");
  graph.connect(vertex["count"], variable(graph, INT, {2}));
  return Sequence();
}

// The other scalar fields are connected as they should be, so that nothing else is there to refuse.
static Program scalars(Graph &graph, const std::string &field, const std::vector<std::size_t> &shape) {
  VertexRef vertex = graph.addVertex(graph.addComputeSet("set"), "Scalars");
  graph.setTileMapping(vertex, 0);
  for (const std::string &name : {std::string("in"), std::string("out"), std::string("inOut")})
    graph.connect(vertex[name], variable(graph, INT, name == field ? shape : std::vector<std::size_t>()));
  return Sequence();
}

CASE(one_dimension_for_a_scalar_input) {
  UNUSED;
  return scalars(graph, "in", {1});
}

CASE(one_dimension_for_a_scalar_output) {
  UNUSED;
  return scalars(graph, "out", {1});
}

CASE(one_dimension_for_a_scalar_that_is_both) {
  UNUSED;
  return scalars(graph, "inOut", {1});
}

CASE(two_dimensions_for_a_scalar) {
  UNUSED;
  return scalars(graph, "in", {1, 1});
}

CASE(no_dimension_for_a_vector) {
  UNUSED;
  VertexRef vertex = graph.addVertex(graph.addComputeSet("set"), "ToHalf");
  graph.connect(vertex["in"], variable(graph, FLOAT, {}));
  return Sequence();
}

CASE(two_dimensions_for_a_vector) {
  UNUSED;
  VertexRef vertex = graph.addVertex(graph.addComputeSet("set"), "ToHalf");
  graph.connect(vertex["in"], inputs[0][0]);
  return Sequence();
}

CASE(two_vertices_write_one_element) {
  UNUSED;
  const Tensor a = variable(graph, FLOAT, {8}), b = variable(graph, FLOAT, {8});
  const ComputeSet set = graph.addComputeSet("set");
  increment(graph, set, a.slice(0, 4), b.slice(0, 4), 0);
  increment(graph, set, a.slice(3, 7), b.slice(3, 7), 1);
  return Execute(set);
}

CASE(one_vertex_reads_what_another_writes) {
  UNUSED;
  const Tensor a = variable(graph, FLOAT, {4}), b = variable(graph, FLOAT, {4}), c = variable(graph, FLOAT, {4});
  const ComputeSet set = graph.addComputeSet("set");
  increment(graph, set, a, b, 0);
  increment(graph, set, b, c, 1);
  return Execute(set);
}

CASE(two_workers_write_one_word) {
  UNUSED;
  const Tensor a = variable(graph, HALF, {6}), b = variable(graph, HALF, {6});
  const ComputeSet set = graph.addComputeSet("set");
  increment(graph, set, a.slice(0, 3), b.slice(0, 3));
  increment(graph, set, a.slice(3, 6), b.slice(3, 6));
  return Execute(set);
}

CASE(write_to_a_constant) {
  UNUSED;
  const Tensor constant = graph.addConstant(FLOAT, {4}, 1.0f);
  graph.setTileMapping(constant, 0);
  increment(graph, graph.addComputeSet("set"), constant, constant);
  return Sequence();
}

CASE(write_to_one_element_twice) {
  UNUSED;
  const Tensor a = variable(graph, FLOAT, {4}), b = variable(graph, FLOAT, {1});
  increment(graph, graph.addComputeSet("set"), a, b.broadcast(4, 0));
  return Sequence();
}

CASE(more_memory_than_a_tile_has) {
  UNUSED;
  variable(graph, FLOAT, {624 * 1024 / 4 + 1});
  return Sequence();
}

CASE(more_remote_data_than_fits_beside) {
  UNUSED;
  const std::size_t size = 624 * 1024 / 4 / 3; // twice on tile 1 and once on tile 0: with the copy fetched, too much
  const Tensor a = variable(graph, FLOAT, {size + 100}, 0), b = variable(graph, FLOAT, {2 * size}, 1);
  increment(graph, graph.addComputeSet("set"), a.slice(0, 100), b.slice(0, 100), 0);
  VertexRef vertex = graph.addVertex(graph.addComputeSet("far"), "Increment<float>");
  graph.connect(vertex["in"], a.slice(0, size));
  graph.connect(vertex["out"], b.slice(0, size));
  graph.setInitialValue(vertex["by"], 1.0f);
  graph.setTileMapping(vertex, 1);
  return Sequence();
}

CASE(copy_of_another_size) {
  UNUSED;
  return Copy(inputs[0], variable(graph, FLOAT, {2, 3}));
}

CASE(copy_to_another_type) {
  UNUSED;
  return Copy(inputs[0], variable(graph, HALF, {2, 3, 4}));
}

CASE(copy_onto_itself) {
  UNUSED;
  const Tensor a = variable(graph, FLOAT, {8});
  return Copy(a.slice(0, 6), a.slice(2, 8));
}

CASE(copy_to_a_constant) {
  UNUSED;
  const Tensor constant = graph.addConstant(FLOAT, {2, 3, 4}, 1.0f);
  graph.setTileMapping(constant, 0);
  return Copy(inputs[0], constant);
}

CASE(undefined_constant) {
  UNUSED;
  return WriteUndef(graph.addConstant(INT, {3}, 5));
}

CASE(predicate_that_is_no_scalar) {
  UNUSED;
  return RepeatWhileTrue(Sequence(), variable(graph, BOOL, {1}), Sequence());
}

CASE(predicate_that_is_no_bool) {
  UNUSED;
  return If(variable(graph, INT, {}), Sequence(), Sequence());
}

CASE(slice_beyond_the_end) {
  UNUSED;
  inputs[0].slice(1, 4, 1);
  return Sequence();
}

CASE(reshape_to_another_size) {
  UNUSED;
  inputs[0].reshape({5, 5});
  return Sequence();
}

CASE(squeeze_of_more_than_one) {
  UNUSED;
  inputs[0].squeeze({1});
  return Sequence();
}

CASE(concat_of_two_types) {
  UNUSED;
  concat(inputs[0], variable(graph, HALF, {2, 3, 4}));
  return Sequence();
}

CASE(concat_of_two_widths) {
  UNUSED;
  concat(inputs[0], variable(graph, FLOAT, {2, 3, 5}));
  return Sequence();
}

CASE(reinterpret_as_another_size) {
  UNUSED;
  inputs[0].reinterpret(HALF);
  return Sequence();
}

CASE(input_moved) {
  UNUSED;
  graph.setTileMapping(inputs[0], 0);
  return Sequence();
}

CASE(input_written) {
  UNUSED;
  const Tensor one = graph.addConstant(FLOAT, {1}, 77.0f);
  graph.setTileMapping(one, 0);
  return Copy(one.broadcast(24, 0), inputs[0].flatten());
}

CASE(half_set_flags) {
  UNUSED;
  return Sequence();
}
extern "C" void half_set_flags_metadata(std::vector<std::int64_t> &, std::vector<std::int64_t> &,
                                        std::map<std::int64_t, std::int64_t> &, bool &elementwise, bool &stateless,
                                        bool &, std::uint32_t) {
  elementwise = false;
  stateless = true;
}
