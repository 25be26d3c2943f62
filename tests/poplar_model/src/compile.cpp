// SPDX-License-Identifier: Apache-2.0
// What the graph compiler refuses, and where vertices find their data.
#include <algorithm>
#include <set>
#include <tuple>

#include "poplar_model/executable.hpp"

namespace poplar_model {
namespace {

struct Touch {
  unsigned variable;
  std::size_t begin, end; // elements, or bytes where granules are compared
  unsigned vertex;
  bool operator<(const Touch &other) const {
    return std::tie(variable, begin, end, vertex) < std::tie(other.variable, other.begin, other.end, other.vertex);
  }
};

template <typename Function>
void forEachRegion(const std::vector<TileRegion> &regions, std::size_t begin, std::size_t end, Function &&function) {
  auto region = std::upper_bound(regions.begin(), regions.end(), begin,
                                 [](std::size_t at, const TileRegion &r) { return at < r.end; });
  for (; region != regions.end() && region->begin < end; ++region)
    function(std::max(begin, region->begin), std::min(end, region->end), *region);
}

// Elements covered by touches, each counted once.
std::vector<Touch> merge(std::vector<Touch> touches) {
  std::sort(touches.begin(), touches.end());
  std::vector<Touch> merged;
  for (const Touch &touch : touches) {
    if (!merged.empty() && merged.back().variable == touch.variable && touch.begin <= merged.back().end)
      merged.back().end = std::max(merged.back().end, touch.end);
    else
      merged.push_back(touch);
  }
  return merged;
}

} // namespace

Executable::Executable(GraphData &graph, const poplar::program::Program &program)
    : graph_(graph), program_(Access::step(program)) {
  checkMapping();
  for (const auto &variable : graph_.variables)
    regions_.push_back(variable->mergedRegions());
  checkVertices();
  for (unsigned i = 0; i < graph_.computeSets.size(); ++i)
    checkConflicts(i);
  checkProgram(*program_);
  edgeBytes_.assign(graph_.target.getNumTiles(), 0);
  edgeBytesApart_ = edgeBytes_;
  sets_.resize(graph_.computeSets.size());
  for (unsigned i = 0; i < graph_.computeSets.size(); ++i) {
    planExchange(i);
    prepare(i);
  }
  checkMemory();
}

void Executable::checkMapping() const {
  for (const auto &variable : graph_.variables) {
    if (!variable->completelyMapped())
      throw poplar::invalid_tile_mapping((variable->constant ? "constant " : "variable ") + variable->name +
                                         " has elements on no tile");
  }
}

void Executable::checkVertices() const {
  for (const VertexInstance &vertex : graph_.vertices) {
    if (!vertex.mapped)
      throw poplar::invalid_tile_mapping("vertex " + vertex.type->name + " is on no tile");
    for (std::size_t i = 0; i < vertex.edges.size(); ++i) {
      if (!vertex.edges[i].connected)
        throw poplar::graph_connection_error("field " + vertex.type->fields[i].name + " of vertex " +
                                             vertex.type->name + " is not connected");
    }
  }
}

// All vertices of a compute set run at once: what one of them writes no other field may touch. Neither may two workers
// of a tile write parts of one word, since such a store reads the word and writes it back.
void Executable::checkConflicts(unsigned computeSet) const {
  const ComputeSetData &set = graph_.computeSets[computeSet];
  std::vector<Touch> writes, reads, granules;
  const auto conflict = [&](const Touch &a, const Touch &b, const std::string &what) {
    const Variable &variable = *graph_.variables[a.variable];
    throw compute_set_conflict(what + " variable " + variable.name + " in compute set " + set.name + ": vertices " +
                               graph_.vertices[a.vertex].type->name + " and " + graph_.vertices[b.vertex].type->name);
  };
  for (const unsigned id : set.vertices) {
    const VertexInstance &vertex = graph_.vertices[id];
    for (std::size_t i = 0; i < vertex.edges.size(); ++i) {
      const Direction direction = vertex.type->fields[i].direction;
      if (direction == Direction::value)
        continue;
      for (const Run &run : Access::runs(vertex.edges[i].tensor)) {
        const std::size_t size = typeSize(graph_.variables[run.variable]->type);
        if (direction == Direction::input) {
          reads.push_back({run.variable, run.begin, run.end(), id});
          continue;
        }
        writes.push_back({run.variable, run.begin, run.end(), id});
        const std::size_t granule = graph_.target.getAtomicStoreGranularity();
        if (size < granule) {
          forEachRegion(regions_[run.variable], run.begin, run.end(),
                        [&](std::size_t begin, std::size_t end, const TileRegion &r) {
                          if (r.tile != vertex.tile)
                            return; // written to a buffer of the vertex's own and exchanged
                          const std::size_t base = r.begin * size; // a tile's part of a variable starts at a word
                          granules.push_back({run.variable, base + (begin * size - base) / granule * granule,
                                              base + (end * size - base + granule - 1) / granule * granule, id});
                        });
        }
      }
    }
  }
  std::sort(writes.begin(), writes.end());
  for (std::size_t i = 1; i < writes.size(); ++i) {
    if (writes[i].variable == writes[i - 1].variable && writes[i].begin < writes[i - 1].end)
      conflict(writes[i - 1], writes[i], "two fields write one element of");
  }
  for (const Touch &read : reads) {
    auto write = std::lower_bound(writes.begin(), writes.end(), Touch{read.variable, read.begin, 0, 0});
    if (write != writes.begin() && std::prev(write)->variable == read.variable && std::prev(write)->end > read.begin)
      --write;
    if (write != writes.end() && write->variable == read.variable && write->begin < read.end)
      conflict(*write, read, "one field writes and another one reads an element of");
  }
  std::sort(granules.begin(), granules.end());
  for (std::size_t i = 1; i < granules.size(); ++i) {
    if (granules[i].variable == granules[i - 1].variable && granules[i].begin < granules[i - 1].end &&
        granules[i].vertex != granules[i - 1].vertex)
      conflict(granules[i - 1], granules[i], "two workers write one 32-bit word of");
  }
}

void Executable::checkProgram(const Step &step) const {
  if (step.kind == Step::Kind::copy) {
    std::vector<Touch> touches;
    for (const Run &run : Access::runs(step.source))
      touches.push_back({run.variable, run.begin, run.end(), 0});
    touches = merge(touches); // a source may hold an element twice
    for (const Run &run : Access::runs(step.destination))
      touches.push_back({run.variable, run.begin, run.end(), 1});
    std::sort(touches.begin(), touches.end());
    for (std::size_t i = 1; i < touches.size(); ++i) {
      if (touches[i].variable == touches[i - 1].variable && touches[i].begin < touches[i - 1].end)
        throw poplar::graph_connection_error("source and destination of a copy overlap in variable " +
                                             graph_.variables[touches[i].variable]->name);
    }
  }
  for (const auto &child : step.children)
    checkProgram(*child);
}

// What vertices read from other tiles, those of a tile together: adds the bytes that each tile receives and returns the
// most cycles that a tile needs to receive or to send. It does 4 bytes a cycle; an element that several tiles want is
// sent once.
double Executable::planReads(const std::vector<std::vector<unsigned>> &byTile, std::vector<double> &received) const {
  const unsigned tiles = graph_.target.getNumTiles();
  std::vector<std::vector<Touch>> bySender(tiles);
  const auto bytesOf = [this](const std::vector<Touch> &touches) {
    double bytes = 0;
    for (const Touch &touch : merge(touches))
      bytes += static_cast<double>((touch.end - touch.begin) * typeSize(graph_.variables[touch.variable]->type));
    return bytes;
  };
  double most = 0;
  for (unsigned tile = 0; tile < tiles; ++tile) {
    std::set<std::tuple<unsigned, std::size_t, std::size_t>> wanted; // (variable, begin, end)
    for (const unsigned id : byTile[tile]) {
      for (const Edge &edge : graph_.vertices[id].edges) {
        if (edge.value.empty()) {
          for (const Run &run : Access::runs(edge.tensor))
            wanted.insert(std::make_tuple(run.variable, run.begin, run.end()));
        }
      }
    }
    std::vector<Touch> reads;
    for (const auto &want : wanted) {
      forEachRegion(regions_[std::get<0>(want)], std::get<1>(want), std::get<2>(want),
                    [&](std::size_t begin, std::size_t end, const TileRegion &region) {
                      if (region.tile == tile)
                        return;
                      reads.push_back({std::get<0>(want), begin, end, 0});
                      bySender[region.tile].push_back(reads.back());
                    });
    }
    const double bytes = bytesOf(reads);
    received[tile] += bytes;
    most = std::max(most, bytes);
  }
  for (const std::vector<Touch> &sent : bySender)
    most = std::max(most, bytesOf(sent));
  return most / graph_.target.getExchangeBytesPerCycle();
}

// What the exchange before a compute set takes, in two ways, as nobody outside Poplar knows which one is true: a tile
// receives what several of its vertices read once; or once for each, one vertex of every tile after the other.
void Executable::planExchange(unsigned computeSet) {
  const unsigned tiles = graph_.target.getNumTiles();
  std::vector<std::vector<unsigned>> byTile(tiles);
  std::size_t turns = 0;
  for (const unsigned id : graph_.computeSets[computeSet].vertices) {
    byTile[graph_.vertices[id].tile].push_back(id);
    turns = std::max(turns, byTile[graph_.vertices[id].tile].size());
  }
  Superstep &set = sets_[computeSet];
  std::vector<double> together(tiles, 0.0), apart(tiles, 0.0);
  set.exchangeCycles = planReads(byTile, together);
  for (std::size_t turn = 0; turn < turns; ++turn) {
    std::vector<std::vector<unsigned>> one(tiles);
    for (unsigned tile = 0; tile < tiles; ++tile) {
      if (turn < byTile[tile].size())
        one[tile].push_back(byTile[tile][turn]);
    }
    set.apartCycles += planReads(one, apart);
  }
  for (unsigned tile = 0; tile < tiles; ++tile) {
    set.bytesReceived += together[tile];
    edgeBytes_[tile] = std::max(edgeBytes_[tile], static_cast<std::size_t>(together[tile]));
    edgeBytesApart_[tile] = std::max(edgeBytesApart_[tile], static_cast<std::size_t>(apart[tile]));
  }
}

void Executable::checkMemory() {
  std::vector<std::size_t> bytes(graph_.target.getNumTiles(), 0);
  for (std::size_t i = 0; i < regions_.size(); ++i) {
    for (const TileRegion &region : regions_[i])
      bytes[region.tile] += (region.end - region.begin) * typeSize(graph_.variables[i]->type);
  }
  for (const VertexInstance &vertex : graph_.vertices) {
    bytes[vertex.tile] += 4; // which code to run
    for (const FieldType &field : vertex.type->fields)
      bytes[vertex.tile] += field.stateBytes;
  }
  std::size_t fullest = 0;
  for (std::size_t tile = 0; tile < bytes.size(); ++tile) {
    maxTileBytesApart_ = std::max(maxTileBytesApart_, bytes[tile] + edgeBytesApart_[tile]);
    bytes[tile] += edgeBytes_[tile];
    fullest = bytes[tile] > bytes[fullest] ? tile : fullest;
  }
  maxTileBytes_ = bytes[fullest];
  if (maxTileBytes_ > graph_.target.getBytesPerTile())
    throw poplar::graph_memory_allocation_error("tile " + std::to_string(fullest) + " needs " +
                                                std::to_string(maxTileBytes_) + " bytes, it has " +
                                                std::to_string(graph_.target.getBytesPerTile()));
}

void Executable::prepare(unsigned computeSet) {
  for (const unsigned id : graph_.computeSets[computeSet].vertices) {
    const VertexInstance &instance = graph_.vertices[id];
    Vertex vertex{&instance, {}, std::vector<unsigned char>(instance.type->size)};
    for (std::size_t i = 0; i < instance.edges.size(); ++i) {
      const Edge &edge = instance.edges[i];
      const FieldType &type = instance.type->fields[i];
      Field field{nullptr, 1, false, nullptr, type.direction};
      if (type.direction == Direction::value) {
        field.data = const_cast<unsigned char *>(edge.value.data());
      } else {
        const std::vector<Run> &runs = Access::runs(edge.tensor);
        field.tensor = &edge.tensor;
        field.size = edge.tensor.numElements();
        field.gathered = runs.size() > 1;
        const std::size_t bytes = typeSize(type.type);
        if (field.gathered) {
          buffers_.emplace_back(new unsigned char[field.size * bytes]);
          field.data = buffers_.back().get();
        } else {
          field.data = graph_.variables[runs[0].variable]->data.data() + runs[0].begin * bytes;
        }
      }
      type.set(vertex.object.data(), field.data, field.size);
      vertex.fields.push_back(field);
    }
    sets_[computeSet].vertices.push_back(std::move(vertex));
  }
}

} // namespace poplar_model
