// SPDX-License-Identifier: Apache-2.0
//
// From the outputs of the heads to a score and a box: the arithmetic of one anchor. As nms_core.hpp it knows no
// framework, allocates nothing and computes in float. The fused operator and the unfused one call the same functions,
// which is why they agree bit for bit.
//
// Source of the formulas: google/automl efficientdet, anchors.py (decoding) and postprocess.py (class choice,
// clipping).
#pragma once

#include "nms_core.hpp"

#include <cstddef>

namespace nms_core {

// The library's own exp on purpose: vectorised approximations differ from one instruction set to the next.
inline float sigmoid(float logit) { return 1.0f / (1.0f + std::exp(-logit)); }

// Position of the greatest value, the first of equals. Values that are not numbers are passed over; a row of nothing
// else gives 0, so the "best" logit is then not a number either and its score is never selected.
template <typename T> inline std::size_t argMax(const T *row, std::size_t count) {
  std::size_t best = 0;
  float bestValue = static_cast<float>(row[0]);
  for (std::size_t i = 1; i < count; ++i) {
    const float value = static_cast<float>(row[i]);
    if (value > bestValue || bestValue != bestValue) {
      best = i;
      bestValue = value;
    }
  }
  return best;
}

struct Corners {
  float y1, x1, y2, x2; // pixels
};

// regression: shift of the centre (y, x) in units of the anchor's size, then the logarithm of the growth (height,
// width). anchor: corners y1, x1, y2, x2 in pixels of the network's input.
template <typename T> inline Corners decodeBox(const T *regression, const float *anchor) {
  const float anchorHeight = anchor[2] - anchor[0], anchorWidth = anchor[3] - anchor[1];
  const float anchorY = (anchor[0] + anchor[2]) / 2.0f, anchorX = (anchor[1] + anchor[3]) / 2.0f;
  const float height = std::exp(static_cast<float>(regression[2])) * anchorHeight;
  const float width = std::exp(static_cast<float>(regression[3])) * anchorWidth;
  const float y = static_cast<float>(regression[0]) * anchorHeight + anchorY;
  const float x = static_cast<float>(regression[1]) * anchorWidth + anchorX;
  return {y - height / 2.0f, x - width / 2.0f, y + height / 2.0f, x + width / 2.0f};
}

// Corners outside the image move onto its border. Suppression happens before clipping, as in the original.
inline float clip(float value, float limit) { return greater(lesser(value, limit), 0.0f); }

inline Corners clipAndScale(const Corners &box, float imageHeight, float imageWidth, float scale) {
  return {clip(box.y1, imageHeight) * scale, clip(box.x1, imageWidth) * scale, clip(box.y2, imageHeight) * scale,
          clip(box.x2, imageWidth) * scale};
}

} // namespace nms_core
