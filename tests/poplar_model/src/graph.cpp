// SPDX-License-Identifier: Apache-2.0
// Building a graph: what is wrong with one connection alone is refused here, the rest when it is compiled.
#include <algorithm>
#include <cstring>
#include <dlfcn.h>

#include "poplar_model/graph_data.hpp"
#include "poputil/TileMapping.hpp"

namespace poplar_model {

void Variable::map(std::size_t begin, std::size_t end, unsigned tile) {
  if (begin >= end)
    return;
  auto it = regions.upper_bound(begin);
  if (it != regions.begin() && std::prev(it)->second.end > begin)
    --it;
  while (it != regions.end() && it->second.begin < end) { // the last mapping wins: cut what was there before
    const TileRegion old = it->second;
    it = regions.erase(it);
    if (old.begin < begin)
      regions[old.begin] = {old.begin, begin, old.tile};
    if (old.end > end)
      regions[end] = {end, old.end, old.tile};
  }
  regions[begin] = {begin, end, tile};
}

std::vector<TileRegion> Variable::mergedRegions() const {
  std::vector<TileRegion> merged;
  for (const auto &entry : regions) {
    const TileRegion &region = entry.second;
    if (!merged.empty() && merged.back().end == region.begin && merged.back().tile == region.tile)
      merged.back().end = region.end;
    else
      merged.push_back(region);
  }
  return merged;
}

bool Variable::completelyMapped() const {
  std::size_t next = 0;
  for (const auto &entry : regions) {
    if (entry.second.begin != next)
      return false;
    next = entry.second.end;
  }
  return next == size;
}

namespace {

void store(unsigned char *to, const poplar::Type &type, double value) {
  const auto put = [to](auto typed) { std::memcpy(to, &typed, sizeof typed); };
  if (type == poplar::FLOAT)
    put(static_cast<float>(value));
  else if (type == poplar::HALF)
    put(half(static_cast<float>(value)).bits());
  else if (type == poplar::INT)
    put(static_cast<int>(value));
  else if (type == poplar::UNSIGNED_INT)
    put(static_cast<unsigned>(value));
  else if (type == poplar::SHORT || type == poplar::UNSIGNED_SHORT)
    put(static_cast<std::uint16_t>(static_cast<int>(value)));
  else
    put(static_cast<unsigned char>(static_cast<int>(value)));
}

poplar::Tensor add(GraphData &graph, const poplar::Type &type, poplar::ArrayRef<std::size_t> shape, bool constant,
                   const std::string &name) {
  std::size_t size = 1;
  for (const std::size_t extent : shape)
    size *= extent;
  std::unique_ptr<Variable> variable(new Variable{name, type, size, constant, {}, {}});
  variable->data.assign(size * typeSize(type), 0xa5); // memory holds anything before it is written
  graph.variables.push_back(std::move(variable));
  std::vector<Run> runs;
  if (size)
    runs.push_back({static_cast<unsigned>(graph.variables.size() - 1), 0, size});
  return Access::make(&graph, type, {shape.begin(), shape.end()}, runs);
}

VertexInstance &instance(GraphData &graph, unsigned vertex) { return graph.vertices.at(vertex); }

std::size_t fieldIndex(const VertexType &type, const std::string &name) {
  for (std::size_t i = 0; i < type.fields.size(); ++i) {
    if (type.fields[i].name == name)
      return i;
  }
  throw poplar::unknown_field("vertex " + type.name + " has no field " + name);
}

} // namespace

void readElements(const poplar::Tensor &tensor, void *to) {
  const std::size_t bytes = typeSize(tensor.elementType());
  unsigned char *next = static_cast<unsigned char *>(to);
  for (const Run &run : Access::runs(tensor)) {
    std::memcpy(next, &Access::graph(tensor)->variables[run.variable]->data[run.begin * bytes], run.size * bytes);
    next += run.size * bytes;
  }
}

void writeElements(const poplar::Tensor &tensor, const void *from) {
  const std::size_t bytes = typeSize(tensor.elementType());
  const unsigned char *next = static_cast<const unsigned char *>(from);
  for (const Run &run : Access::runs(tensor)) {
    std::memcpy(&Access::graph(tensor)->variables[run.variable]->data[run.begin * bytes], next, run.size * bytes);
    next += run.size * bytes;
  }
}

} // namespace poplar_model

namespace poplar {

using poplar_model::Access;
using poplar_model::GraphData;
using poplar_model::typeSize;

Graph::Graph(const Target &target, replication_factor factor) : data_(new GraphData{target, {}, {}, {}, {}, {}}) {
  if (factor.value != 1)
    throw poplar_error("the model has one replica");
}
Graph::Graph(Graph &&) noexcept = default;
Graph::~Graph() = default;

const Target &Graph::getTarget() const { return data_->target; }

bool Graph::addCodelets(StringRef file, CodeletFileType, StringRef, StringRef) {
  std::shared_ptr<void> library(dlopen(file.text().c_str(), RTLD_NOW | RTLD_LOCAL), [](void *handle) {
    if (handle)
      dlclose(handle);
  });
  if (!library)
    throw link_error(std::string("codelets cannot be loaded: ") + dlerror());
  const auto fill = reinterpret_cast<void (*)(poplar_model::Registry &)>(dlsym(library.get(), "poplar_model_codelets"));
  if (!fill)
    throw link_error(file.text() + " was not made by tests/poplar_model/popc");
  data_->libraries.push_back(library);
  fill(data_->codelets);
  return true;
}

bool Graph::hasCodelet(StringRef name) const { return data_->codelets.count(name.text()) > 0; }

Tensor Graph::addVariable(const Type &type, ArrayRef<std::size_t> shape, const DebugContext &debugContext) {
  return poplar_model::add(*data_, type, shape, false, debugContext.getPathName());
}

Tensor Graph::addVariable(const Type &type, ArrayRef<std::size_t> shape, VariableMappingMethod method,
                          const DebugContext &debugContext) {
  const Tensor tensor = addVariable(type, shape, debugContext);
  if (method == VariableMappingMethod::LINEAR)
    poputil::mapTensorLinearly(*this, tensor);
  return tensor;
}

Tensor Graph::addConstantValues(const Type &type, ArrayRef<std::size_t> shape, const std::vector<double> &values,
                                const DebugContext &debugContext) {
  const Tensor tensor = poplar_model::add(*data_, type, shape, true, debugContext.getPathName());
  if (values.size() != tensor.numElements())
    throw poplar_error(std::to_string(values.size()) + " values for a constant of shape " + tensor.shapeToString());
  auto &data = data_->variables.back()->data;
  for (std::size_t i = 0; i < values.size(); ++i)
    poplar_model::store(&data[i * typeSize(type)], type, values[i]);
  return tensor;
}

ComputeSet Graph::addComputeSet(const DebugContext &debugContext) {
  data_->computeSets.push_back({debugContext.getPathName(), {}});
  return ComputeSet(static_cast<unsigned>(data_->computeSets.size() - 1));
}

VertexRef Graph::addVertex(ComputeSet computeSet, StringRef type) {
  const auto found = data_->codelets.find(type.text());
  if (found == data_->codelets.end())
    throw unknown_vertex_type("no codelet " + type.text() + " was added");
  const unsigned id = static_cast<unsigned>(data_->vertices.size());
  poplar_model::VertexInstance vertex;
  vertex.type = &found->second;
  vertex.computeSet = computeSet.getId();
  vertex.edges.resize(found->second.fields.size());
  data_->vertices.push_back(std::move(vertex));
  data_->computeSets.at(computeSet.getId()).vertices.push_back(id);
  return Access::vertexRef(id);
}

VertexRef Graph::addVertex(ComputeSet computeSet, StringRef type, ArrayRef<ConnectionDesc> connections) {
  const VertexRef vertex = addVertex(computeSet, type);
  for (const ConnectionDesc &connection : connections) {
    if (connection.list)
      connect(vertex[connection.field], connection.tensors);
    else
      connect(vertex[connection.field], connection.tensors[0]);
  }
  return vertex;
}

FieldRef VertexRef::operator[](StringRef field) const { return Access::field(id_, field.text()); }

void Graph::connect(FieldRef field, const Tensor &tensor) {
  auto &vertex = poplar_model::instance(*data_, Access::vertex(field));
  const std::size_t index = poplar_model::fieldIndex(*vertex.type, Access::name(field));
  const poplar_model::FieldType &type = vertex.type->fields[index];
  const std::string name = vertex.type->name + "." + type.name;
  if (!tensor.valid() || Access::graph(tensor) != data_.get())
    throw graph_connection_error(name + ": not a tensor of this graph");
  if (type.direction == poplar_model::Direction::value)
    throw graph_connection_error(name + " holds a value, not a tensor: use setInitialValue");
  if (tensor.elementType() != type.type)
    throw type_error(name + " is " + type.type.toString() + ", the tensor is " + tensor.elementType().toString());
  if (tensor.rank() != (type.vector ? 1u : 0u)) // PopLibs reshapes even tensors of one element for a scalar field
    throw graph_connection_error(name + " needs a tensor of rank " + (type.vector ? "1" : "0") + ", got shape " +
                                 tensor.shapeToString());
  if (tensor.numElements() == 0)
    throw graph_connection_error(name + " is connected to a tensor without elements");
  if (type.direction != poplar_model::Direction::input && !tensor.isParallelWriteable())
    throw graph_connection_error(name + " is written, but the tensor is constant or holds an element twice");
  vertex.edges[index].connected = true;
  vertex.edges[index].tensor = tensor;
}

void Graph::connect(FieldRef field, ArrayRef<Tensor>) {
  throw graph_connection_error(Access::name(field) + ": lists of vectors are not part of the model");
}

void Graph::setValue(FieldRef field, const Type &type, double value) {
  auto &vertex = poplar_model::instance(*data_, Access::vertex(field));
  const std::size_t index = poplar_model::fieldIndex(*vertex.type, Access::name(field));
  const poplar_model::FieldType &wanted = vertex.type->fields[index];
  if (wanted.direction != poplar_model::Direction::value)
    throw graph_connection_error(wanted.name + " of " + vertex.type->name + " needs a tensor");
  if (wanted.type != type)
    throw type_error(vertex.type->name + "." + wanted.name + " is " + wanted.type.toString() + ", the value is " +
                     type.toString());
  vertex.edges[index].connected = true;
  vertex.edges[index].value.resize(typeSize(type));
  poplar_model::store(vertex.edges[index].value.data(), type, value);
}

void Graph::setPerfEstimate(const VertexRef &, std::uint64_t, std::uint64_t) {}

void Graph::setTileMapping(VertexRef vertex, unsigned tile) {
  if (tile >= data_->target.getNumTiles())
    throw invalid_tile_mapping("a vertex on tile " + std::to_string(tile) + " of " +
                               std::to_string(data_->target.getNumTiles()));
  auto &data = poplar_model::instance(*data_, vertex.getId());
  data.mapped = true;
  data.tile = tile;
}

void Graph::setTileMapping(const Tensor &tensor, unsigned tile) {
  if (tile >= data_->target.getNumTiles())
    throw invalid_tile_mapping("a tensor on tile " + std::to_string(tile) + " of " +
                               std::to_string(data_->target.getNumTiles()));
  for (const poplar_model::Run &run : Access::runs(tensor))
    data_->variables[run.variable]->map(run.begin, run.end(), tile);
}

void Graph::setTileMapping(const Tensor &tensor, const TileToTensorMapping &mapping) {
  const Tensor flat = tensor.flatten();
  for (std::size_t tile = 0; tile < mapping.size(); ++tile) {
    for (const Interval &interval : mapping[tile])
      setTileMapping(flat[interval], static_cast<unsigned>(tile));
  }
}

Graph::TileToTensorMapping Graph::getTileMapping(const Tensor &tensor, bool requireComplete, bool) const {
  TileToTensorMapping mapping(data_->target.getNumTiles());
  std::size_t offset = 0, mapped = 0;
  for (const poplar_model::Run &run : Access::runs(tensor)) {
    for (const auto &region : data_->variables[run.variable]->mergedRegions()) {
      const std::size_t begin = std::max(region.begin, run.begin), end = std::min(region.end, run.end());
      if (begin >= end)
        continue;
      mapping[region.tile].push_back({offset + begin - run.begin, offset + end - run.begin});
      mapped += end - begin;
    }
    offset += run.size;
  }
  if (requireComplete && mapped != tensor.numElements())
    throw invalid_tile_mapping("a tensor of shape " + tensor.shapeToString() + " is not mapped completely");
  return mapping;
}

} // namespace poplar

namespace poputil {

std::vector<std::vector<poplar::Interval>> calcLinearTileMapping(const poplar::Graph &graph,
                                                                 std::vector<std::size_t> shape,
                                                                 unsigned minElementsPerTile, unsigned grainSize,
                                                                 unsigned offset, bool ascendingOrder) {
  const std::size_t tiles = graph.getTarget().getNumTiles();
  std::size_t elements = 1;
  for (const std::size_t extent : shape)
    elements *= extent;
  const auto roundUp = [grainSize](std::size_t n) { return (n + grainSize - 1) / grainSize * grainSize; };
  const std::size_t perTile = roundUp(std::max<std::size_t>(minElementsPerTile, (elements + tiles - 1) / tiles));
  std::vector<std::vector<poplar::Interval>> mapping(tiles);
  for (std::size_t begin = 0, i = 0; begin < elements; begin += perTile, ++i) {
    const std::size_t step = ascendingOrder ? i : tiles - 1 - i % tiles;
    mapping[(step + offset) % tiles].push_back({begin, std::min(elements, begin + perTile)});
  }
  return mapping;
}

void mapTensorLinearly(poplar::Graph &graph, const poplar::Tensor &t) {
  const poplar::Target &target = graph.getTarget();
  mapTensorLinearly(graph, t, 128 / target.getTypeSize(t.elementType()), target.getVectorWidth(t.elementType()));
}

void mapTensorLinearly(poplar::Graph &graph, const poplar::Tensor &t, unsigned minElementsPerTile, unsigned grainSize) {
  graph.setTileMapping(t, calcLinearTileMapping(graph, t.shape(), minElementsPerTile, grainSize));
}

} // namespace poputil
