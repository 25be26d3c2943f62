// SPDX-License-Identifier: Apache-2.0
//
// What the custom operations for tests of the model of Poplar share.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <poplar/Graph.hpp>
#include <poplar/Program.hpp>
#include <poputil/VertexTemplates.hpp>

using namespace poplar;
using namespace poplar::program;

#define CASE(name)                                                                                                     \
  extern "C" Program name(Graph &graph, const std::vector<Tensor> &inputs, std::vector<Tensor> &outputs,               \
                          const std::string &, const std::string &)
#define UNUSED (void)graph, (void)inputs, (void)outputs

inline Tensor variable(Graph &graph, const Type &type, const std::vector<std::size_t> &shape, unsigned tile = 0) {
  const Tensor tensor = graph.addVariable(type, shape, "variable");
  graph.setTileMapping(tensor, tile);
  return tensor;
}

inline VertexRef increment(Graph &graph, ComputeSet set, const Tensor &in, const Tensor &out, unsigned tile = 0) {
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
