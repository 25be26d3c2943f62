// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "poplar/ArrayRef.hpp"
#include "poplar/DebugContext.hpp"
#include "poplar/HalfFloat.hpp"
#include "poplar/Target.hpp"
#include "poplar/Tensor.hpp"
#include "poplar/VariableMappingMethod.hpp"
#include "poplar/exceptions.hpp"

namespace poplar {

enum class CodeletFileType { PreprocessedAsmSource, AsmSource, CSource, CppSource, IrSource, Object, Auto };

struct replication_factor {
  explicit replication_factor(unsigned value) : value(value) {}
  unsigned value;
};

class ComputeSet {
public:
  explicit ComputeSet(unsigned id) : id_(id) {}
  unsigned getId() const { return id_; }

private:
  unsigned id_;
};

class FieldRef {
private:
  friend struct poplar_model::Access;
  unsigned vertex_ = 0;
  std::string name_;
};

class VertexRef {
public:
  FieldRef operator[](StringRef field) const;
  unsigned getId() const { return id_; }

private:
  friend struct poplar_model::Access;
  unsigned id_ = 0;
};

class Graph {
public:
  using TileToTensorMapping = std::vector<std::vector<Interval>>;

  struct ConnectionDesc {
    ConnectionDesc(StringRef field, Tensor tensor) : field(field), tensors{tensor} {}
    ConnectionDesc(StringRef field, ArrayRef<Tensor> tensors)
        : field(field), tensors(tensors.begin(), tensors.end()), list(true) {}
    std::string field;
    std::vector<Tensor> tensors;
    bool list = false;
  };

  explicit Graph(const Target &target, replication_factor factor = replication_factor(1));
  Graph(Graph &&) noexcept;
  ~Graph();

  const Target &getTarget() const;
  bool addCodelets(StringRef file, CodeletFileType type = CodeletFileType::Auto, StringRef compileFlags = "",
                   StringRef targetName = "");
  bool hasCodelet(StringRef name) const;

  Tensor addVariable(const Type &type, ArrayRef<std::size_t> shape, const DebugContext &debugContext = {});
  Tensor addVariable(const Type &type, ArrayRef<std::size_t> shape, VariableMappingMethod method,
                     const DebugContext &debugContext = {});
  template <typename T>
  Tensor addConstant(const Type &type, ArrayRef<std::size_t> shape, ArrayRef<T> values,
                     const DebugContext &debugContext = {"<const>"});
  template <typename T>
  Tensor addConstant(const Type &type, ArrayRef<std::size_t> shape, T value,
                     const DebugContext &debugContext = {"<const>"});

  ComputeSet addComputeSet(const DebugContext &debugContext = {});
  VertexRef addVertex(ComputeSet computeSet, StringRef type);
  VertexRef addVertex(ComputeSet computeSet, StringRef type, ArrayRef<ConnectionDesc> connections);
  void connect(FieldRef field, const Tensor &tensor);
  void connect(FieldRef field, ArrayRef<Tensor> tensors);
  template <typename T> void setInitialValue(FieldRef field, T value);
  void setPerfEstimate(const VertexRef &vertex, std::uint64_t cycles, std::uint64_t flops = 0);

  void setTileMapping(VertexRef vertex, unsigned tile);
  void setTileMapping(const Tensor &tensor, unsigned tile);
  void setTileMapping(const Tensor &tensor, const TileToTensorMapping &mapping);
  TileToTensorMapping getTileMapping(const Tensor &tensor, bool requireComplete = true,
                                     bool allowExternal = false) const;

private:
  friend struct poplar_model::Access;
  Tensor addConstantValues(const Type &type, ArrayRef<std::size_t> shape, const std::vector<double> &values,
                           const DebugContext &debugContext);
  void setValue(FieldRef field, const Type &type, double value);
  std::unique_ptr<poplar_model::GraphData> data_;
};

template <typename T>
Tensor Graph::addConstant(const Type &type, ArrayRef<std::size_t> shape, ArrayRef<T> values,
                          const DebugContext &debugContext) {
  return addConstantValues(type, shape, std::vector<double>(values.begin(), values.end()), debugContext);
}

template <typename T>
Tensor Graph::addConstant(const Type &type, ArrayRef<std::size_t> shape, T value, const DebugContext &debugContext) {
  std::size_t size = 1;
  for (const std::size_t extent : shape)
    size *= extent;
  return addConstantValues(type, shape, std::vector<double>(size, static_cast<double>(value)), debugContext);
}

template <typename T> void Graph::setInitialValue(FieldRef field, T value) {
  static_assert(std::is_arithmetic<T>::value || std::is_same<T, half>::value, "only simple values");
  setValue(field, equivalent_device_type<T>().value, static_cast<double>(value));
}

} // namespace poplar
