// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

class half; // poplar/HalfFloat.hpp

namespace poplar_model {
struct Access;
}

namespace poplar {

class Type {
public:
  Type() = default;
  std::string toString() const { return name_; }
  bool isFloatingPoint() const { return floating_; }
  bool operator==(const Type &other) const { return std::string(name_) == other.name_; }
  bool operator!=(const Type &other) const { return !(*this == other); }

private:
  friend struct poplar_model::Access;
  Type(const char *name, std::size_t size, bool floatingPoint) : name_(name), size_(size), floating_(floatingPoint) {}
  const char *name_ = "";
  std::size_t size_ = 0;
  bool floating_ = false;
};

extern const Type BOOL, CHAR, UNSIGNED_CHAR, SIGNED_CHAR, SHORT, UNSIGNED_SHORT, INT, UNSIGNED_INT, HALF, FLOAT;

// The type that a C++ type has on the device.
template <typename T> struct equivalent_device_type;
#define POPLAR_MODEL_TYPE(cpp, device)                                                                                 \
  template <> struct equivalent_device_type<cpp> {                                                                     \
    const Type &value = device;                                                                                        \
  };
POPLAR_MODEL_TYPE(bool, BOOL)
POPLAR_MODEL_TYPE(unsigned char, UNSIGNED_CHAR)
POPLAR_MODEL_TYPE(signed char, SIGNED_CHAR)
POPLAR_MODEL_TYPE(char, CHAR)
POPLAR_MODEL_TYPE(short, SHORT)
POPLAR_MODEL_TYPE(unsigned short, UNSIGNED_SHORT)
POPLAR_MODEL_TYPE(int, INT)
POPLAR_MODEL_TYPE(unsigned, UNSIGNED_INT)
POPLAR_MODEL_TYPE(half, HALF)
POPLAR_MODEL_TYPE(float, FLOAT)
#undef POPLAR_MODEL_TYPE

} // namespace poplar
