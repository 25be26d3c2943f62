// SPDX-License-Identifier: Apache-2.0
// Checks a graph as the graph compiler does, runs its program, and counts what it would cost.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "poplar_model/graph_data.hpp"

namespace poplar_model {

// Two vertices of a compute set that touch the same element, one of them writing.
struct compute_set_conflict : poplar::poplar_error {
  explicit compute_set_conflict(const std::string &what) : poplar::poplar_error("compute_set_conflict: " + what) {}
};

// What a cost function may look at, before the vertex runs.
class VertexView {
public:
  VertexView(const VertexInstance &vertex, const std::vector<std::pair<void *, std::size_t>> &fields)
      : vertex_(vertex), fields_(fields) {}
  std::size_t size(const std::string &field) const { return at(field).second; }
  template <typename T> const T *data(const std::string &field) const {
    return static_cast<const T *>(at(field).first);
  }
  template <typename T> T value(const std::string &field) const { return *data<T>(field); }
  const VertexInstance &instance() const { return vertex_; }

private:
  const std::pair<void *, std::size_t> &at(const std::string &field) const;
  const VertexInstance &vertex_;
  const std::vector<std::pair<void *, std::size_t>> &fields_;
};

using CostFunction = std::function<double(const VertexView &)>; // instructions one worker issues

// What an execution of a compute set or a copy took.
struct Cost {
  std::string name;
  std::size_t executions = 0;
  double computeCycles = 0;  // of the slowest tile, summed over executions
  double exchangeCycles = 0; // likewise
  double apartCycles = 0;    // the exchange again, if each vertex received for itself what its tile received already
  double syncCycles = 0;     // summed over executions
  double bytesExchanged = 0; // received by all tiles in one execution; all copies together count as one
};

struct CostModel {
  std::map<std::string, CostFunction> vertices; // by name without template arguments
  double syncCycles = 0;                        // of a superstep or copy: synchronisation and starting the exchange
  double loopCycles = 0;                        // of telling all tiles whether a loop goes on
};

class Executable {
public:
  // Throws what Poplar throws: see the tests of the model for the list of refusals.
  Executable(GraphData &graph, const poplar::program::Program &program);

  void run(const CostModel *costs = nullptr);

  const std::vector<Cost> &costs() const { return costs_; }
  std::size_t supersteps() const { return supersteps_; } // compute sets executed by the last run
  std::size_t maxTileBytes() const { return maxTileBytes_; }
  std::size_t maxTileBytesApart() const { return maxTileBytesApart_; } // see Cost::apartCycles

private:
  struct Field {
    void *data;       // where the vertex finds its elements
    std::size_t size; // elements
    bool gathered;    // not consecutive in one variable: copied before and after
    const poplar::Tensor *tensor;
    Direction direction;
  };
  struct Vertex {
    const VertexInstance *instance;
    std::vector<Field> fields;
    std::vector<unsigned char> object;
  };
  struct Superstep {
    std::vector<Vertex> vertices;
    double bytesReceived = 0, exchangeCycles = 0, apartCycles = 0;
  };

  void checkMapping() const;
  void checkVertices() const;
  void checkConflicts(unsigned computeSet) const;
  void checkProgram(const Step &step) const;
  void checkMemory();
  void planExchange(unsigned computeSet);
  double planReads(const std::vector<std::vector<unsigned>> &byTile, std::vector<double> &received) const;
  void prepare(unsigned computeSet);
  void step(const Step &step, const CostModel *costs);
  void execute(unsigned computeSet, const CostModel *costs);
  void copy(const Step &step, const CostModel *costs);
  bool read(const poplar::Tensor &predicate) const;
  Cost &cost(const std::string &name);

  GraphData &graph_;
  std::shared_ptr<Step> program_;
  std::vector<std::vector<TileRegion>> regions_; // by variable
  std::vector<Superstep> sets_;
  std::vector<std::unique_ptr<unsigned char[]>> buffers_;
  std::vector<std::size_t> edgeBytes_, edgeBytesApart_; // by tile: the greatest need of a compute set for remote data
  std::vector<Cost> costs_;
  std::size_t supersteps_ = 0, maxTileBytes_ = 0, maxTileBytesApart_ = 0;
};

} // namespace poplar_model
