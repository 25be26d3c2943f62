// SPDX-License-Identifier: Apache-2.0
#include "scan.hpp"

#include <limits>

// One copy of each pass for each of these instruction sets; the dynamic loader picks the best that the machine has, so
// a library may be carried to another machine. NMS_ONE_TARGET leaves the choice out: sanitizers are not ready yet when
// it is made.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__) && \
    !defined(NMS_ONE_TARGET)
#define NMS_TARGETS __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define NMS_TARGETS
#endif
// A function that stays a call would be compiled once, for the least of the targets.
#if defined(__GNUC__)
#define NMS_INLINE inline __attribute__((always_inline))
#else
#define NMS_INLINE inline
#endif

namespace nms_host {
namespace {

// Sign and magnitude to two's complement: the order of floats as integers, -0 equal to +0, NaNs beyond the infinities.
NMS_INLINE std::int16_t keyOf(std::uint16_t bits) {
  const std::int16_t magnitude = static_cast<std::int16_t>(bits & 0x7fff);
  return bits & 0x8000 ? static_cast<std::int16_t>(-magnitude) : magnitude;
}

NMS_INLINE std::int32_t keyOf(std::uint32_t bits) {
  const std::int32_t magnitude = static_cast<std::int32_t>(bits & 0x7fffffff);
  return bits & 0x80000000 ? -magnitude : magnitude;
}

// The key of the greatest 16-bit float that is not above the limit: v > limit exactly when keyOf(v) is above this one.
template <typename T> std::int16_t keyBelow(float limit) {
  const T nearest(limit);
  const std::int16_t key = keyOf(nearest.bits);
  return static_cast<float>(nearest) > limit ? static_cast<std::int16_t>(key - 1) : key;
}

// The comparisons are joined as integers, which may be done in any order: the compiler would not reorder a maximum of
// floats.
NMS_TARGETS
std::size_t firstAbove32(const float *values, std::size_t groups, std::size_t size, std::size_t start, float limit) {
  for (std::size_t group = start; group < groups; ++group) {
    const float *p = values + group * size;
    std::int32_t found = 0;
    for (std::size_t i = 0; i < size; ++i)
      found |= p[i] > limit;
    if (found)
      return group;
  }
  return groups;
}

NMS_TARGETS
std::size_t firstAbove16(const std::uint16_t *bits, std::size_t groups, std::size_t size, std::size_t start,
                         std::int16_t limit) {
  for (std::size_t group = start; group < groups; ++group) {
    const std::uint16_t *p = bits + group * size;
    std::int16_t found = 0;
    for (std::size_t i = 0; i < size; ++i)
      found = static_cast<std::int16_t>(found | (keyOf(p[i]) > limit));
    if (found)
      return group;
  }
  return groups;
}

NMS_TARGETS
std::size_t firstAbove8(const std::int8_t *stored, std::size_t groups, std::size_t size, std::size_t start,
                        std::int8_t limit) {
  for (std::size_t group = start; group < groups; ++group) {
    const std::int8_t *p = stored + group * size;
    std::int8_t found = 0;
    for (std::size_t i = 0; i < size; ++i)
      found = static_cast<std::int8_t>(found | (p[i] > limit));
    if (found)
      return group;
  }
  return groups;
}

// The key of a number; NaNs get the least value of all, which no number has.
NMS_INLINE std::int32_t rankOf(const float *value) {
  const std::int32_t key = keyOf(bitsOf(*value));
  return key > 0x7f800000 || key < -0x7f800000 ? std::numeric_limits<std::int32_t>::min() : key;
}

template <typename T, int infinity> NMS_INLINE std::int32_t rankOf16(const T *value) {
  const std::int32_t key = keyOf(value->bits);
  return key > infinity || key < -infinity ? std::numeric_limits<std::int32_t>::min() : key;
}

NMS_INLINE std::int32_t rankOf(const Half *value) { return rankOf16<Half, 0x7c00>(value); }
NMS_INLINE std::int32_t rankOf(const BFloat16 *value) { return rankOf16<BFloat16, 0x7f80>(value); }

NMS_INLINE std::int32_t rankOf(const Int8 *value) { return value->bits; }

// Two passes without a branch: the greatest rank, then the first place where it stands.
template <typename T> NMS_INLINE std::size_t firstOfGreatest(const T *row, std::size_t count) {
  std::int32_t best = std::numeric_limits<std::int32_t>::min();
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t rank = rankOf(row + i);
    best = rank > best ? rank : best;
  }
  const std::int32_t size = static_cast<std::int32_t>(count);
  std::int32_t first = size - 1;
  for (std::int32_t i = 0; i < size; ++i) {
    const std::int32_t here = rankOf(row + i) == best ? i : size;
    first = here < first ? here : first;
  }
  return static_cast<std::size_t>(first);
}

NMS_TARGETS std::size_t argMaxOf(const float *row, std::size_t count) { return firstOfGreatest(row, count); }
NMS_TARGETS std::size_t argMaxOf(const Half *row, std::size_t count) { return firstOfGreatest(row, count); }
NMS_TARGETS std::size_t argMaxOf(const BFloat16 *row, std::size_t count) { return firstOfGreatest(row, count); }
NMS_TARGETS std::size_t argMaxOf(const Int8 *row, std::size_t count) { return firstOfGreatest(row, count); }

} // namespace

std::size_t firstGroupAbove(const float *values, std::size_t groups, std::size_t size, std::size_t start, float limit) {
  return firstAbove32(values, groups, size, start, limit);
}

std::size_t firstGroupAbove(const Half *values, std::size_t groups, std::size_t size, std::size_t start, float limit) {
  return firstAbove16(reinterpret_cast<const std::uint16_t *>(values), groups, size, start, keyBelow<Half>(limit));
}

std::size_t firstGroupAbove(const BFloat16 *values, std::size_t groups, std::size_t size, std::size_t start,
                            float limit) {
  return firstAbove16(reinterpret_cast<const std::uint16_t *>(values), groups, size, start, keyBelow<BFloat16>(limit));
}

std::size_t firstGroupAbove(const Int8 *values, std::size_t groups, std::size_t size, std::size_t start, float limit) {
  if (limit < -128.0f)
    return start < groups ? start : groups;
  return firstAbove8(reinterpret_cast<const std::int8_t *>(values), groups, size, start,
                     static_cast<std::int8_t>(limit < 127.0f ? limit : 127.0f));
}

std::size_t fastArgMax(const float *row, std::size_t count) { return argMaxOf(row, count); }
std::size_t fastArgMax(const Half *row, std::size_t count) { return argMaxOf(row, count); }
std::size_t fastArgMax(const BFloat16 *row, std::size_t count) { return argMaxOf(row, count); }
std::size_t fastArgMax(const Int8 *row, std::size_t count) { return argMaxOf(row, count); }

} // namespace nms_host
