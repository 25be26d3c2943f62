// SPDX-License-Identifier: Apache-2.0
// Types, half arithmetic and the target.
#include <cmath>
#include <cstring>

#include "poplar/Graph.hpp"
#include "poplar_model/graph_data.hpp"

namespace poplar {

using poplar_model::Access;

const Type BOOL = Access::type("bool", 1), CHAR = Access::type("char", 1),
           UNSIGNED_CHAR = Access::type("unsigned char", 1), SIGNED_CHAR = Access::type("signed char", 1),
           SHORT = Access::type("short", 2), UNSIGNED_SHORT = Access::type("unsigned short", 2),
           INT = Access::type("int", 4), UNSIGNED_INT = Access::type("unsigned int", 4),
           HALF = Access::type("half", 2, true), FLOAT = Access::type("float", 4, true);

Target Target::createIPUTarget(unsigned numIPUs, unsigned tilesPerIPU, StringRef, const OptionFlags &) {
  if (numIPUs != 1)
    throw poplar_error("the model has one IPU, asked for " + std::to_string(numIPUs));
  Target target;
  target.tilesPerIPU_ = tilesPerIPU;
  return target;
}

TargetType Target::getTargetType() const { return TargetType::IPU; }
unsigned Target::getNumIPUs() const { return 1; }
unsigned Target::getTilesPerIPU() const { return tilesPerIPU_; }
unsigned Target::getNumTiles() const { return tilesPerIPU_; }
unsigned Target::getNumWorkerContexts() const { return 6; }
unsigned Target::getBytesPerTile() const { return 624 * 1024; }
unsigned Target::getVectorWidth(const Type &type) const {
  return 8 / static_cast<unsigned>(poplar_model::typeSize(type));
}
unsigned Target::getTypeSize(const Type &type) const { return static_cast<unsigned>(poplar_model::typeSize(type)); }
unsigned Target::getAtomicStoreGranularity() const { return 4; }
unsigned Target::getExchangeBytesPerCycle() const { return 4; }
double Target::getTileClockFrequency() const { return 1.325e9; }

} // namespace poplar

std::uint16_t half::round(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint16_t sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  if (std::isnan(value))
    return sign | 0x7e00u;
  const float magnitude = std::fabs(value);
  if (magnitude >= 65520.0f)       // would round to 65536 or more
    return sign | 0x7bffu;         // 65504
  if (magnitude < 6.103515625e-5f) // subnormal: a multiple of 2^-24, rounded by the float unit itself
    return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::nearbyint(magnitude * 16777216.0f)));
  const std::uint32_t rounded = (bits & 0x7fffffffu) + 0x0fffu + ((bits >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | ((rounded >> 13) - ((127 - 15) << 10)));
}

float half::widen(std::uint16_t bits) {
  const unsigned exponent = (bits >> 10) & 0x1fu, fraction = bits & 0x3ffu;
  float magnitude;
  if (exponent == 31)
    magnitude = fraction ? NAN : INFINITY;
  else if (exponent == 0)
    magnitude = std::ldexp(static_cast<float>(fraction), -24);
  else
    magnitude = std::ldexp(static_cast<float>(fraction | 0x400u), static_cast<int>(exponent) - 25);
  return bits & 0x8000u ? -magnitude : magnitude;
}
