// SPDX-License-Identifier: Apache-2.0
// The state behind poplar::Graph, Tensor and Program, and the door to their private parts.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "poplar/Graph.hpp"
#include "poplar/Program.hpp"
#include "poplar_model/registry.hpp"

namespace poplar_model {

struct TileRegion {
  std::size_t begin, end;
  unsigned tile;
};

struct Variable {
  std::string name;
  poplar::Type type;
  std::size_t size;
  bool constant;
  std::vector<unsigned char> data;
  std::map<std::size_t, TileRegion> regions; // by begin, without overlaps

  void map(std::size_t begin, std::size_t end, unsigned tile);
  std::vector<TileRegion> mergedRegions() const;
  bool completelyMapped() const;
};

struct Edge {
  bool connected = false;
  poplar::Tensor tensor;
  std::vector<unsigned char> value; // of a plain field
};

struct VertexInstance {
  const VertexType *type;
  unsigned computeSet;
  bool mapped = false;
  unsigned tile = 0;
  std::vector<Edge> edges; // one a field
};

struct ComputeSetData {
  std::string name;
  std::vector<unsigned> vertices;
};

struct GraphData {
  poplar::Target target;
  std::vector<std::unique_ptr<Variable>> variables;
  std::vector<VertexInstance> vertices;
  std::vector<ComputeSetData> computeSets;
  Registry codelets;
  std::vector<std::shared_ptr<void>> libraries; // keep the vertices' code loaded
};

struct Step {
  enum class Kind { sequence, execute, copy, writeUndef, repeat, repeatWhileTrue, branch } kind;
  std::vector<std::shared_ptr<Step>> children; // sequence: all; loops: condition, body; branch: true, false
  unsigned computeSet = 0, count = 0;
  poplar::Tensor source, destination, predicate;
};

struct Access {
  static poplar::Type type(const char *name, std::size_t size, bool floatingPoint = false) {
    return {name, size, floatingPoint};
  }
  static std::size_t size(const poplar::Type &type) { return type.size_; }
  static GraphData &data(const poplar::Graph &graph) { return *graph.data_; }
  static GraphData *graph(const poplar::Tensor &tensor) { return tensor.graph_; }
  static const std::vector<Run> &runs(const poplar::Tensor &tensor) { return tensor.runs_; }
  static poplar::Tensor make(GraphData *graph, const poplar::Type &type, std::vector<std::size_t> shape,
                             std::vector<Run> runs);
  static std::shared_ptr<Step> &step(poplar::program::Program &program) { return program.step_; }
  static const std::shared_ptr<Step> &step(const poplar::program::Program &program) { return program.step_; }
  static unsigned vertex(const poplar::FieldRef &field) { return field.vertex_; }
  static const std::string &name(const poplar::FieldRef &field) { return field.name_; }
  static poplar::FieldRef field(unsigned vertex, const std::string &name) {
    poplar::FieldRef ref;
    ref.vertex_ = vertex;
    ref.name_ = name;
    return ref;
  }
  static poplar::VertexRef vertexRef(unsigned id) {
    poplar::VertexRef ref;
    ref.id_ = id;
    return ref;
  }
};

inline std::size_t typeSize(const poplar::Type &type) { return Access::size(type); }

// The elements of a tensor, in its order, from and to consecutive memory.
void readElements(const poplar::Tensor &tensor, void *to);
void writeElements(const poplar::Tensor &tensor, const void *from);

} // namespace poplar_model
