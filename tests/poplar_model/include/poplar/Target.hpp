// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "poplar/OptionFlags.hpp"
#include "poplar/Type.hpp"

namespace poplar {

enum class TargetType { IPU, IPU_MODEL, CPU };

// A Mk2 with as many tiles as asked for.
class Target {
public:
  Target() = default;
  static Target createIPUTarget(unsigned numIPUs, unsigned tilesPerIPU, StringRef system,
                                const OptionFlags &options = {});

  TargetType getTargetType() const;
  unsigned getNumIPUs() const;
  unsigned getTilesPerIPU() const;
  unsigned getNumTiles() const;
  unsigned getNumWorkerContexts() const;
  unsigned getBytesPerTile() const;
  unsigned getVectorWidth(const Type &type) const;
  unsigned getTypeSize(const Type &type) const;
  unsigned getAtomicStoreGranularity() const;
  unsigned getExchangeBytesPerCycle() const;
  double getTileClockFrequency() const;

private:
  unsigned tilesPerIPU_ = 0;
};

} // namespace poplar
