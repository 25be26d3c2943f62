// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>

namespace poplar {

struct poplar_error : std::runtime_error {
  explicit poplar_error(const std::string &what) : std::runtime_error(what) {}
  explicit poplar_error(const char *what) : std::runtime_error(what) {}
};

#define POPLAR_MODEL_ERROR(name)                                                                                       \
  struct name : poplar_error {                                                                                         \
    explicit name(const std::string &what) : poplar_error(#name ": " + what) {}                                        \
  };
POPLAR_MODEL_ERROR(invalid_tile_mapping)
POPLAR_MODEL_ERROR(graph_connection_error)
POPLAR_MODEL_ERROR(unknown_vertex_type)
POPLAR_MODEL_ERROR(unknown_field)
POPLAR_MODEL_ERROR(type_error)
POPLAR_MODEL_ERROR(index_error)
POPLAR_MODEL_ERROR(control_program_error)
POPLAR_MODEL_ERROR(link_error)
POPLAR_MODEL_ERROR(graph_memory_allocation_error)
#undef POPLAR_MODEL_ERROR

} // namespace poplar
