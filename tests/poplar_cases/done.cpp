// SPDX-License-Identifier: Apache-2.0
//
// Custom operations that work, the counting of cycles, and the plan of the NMS operator. tests/ipu/test_poplar_model.py
// says what is to come of each.
#include "cases.hpp"

#include "nms_plan.hpp"
#include "poplar_model/executable.hpp"

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

CASE(undefined) {
  UNUSED;
  const Tensor out = variable(graph, INT, {3});
  const Tensor five = graph.addConstant(INT, {3}, 5);
  graph.setTileMapping(five, 0);
  outputs = {out};
  return Sequence({Copy(five, out), WriteUndef(out.slice(1, 2))});
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

// Scalar fields take a tensor without dimensions, whichever way it came about: 5 and 3 give 8.
CASE(scalars) {
  UNUSED;
  const Tensor numbers = variable(graph, INT, {2}), out = variable(graph, INT, {}), inOut = variable(graph, INT, {1});
  const Tensor three = graph.addConstant(INT, {}, 3), five = graph.addConstant(INT, {}, 5);
  graph.setTileMapping(three, 0);
  graph.setTileMapping(five, 0);
  const ComputeSet set = graph.addComputeSet("set");
  VertexRef vertex = graph.addVertex(
      set, "Scalars", {{"in", numbers[1]}, {"out", out}, {"inOut", inOut.reshape(std::vector<std::size_t>())}});
  graph.setTileMapping(vertex, 0);
  outputs = {out, inOut};
  return Sequence({Copy(five, numbers[1]), Copy(three.expand({0}), inOut), Execute(set)});
}

CASE(unchanged) {
  UNUSED;
  outputs = {inputs[0]};
  return Sequence();
}

// ---- counting ------------------------------------------------------------------------------------------------------

// 100 floats on tile 0 are read by `readers` vertices on tile 1 and one on tile 2, of 5 instructions each; tile 3 has
// `workers` vertices of 10 instructions on data of its own. All of it three times. Returns the sums: compute, exchange,
// sync, bytes of one time, exchange if every reader received for itself; and bytes on the fullest tile in both cases.
extern "C" void count_cycles(const char *codelets, std::int64_t workers, std::int64_t readers, double *counts) {
  Graph graph(Target::createIPUTarget(1, 4, "ipu2"));
  graph.addCodelets(codelets);
  const ComputeSet set = graph.addComputeSet("set");
  const Tensor far = variable(graph, FLOAT, {100});
  increment(graph, set, far, variable(graph, FLOAT, {100}, 2), 2);
  for (std::int64_t i = 0; i < readers; ++i)
    increment(graph, set, far, variable(graph, FLOAT, {100}, 1), 1);
  for (std::int64_t i = 0; i < workers; ++i)
    increment(graph, set, variable(graph, INT, {1}, 3), variable(graph, INT, {1}, 3), 3);
  const Program program = Repeat(3, Execute(set));
  poplar_model::Executable executable(poplar_model::Access::data(graph), program);
  poplar_model::CostModel costs;
  costs.syncCycles = 150;
  costs.vertices["Increment"] = [](const poplar_model::VertexView &view) { return view.size("in") == 1 ? 10.0 : 5.0; };
  executable.run(&costs);
  const poplar_model::Cost &cost = executable.costs().at(0);
  counts[0] = cost.computeCycles;
  counts[1] = cost.exchangeCycles;
  counts[2] = cost.syncCycles;
  counts[3] = cost.bytesExchanged;
  counts[4] = cost.apartCycles;
  counts[5] = static_cast<double>(executable.maxTileBytes());
  counts[6] = static_cast<double>(executable.maxTileBytesApart());
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
