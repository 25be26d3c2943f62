// SPDX-License-Identifier: Apache-2.0
//
// Custom operations for tests of the model of Poplar: most of them make one mistake each, under whose name they are
// exported. Inputs: [0] float [2, 3, 4]. tests/test_poplar_model.py says what is to come of each.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <poplar/Graph.hpp>
#include <poplar/Program.hpp>
#include <poputil/VertexTemplates.hpp>

#include "nms_plan.hpp"

using namespace poplar;
using namespace poplar::program;

#define CASE(name)                                                                                                     \
  extern "C" Program name(Graph &graph, const std::vector<Tensor> &inputs, std::vector<Tensor> &outputs,               \
                          const std::string &, const std::string &)
#define UNUSED (void)graph, (void)inputs, (void)outputs

extern "C" std::int32_t custom_op_api_level;
std::int32_t custom_op_api_level = 5;

namespace {

Tensor variable(Graph &graph, const Type &type, const std::vector<std::size_t> &shape, unsigned tile = 0) {
  const Tensor tensor = graph.addVariable(type, shape, "variable");
  graph.setTileMapping(tensor, tile);
  return tensor;
}

VertexRef increment(Graph &graph, ComputeSet set, const Tensor &in, const Tensor &out, unsigned tile = 0) {
  VertexRef vertex = graph.addVertex(set, poputil::templateVertex("Increment", in.elementType()));
  graph.connect(vertex["in"], in);
  graph.connect(vertex["out"], out);
  if (in.elementType() == INT)
    graph.setInitialValue(vertex["by"], 1);
  else if (in.elementType() == HALF)
    graph.setInitialValue(vertex["by"], half(1.0f));
  else
    graph.setInitialValue(vertex["by"], 1.0f);
  graph.setTileMapping(vertex, tile);
  return vertex;
}

} // namespace

// ---- refused -------------------------------------------------------------------------------------------------------

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

// ---- done ----------------------------------------------------------------------------------------------------------

CASE(views) {
  UNUSED;
  const Tensor &in = inputs[0];
  const std::vector<Tensor> results = {
      in.dimShuffle({2, 0, 1}),
      in.slice(1, 3, 1),
      in.slice({0, 1, 2}, {2, 3, 4}),
      in[1],
      in.index({1, 2}),
      in.reshape({4, 6}).slice(1, 5, 1),
      in.flatten(1, 3),
      in.expand({0, 3}),
      in.slice(0, 1).squeeze({0}),
      in.broadcast(3, 1),
      concat(in.slice(2, 3, 2), in.slice(0, 2, 2), 2),
      concat(in.slices({{0, 1}, {2, 3}}, 1)),
  };
  Sequence prog;
  for (const Tensor &result : results) {
    outputs.push_back(variable(graph, FLOAT, result.shape()));
    prog.add(Copy(result, outputs.back()));
  }
  return prog;
}

// Fields connected to elements that do not lie together, both read and written.
CASE(gathered_fields) {
  UNUSED;
  const Tensor out = variable(graph, FLOAT, {2, 3, 4}, 1);
  const ComputeSet set = graph.addComputeSet("set");
  increment(graph, set, inputs[0].dimShuffle({2, 1, 0}).flatten(), out.dimShuffle({2, 1, 0}).flatten());
  outputs = {out};
  return Execute(set);
}

// Counts passes: of Repeat, of RepeatWhileTrue, and of the branches of If.
CASE(loops) {
  UNUSED;
  const Tensor count = variable(graph, INT, {5}), below = variable(graph, BOOL, {5});
  const Tensor zero = graph.addConstant(INT, {1}, 0), yes = graph.addConstant(BOOL, {1}, true);
  graph.setTileMapping(zero, 0);
  graph.setTileMapping(yes, 0);
  std::vector<ComputeSet> sets;
  for (unsigned i = 0; i < 5; ++i) {
    sets.push_back(graph.addComputeSet("count"));
    VertexRef vertex = graph.addVertex(sets[i], "Count", {{"count", count[i]}, {"below", below[i]}});
    graph.setInitialValue(vertex["limit"], 4);
    graph.setTileMapping(vertex, i);
  }
  Sequence prog, late;
  prog.add(Copy(zero.broadcast(5, 0), count));
  prog.add(Copy(yes.broadcast(5, 0), below));
  prog.add(Repeat(7, Execute(sets[0])));
  prog.add(RepeatWhileTrue(Sequence(), below[1], Execute(sets[1])));
  prog.add(RepeatWhileTrue(Execute(sets[2]), below[2], Sequence()));
  prog.add(If(below[0], Execute(sets[3]), Repeat(2, Execute(sets[4])))); // below[0] is false after seven
  late.add(Execute(sets[3]));
  prog.add(late);
  late.add(Execute(sets[3])); // too late: what was given has been copied
  outputs = {count};
  return prog;
}

CASE(half_arithmetic) {
  UNUSED;
  const std::size_t n = inputs[0].numElements();
  const Tensor out = variable(graph, HALF, {n, 4});
  const ComputeSet set = graph.addComputeSet("set");
  VertexRef vertex =
      graph.addVertex(set, "HalfArithmetic", {{"a", inputs[0]}, {"b", inputs[1]}, {"out", out.flatten()}});
  graph.setTileMapping(vertex, 0);
  outputs = {out};
  return Execute(set);
}

CASE(to_half) {
  UNUSED;
  const Tensor out = variable(graph, HALF, inputs[0].shape());
  const ComputeSet set = graph.addComputeSet("set");
  graph.setTileMapping(graph.addVertex(set, "ToHalf", {{"in", inputs[0]}, {"out", out}}), 0);
  outputs = {out};
  return Execute(set);
}

CASE(to_float) {
  UNUSED;
  const Tensor out = variable(graph, FLOAT, inputs[0].shape());
  const ComputeSet set = graph.addComputeSet("set");
  graph.setTileMapping(graph.addVertex(set, "ToFloat", {{"in", inputs[0]}, {"out", out}}), 0);
  outputs = {out};
  return Execute(set);
}

CASE(forgetful) {
  UNUSED;
  const Tensor out = variable(graph, INT, {2});
  const Tensor five = graph.addConstant(INT, {2}, 5);
  graph.setTileMapping(five, 0);
  const ComputeSet set = graph.addComputeSet("set");
  graph.setTileMapping(graph.addVertex(set, "Forgetful", {{"out", out}}), 0);
  outputs = {out};
  return Sequence({Copy(five, out), Execute(set)});
}

CASE(unchanged) {
  UNUSED;
  outputs = {inputs[0]};
  return Sequence();
}

// ---- the plan of the NMS operator ----------------------------------------------------------------------------------

// Slices as triples (begin, end, tile), at most `capacity` of them; returns their number.
extern "C" std::int64_t plan_slices(std::int64_t image, std::int64_t batch, std::int64_t anchors, std::int64_t classes,
                                    std::int64_t tiles, std::int64_t workers, std::int64_t *slices,
                                    std::int64_t capacity, std::int64_t *answer_tile, std::int64_t *entries) {
  const nms::ImagePlan plan = nms::planImage(image, batch, anchors, classes, tiles, workers);
  for (std::size_t i = 0; i < plan.slices.size() && static_cast<std::int64_t>(i) < capacity; ++i) {
    slices[3 * i] = static_cast<std::int64_t>(plan.slices[i].anchors.begin);
    slices[3 * i + 1] = static_cast<std::int64_t>(plan.slices[i].anchors.end);
    slices[3 * i + 2] = plan.slices[i].tile;
  }
  *answer_tile = plan.answerTile;
  *entries = static_cast<std::int64_t>(plan.entriesPerSlice);
  return static_cast<std::int64_t>(plan.slices.size());
}
