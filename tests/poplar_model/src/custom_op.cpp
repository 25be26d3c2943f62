// SPDX-License-Identifier: Apache-2.0
// Loads custom operations as TensorFlow's plugin does, and is stricter where the plugin trusts: about outputs, inputs
// and flags.
#include <cstring>
#include <dlfcn.h>
#include <map>

#include "poplar_model/custom_op.hpp"
#include "poplar_model/executable.hpp"
#include "poputil/TileMapping.hpp"

namespace poplar_model {
namespace {

using Build = poplar::program::Program(poplar::Graph &, const std::vector<poplar::Tensor> &,
                                       std::vector<poplar::Tensor> &, const std::string &, const std::string &);
using Metadata = void(std::vector<std::int64_t> &, std::vector<std::int64_t> &, std::map<std::int64_t, std::int64_t> &,
                      bool &, bool &, bool &, std::uint32_t);
constexpr std::int32_t apiLevel = 5;

poplar::Type typeNamed(const std::string &name) {
  for (const poplar::Type &type : {poplar::FLOAT, poplar::HALF, poplar::INT, poplar::UNSIGNED_INT, poplar::BOOL}) {
    if (type.toString() == name)
      return type;
  }
  throw poplar::type_error("inputs and outputs cannot be " + name);
}

std::vector<std::size_t> shapeOf(const PoplarModelArray &array) { return {array.shape, array.shape + array.rank}; }

class CustomOp {
public:
  CustomOp(const char *library, const char *codelets, const char *op, const char *attributes, std::uint32_t tiles,
           const PoplarModelArray *inputs, std::uint32_t numInputs, const PoplarModelArray *outputs,
           std::uint32_t numOutputs)
      : library_(load(library)), graph_(poplar::Target::createIPUTarget(1, tiles, "ipu2")) {
    const auto *level = static_cast<const std::int32_t *>(dlsym(library_.get(), "custom_op_api_level"));
    if (!level || *level != apiLevel)
      throw poplar::link_error(std::string(library) + " has custom_op_api_level " + std::to_string(level ? *level : 0) +
                               ", wanted " + std::to_string(apiLevel));
    readMetadata(op, numInputs);
    const auto build = reinterpret_cast<Build *>(dlsym(library_.get(), op));
    if (!build)
      throw poplar::link_error(std::string(library) + " does not export " + op);
    if (*codelets)
      graph_.addCodelets(codelets);

    std::vector<poplar::Graph::TileToTensorMapping> mappings;
    for (std::uint32_t i = 0; i < numInputs; ++i) {
      const std::vector<std::size_t> shape = shapeOf(inputs[i]);
      inputs_.push_back(graph_.addVariable(typeNamed(inputs[i].type), shape, "input" + std::to_string(i)));
      // As another operation leaves it: in equal parts that know nothing of rows or images.
      poputil::mapTensorLinearly(graph_, inputs_.back(), 1, 1);
      mappings.push_back(graph_.getTileMapping(inputs_.back()));
    }
    const poplar::program::Program program = build(graph_, inputs_, outputs_, attributes, "custom_op");
    for (std::uint32_t i = 0; i < numInputs; ++i) {
      if (!sameMapping(mappings[i], graph_.getTileMapping(inputs_[i])))
        throw poplar::invalid_tile_mapping("the operation moved input " + std::to_string(i) + ", which is not its own");
    }
    checkOutputs(outputs, numOutputs);
    executable_.reset(new Executable(Access::data(graph_), program));
  }

  void execute(const PoplarModelArray *inputs, const PoplarModelArray *outputs) {
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      writeElements(inputs_[i], inputs[i].data);
    executable_->run();
    for (std::size_t i = 0; i < outputs_.size(); ++i)
      readElements(outputs_[i], outputs[i].data);
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      std::vector<unsigned char> after(inputs_[i].numElements() * typeSize(inputs_[i].elementType()));
      readElements(inputs_[i], after.data());
      if (std::memcmp(after.data(), inputs[i].data, after.size()) != 0)
        throw poplar::poplar_error("the operation wrote input " + std::to_string(i) + ", without declaring an alias");
    }
  }

  const Executable &executable() const { return *executable_; }

private:
  static std::shared_ptr<void> load(const char *library) {
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
      throw poplar::link_error(std::string("library cannot be loaded: ") + dlerror());
    return {handle, dlclose};
  }

  void readMetadata(const std::string &op, std::uint32_t numInputs) {
    const auto metadata = reinterpret_cast<Metadata *>(dlsym(library_.get(), (op + "_metadata").c_str()));
    if (!metadata)
      return;
    std::vector<std::int64_t> allocating, identical;
    std::map<std::int64_t, std::int64_t> aliasing;
    for (const bool before : {false, true}) { // a flag that is left alone would differ
      bool elementwise = before, stateless = before, hashable = before;
      metadata(allocating, identical, aliasing, elementwise, stateless, hashable, numInputs);
      flags_.push_back({elementwise, stateless, hashable});
    }
    if (flags_[0] != flags_[1])
      throw poplar::poplar_error(op + "_metadata must set is_elementwise, is_stateless and is_hashable");
    if (!aliasing.empty() || !allocating.empty())
      throw poplar::poplar_error("aliases and allocators are not part of the model");
  }

  void checkOutputs(const PoplarModelArray *outputs, std::uint32_t numOutputs) {
    if (outputs_.size() < numOutputs)
      throw poplar::poplar_error(std::to_string(numOutputs) + " outputs are declared, the operation gave " +
                                 std::to_string(outputs_.size()));
    outputs_.resize(numOutputs); // what is left over is not looked at
    for (std::uint32_t i = 0; i < numOutputs; ++i) {
      const poplar::Tensor &tensor = outputs_[i];
      if (!tensor.valid() || tensor.elementType() != typeNamed(outputs[i].type) ||
          tensor.shape() != shapeOf(outputs[i]))
        throw poplar::type_error("output " + std::to_string(i) + " is " + tensor.elementType().toString() + " " +
                                 tensor.shapeToString() + ", declared otherwise");
    }
  }

  static bool sameMapping(const poplar::Graph::TileToTensorMapping &a, const poplar::Graph::TileToTensorMapping &b) {
    for (std::size_t tile = 0; tile < a.size(); ++tile) {
      if (a[tile].size() != b[tile].size())
        return false;
      for (std::size_t i = 0; i < a[tile].size(); ++i) {
        if (a[tile][i].begin() != b[tile][i].begin() || a[tile][i].end() != b[tile][i].end())
          return false;
      }
    }
    return true;
  }

  std::shared_ptr<void> library_; // before the graph: programs hold code of it
  poplar::Graph graph_;
  std::vector<poplar::Tensor> inputs_, outputs_;
  std::vector<std::vector<bool>> flags_;
  std::unique_ptr<Executable> executable_;
};

template <typename Function> bool guarded(char *error, std::size_t size, Function &&function) {
  std::string text;
  try {
    function();
    return true;
  } catch (const std::exception &caught) {
    text = caught.what();
  } catch (...) {
    text = "an exception that is not a std::exception";
  }
  if (size) {
    std::strncpy(error, text.c_str(), size - 1);
    error[size - 1] = '\0';
  }
  return false;
}

} // namespace
} // namespace poplar_model

extern "C" {

void *poplar_model_compile(const char *library, const char *codelets, const char *op, const char *attributes,
                           std::uint32_t tiles, const PoplarModelArray *inputs, std::uint32_t num_inputs,
                           const PoplarModelArray *outputs, std::uint32_t num_outputs, char *error,
                           std::size_t error_size) {
  void *result = nullptr;
  poplar_model::guarded(error, error_size, [&] {
    result =
        new poplar_model::CustomOp(library, codelets, op, attributes, tiles, inputs, num_inputs, outputs, num_outputs);
  });
  return result;
}

int poplar_model_execute(void *op, const PoplarModelArray *inputs, const PoplarModelArray *outputs, char *error,
                         std::size_t error_size) {
  return !poplar_model::guarded(error, error_size,
                                [&] { static_cast<poplar_model::CustomOp *>(op)->execute(inputs, outputs); });
}

void poplar_model_statistics(const void *op, std::uint64_t *supersteps, std::uint64_t *max_tile_bytes) {
  const auto &executable = static_cast<const poplar_model::CustomOp *>(op)->executable();
  *supersteps = executable.supersteps();
  *max_tile_bytes = executable.maxTileBytes();
}

void poplar_model_release(void *op) { delete static_cast<poplar_model::CustomOp *>(op); }
}
