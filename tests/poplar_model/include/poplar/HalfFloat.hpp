// SPDX-License-Identifier: Apache-2.0
// IEEE half precision in software, rounded to nearest even as the device does with stochastic rounding off. What is too
// great becomes 65504, the device's default ("NANOO" off), so arithmetic that overflows in half shows here as it does
// there.
#pragma once

#include <cstdint>

class half {
public:
  half() = default;
  half(float value) : bits_(round(value)) {}
  operator float() const { return widen(bits_); }

  // Without these, half op half would be computed in float and rounded later or never.
  half operator-() const { return fromBits(bits_ ^ 0x8000u); }
  half &operator+=(half other) { return *this = *this + other; }
  half &operator-=(half other) { return *this = *this - other; }
  half &operator*=(half other) { return *this = *this * other; }
  half &operator/=(half other) { return *this = *this / other; }
  friend half operator+(half a, half b) { return half(float(a) + float(b)); }
  friend half operator-(half a, half b) { return half(float(a) - float(b)); }
  friend half operator*(half a, half b) { return half(float(a) * float(b)); }
  friend half operator/(half a, half b) { return half(float(a) / float(b)); }

  static half fromBits(unsigned bits) {
    half result;
    result.bits_ = static_cast<std::uint16_t>(bits);
    return result;
  }
  std::uint16_t bits() const { return bits_; }

private:
  static std::uint16_t round(float value);
  static float widen(std::uint16_t bits);
  std::uint16_t bits_;
};
