// SPDX-License-Identifier: Apache-2.0
// Running a program, and counting on the way.
#include <algorithm>
#include <cstring>

#include "poplar_model/executable.hpp"

namespace poplar_model {

const std::pair<void *, std::size_t> &VertexView::at(const std::string &field) const {
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    if (vertex_.type->fields[i].name == field)
      return fields_[i];
  }
  throw poplar::unknown_field("vertex " + vertex_.type->name + " has no field " + field);
}

void Executable::run(const CostModel *costs) {
  costs_.clear();
  supersteps_ = 0;
  step(*program_, costs);
}

void Executable::step(const Step &step, const CostModel *costs) {
  switch (step.kind) {
  case Step::Kind::sequence:
    for (const auto &child : step.children)
      this->step(*child, costs);
    return;
  case Step::Kind::execute:
    return execute(step.computeSet, costs);
  case Step::Kind::copy:
    return copy(step, costs);
  case Step::Kind::writeUndef: {
    const std::size_t bytes = step.destination.numElements() * typeSize(step.destination.elementType());
    return writeElements(step.destination, std::vector<unsigned char>(bytes, 0xa5).data());
  }
  case Step::Kind::repeat:
    for (unsigned i = 0; i < step.count; ++i)
      this->step(*step.children[0], costs);
    return;
  case Step::Kind::repeatWhileTrue:
    for (;;) {
      this->step(*step.children[0], costs);
      if (costs) {
        Cost &total = cost("loop test");
        ++total.executions;
        total.syncCycles += costs->loopCycles;
      }
      if (!read(step.predicate))
        return;
      this->step(*step.children[1], costs);
    }
  case Step::Kind::branch:
    return this->step(*step.children[read(step.predicate) ? 0 : 1], costs);
  }
}

bool Executable::read(const poplar::Tensor &predicate) const {
  const Run &run = Access::runs(predicate)[0];
  return graph_.variables[run.variable]->data[run.begin] != 0;
}

void Executable::execute(unsigned computeSet, const CostModel *costs) {
  ++supersteps_;
  const Superstep &set = sets_[computeSet];
  std::map<unsigned, std::vector<double>> workers; // by tile: when each of them is free again
  for (const Vertex &vertex : set.vertices) {
    const VertexInstance &instance = *vertex.instance;
    for (std::size_t i = 0; i < vertex.fields.size(); ++i) {
      const Field &field = vertex.fields[i];
      const std::size_t bytes = typeSize(instance.type->fields[i].type);
      if (field.gathered)
        readElements(*field.tensor, field.data);
      if (field.direction == Direction::output) // what a vertex finds in its outputs is not defined
        std::memset(field.data, 0xa5, field.size * bytes);
    }
    if (costs) {
      const std::string name = instance.type->name.substr(0, instance.type->name.find('<'));
      const auto function = costs->vertices.find(name);
      if (function == costs->vertices.end())
        throw poplar::poplar_error("no cost function for vertex " + name);
      std::vector<std::pair<void *, std::size_t>> fields;
      for (const Field &field : vertex.fields)
        fields.emplace_back(field.data, field.size);
      std::vector<double> &free = workers[instance.tile];
      free.resize(graph_.target.getNumWorkerContexts(), 0.0);
      // A worker issues one instruction every sixth cycle, whether the others are busy or not.
      *std::min_element(free.begin(), free.end()) +=
          function->second(VertexView(instance, fields)) * graph_.target.getNumWorkerContexts();
    }
    instance.type->run(const_cast<unsigned char *>(vertex.object.data()));
    for (const Field &field : vertex.fields) {
      if (field.gathered && (field.direction == Direction::output || field.direction == Direction::inOut))
        writeElements(*field.tensor, field.data);
    }
  }
  if (!costs)
    return;
  double slowest = 0;
  for (const auto &tile : workers)
    slowest = std::max(slowest, *std::max_element(tile.second.begin(), tile.second.end()));
  Cost &total = cost(graph_.computeSets[computeSet].name);
  ++total.executions;
  total.computeCycles += slowest;
  total.exchangeCycles += set.exchangeCycles;
  total.apartCycles += set.apartCycles;
  total.syncCycles += costs->syncCycles;
  total.bytesExchanged = set.bytesReceived;
}

// Copies go through a buffer of the whole: source and destination do not overlap, but runs may be cut differently.
void Executable::copy(const Step &step, const CostModel *costs) {
  const std::size_t bytes = typeSize(step.source.elementType()), size = step.source.numElements() * bytes;
  std::vector<unsigned char> buffer(size);
  readElements(step.source, buffer.data());
  writeElements(step.destination, buffer.data());
  if (!costs)
    return;
  // As if all of it travelled, spread over the tiles of the destination; what happens to lie right already is cheaper.
  std::map<unsigned, double> received;
  for (const Run &run : Access::runs(step.destination)) {
    for (const TileRegion &region : regions_[run.variable]) {
      const std::size_t begin = std::max(run.begin, region.begin), end = std::min(run.end(), region.end);
      if (begin < end)
        received[region.tile] += static_cast<double>((end - begin) * bytes);
    }
  }
  double most = 0;
  for (const auto &tile : received)
    most = std::max(most, tile.second);
  Cost &total = cost("copy");
  ++total.executions;
  total.exchangeCycles += most / graph_.target.getExchangeBytesPerCycle();
  total.apartCycles = total.exchangeCycles; // a copy has no vertices
  total.syncCycles += costs->syncCycles;
  total.bytesExchanged += static_cast<double>(size);
}

Cost &Executable::cost(const std::string &name) {
  for (Cost &cost : costs_) {
    if (cost.name == name)
      return cost;
  }
  costs_.emplace_back();
  costs_.back().name = name;
  return costs_.back();
}

} // namespace poplar_model
