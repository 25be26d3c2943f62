// SPDX-License-Identifier: Apache-2.0
//
// Memory of others at any address. Reading a float through a pointer that is no multiple of four is undefined, and
// vector code may trap on it: what is not aligned for its type is copied first, everything else is used where it lies.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace nms_host {

inline bool isAligned(const void *address, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(address) % alignment == 0;
}

// Copies of inputs, which live as long as this object. Throws std::bad_alloc.
class AlignedInputs {
public:
  // Returns the address of the same `bytes` bytes, aligned; null stays null.
  const void *at(const void *address, std::size_t alignment, std::size_t bytes) {
    if (!address || isAligned(address, alignment))
      return address;
    copies_.emplace_back(new char[bytes]); // aligned for every type there is
    std::memcpy(copies_.back().get(), address, bytes);
    return copies_.back().get();
  }

  template <typename T> const T *array(const void *address, std::size_t count) {
    return static_cast<const T *>(at(address, alignof(T), count * sizeof(T)));
  }

private:
  std::vector<std::unique_ptr<char[]>> copies_;
};

// Memory to write to in the place of outputs that are not aligned. Throws std::bad_alloc.
class AlignedOutputs {
public:
  template <typename T> T *array(T *address, std::size_t count) {
    if (!address || isAligned(address, alignof(T)))
      return address;
    std::unique_ptr<char[]> memory(new char[count * sizeof(T)]);
    copies_.push_back({std::move(memory), address, count * sizeof(T)});
    return reinterpret_cast<T *>(copies_.back().memory.get());
  }

  // Bring what was written to where it was asked for.
  void deliver() const {
    for (const Copy &copy : copies_)
      std::memcpy(copy.address, copy.memory.get(), copy.bytes);
  }

private:
  struct Copy {
    std::unique_ptr<char[]> memory;
    void *address;
    std::size_t bytes;
  };
  std::vector<Copy> copies_;
};

} // namespace nms_host
