// SPDX-License-Identifier: Apache-2.0
// The part of TensorFlow's plugin that loads and builds a custom operation, as a C interface. tests/support/poplar_model.py
// wraps it.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct PoplarModelArray {
  const char *type; // Poplar's name: "float", "half", "int", "unsigned int", "bool"
  std::int32_t rank;
  const std::int64_t *shape;
  void *data; // may be null when compiling
};

// Loads a library and a file of codelets, builds the operation for inputs of these types and shapes on a device with so
// many tiles, checks what comes back against the outputs declared, and compiles it. Returns null and a text when any of
// it fails.
void *poplar_model_compile(const char *library, const char *codelets, const char *op, const char *attributes,
                           std::uint32_t tiles, const PoplarModelArray *inputs, std::uint32_t num_inputs,
                           const PoplarModelArray *outputs, std::uint32_t num_outputs, char *error,
                           std::size_t error_size);

// Runs it. The data of all arrays must be there; types and shapes are those it was compiled for. 0, or 1 and a text.
// One operation must not run twice at the same time.
int poplar_model_execute(void *op, const PoplarModelArray *inputs, const PoplarModelArray *outputs, char *error,
                         std::size_t error_size);

// Supersteps of the last run, and bytes on the fullest tile.
void poplar_model_statistics(const void *op, std::uint64_t *supersteps, std::uint64_t *max_tile_bytes);

void poplar_model_release(void *op);
}
