// SPDX-License-Identifier: Apache-2.0
//
// The element types of the host library. TensorFlow's own half and bfloat16 have the same bits, so pointers pass
// unchanged, and the algorithms are compiled once without any framework header.
#pragma once

#include <cstdint>
#include <cstring>

namespace nms_host {

// The numbers are part of libdetect's interface.
enum class DType : std::int32_t { float32 = 0, float16 = 1, bfloat16 = 2, int8 = 3 };

inline std::uint32_t bitsOf(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float floatOf(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// IEEE 754 binary16. Subnormals go through integers: the threads of TensorFlow flush subnormal floats to zero.
struct Half {
  std::uint16_t bits;

  Half() = default;
  explicit Half(std::uint16_t bits_) : bits(bits_) {}

  explicit Half(float value) {
    const std::uint32_t source = bitsOf(value), magnitude = source & 0x7fffffffu;
    const std::uint32_t sign = (source >> 16) & 0x8000u;
    std::uint32_t rounded;
    if (magnitude > 0x7f800000u) { // not a number
      rounded = 0x7e00u;
    } else if (magnitude >= 0x477ff000u) { // 65520 and more round to infinity
      rounded = 0x7c00u;
    } else if (magnitude >= 0x38800000u) { // normal: drop 13 bits, ties to even
      rounded = (magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
    } else if (magnitude >= 0x33000000u) { // subnormal: multiples of 2^-24
      const std::uint32_t shift = 126u - (magnitude >> 23);
      const std::uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
      const std::uint32_t half = 1u << (shift - 1u), kept = mantissa >> shift;
      const std::uint32_t rest = mantissa & ((1u << shift) - 1u);
      rounded = kept + (rest > half || (rest == half && (kept & 1u)) ? 1u : 0u);
    } else {
      rounded = 0;
    }
    bits = static_cast<std::uint16_t>(sign | rounded);
  }

  operator float() const {
    const std::uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 0x1fu, mantissa = bits & 0x3ffu;
    if (exponent == 0) {
      const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f; // 2^-24
      return sign ? -magnitude : magnitude;
    }
    return floatOf(sign | (exponent == 31 ? 0x7f800000u : (exponent + 112u) << 23) | (mantissa << 13));
  }
};

// The upper half of a float.
struct BFloat16 {
  std::uint16_t bits;

  BFloat16() = default;
  explicit BFloat16(std::uint16_t bits_) : bits(bits_) {}

  explicit BFloat16(float value) {
    const std::uint32_t source = bitsOf(value);
    if ((source & 0x7fffffffu) > 0x7f800000u)
      bits = static_cast<std::uint16_t>((source >> 16) | 0x40u); // stays a NaN when its low bits go
    else
      bits = static_cast<std::uint16_t>((source + 0x7fffu + ((source >> 16) & 1u)) >> 16);
  }

  operator float() const { return floatOf(static_cast<std::uint32_t>(bits) << 16); }
};

// A value of a quantised output, which means nothing without its `Quantisation`.
struct Int8 {
  std::int8_t bits;
};

// What the integers of a tensor stand for: scale * (stored - zeroPoint). Other types stand for themselves.
struct Quantisation {
  float scale; // above 0, so that integers are ordered as what they stand for
  std::int32_t zeroPoint;
};

template <typename T> inline float valueOf(T stored, const Quantisation &) { return static_cast<float>(stored); }
inline float valueOf(Int8 stored, const Quantisation &quantisation) {
  return static_cast<float>(stored.bits - quantisation.zeroPoint) * quantisation.scale;
}

static_assert(sizeof(Half) == 2 && sizeof(BFloat16) == 2 && sizeof(Int8) == 1,
              "pointers to tensors are reinterpreted as these types");

} // namespace nms_host
