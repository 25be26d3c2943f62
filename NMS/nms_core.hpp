// SPDX-License-Identifier: Apache-2.0
//
// The arithmetic of non-maximum suppression, and nothing else: no framework, no allocation, no exceptions, C++14.
// The host operators, libdetect.so and the Poplar codelets all call these functions, so that a box is kept or removed
// for the same reason on every device.
//
// What two readers would guess differently:
//  * T is the type boxes and scores are stored in: float, half, bfloat16, anything that converts to float. All
//    arithmetic is float. Half tops out at 65504, and one box of 512 x 512 pixels already covers 262144.
//  * Scores that change (soft suppression) are kept in float from the first read to the last write. Rounding them to T
//    after every step would make the order depend on T.
//  * Both thresholds are float and both comparisons are strict: a candidate must score more than the score threshold,
//    a box goes when its IoU with a kept one is more than the IoU threshold.
//  * Equal scores: the lower index wins. In multi-class mode the index is anchor * classes + class.
//  * Corners may come in any order ("inverted" boxes); they are sorted first, as TensorFlow does. A box without area,
//    or with a coordinate that is not a number, overlaps nothing: its IoU is 0, it neither removes nor is removed.
//  * A score that is not a number is never selected, it is not more than any threshold.
//  * With sigma > 0 the IoU threshold plays no part: every overlap lowers a score, none removes a box outright.
//
// Compile with -ffp-contract=off: fused multiply-adds would round areas differently from one target to the next.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace nms_core {

constexpr std::int32_t unusedIndex = -1; // rows of the output that hold no detection
constexpr std::int32_t unusedClass = std::numeric_limits<std::int32_t>::max();

// Working score of a candidate that hard suppression has removed, or that has been selected. It is not more than any
// threshold, not even one of minus infinity.
constexpr float removedScore = -std::numeric_limits<float>::infinity();

struct Options {
  float iouThreshold = 0.5f;    // a box goes when its IoU with a kept one is strictly greater
  float scoreThreshold = 0.0f;  // candidates must score strictly more; at least 0 when sigma > 0
  float sigma = 0.0f;           // 0: hard suppression; above 0: Gaussian, weight exp(-iou^2 / sigma)
  std::uint32_t maxDetections = 100;
};

// A box ready for comparison: sorted corners and area.
struct Box {
  float yMin, xMin, yMax, xMax;
  float area;
};

// NaN must not reach the caller as the smaller or greater of two numbers by accident: std::fmin would hide it, and
// which operand std::min returns depends on their order. Here a NaN corner leads to an area that is 0 or NaN, which
// iou() rejects.
inline float lesser(float a, float b) { return b < a ? b : a; }
inline float greater(float a, float b) { return a < b ? b : a; }

// corners: two opposite corners, y1 x1 y2 x2.
template <typename T> inline Box makeBox(const T *corners) {
  const float y1 = static_cast<float>(corners[0]), x1 = static_cast<float>(corners[1]);
  const float y2 = static_cast<float>(corners[2]), x2 = static_cast<float>(corners[3]);
  Box box{lesser(y1, y2), lesser(x1, x2), greater(y1, y2), greater(x1, x2), 0.0f};
  box.area = (box.yMax - box.yMin) * (box.xMax - box.xMin);
  return box;
}

// Area of the intersection over area of the union, 0 to 1, symmetric. 0 when either box has no area or holds a NaN.
inline float iou(const Box &a, const Box &b) {
  const float height = lesser(a.yMax, b.yMax) - greater(a.yMin, b.yMin);
  const float width = lesser(a.xMax, b.xMax) - greater(a.xMin, b.xMin);
  if (!(height > 0.0f) || !(width > 0.0f) || !(a.area > 0.0f) || !(b.area > 0.0f))
    return 0.0f;
  const float intersection = height * width;
  const float ratio = intersection / (a.area + b.area - intersection);
  return ratio > 0.0f ? ratio : 0.0f; // two infinite areas give NaN
}

template <typename T> inline float iou(const T *a, const T *b) { return iou(makeBox(a), makeBox(b)); }

// May this score be selected at all? The same test decides about original scores and about softly suppressed ones.
inline bool isCandidate(float score, float scoreThreshold) { return score > scoreThreshold; }

// Does candidate a go before candidate b? A strict total order while indices differ and no score is NaN.
inline bool precedes(float scoreA, std::int32_t indexA, float scoreB, std::int32_t indexB) {
  return scoreA > scoreB || (scoreA == scoreB && indexA < indexB);
}

// Hard suppression: does a kept box with this overlap remove the candidate?
inline bool suppresses(float overlap, float iouThreshold) { return overlap > iouThreshold; }

// Soft suppression: exp(-iou^2 / sigma), 0 to 1. Kernels pass softScale(sigma) once instead of dividing per pair.
inline float softScale(float sigma) { return -1.0f / sigma; }
inline float softWeight(float overlap, float scale) {
  // An overlap of 0 leaves the score alone, also where the scale of a tiny sigma is infinite.
  return overlap > 0.0f ? std::exp(scale * overlap * overlap) : 1.0f;
}

// How a kept box acts on the others, prepared once per call.
struct Suppression {
  float iouThreshold;
  float scale; // of softWeight; unused when hard
  bool soft;

  explicit Suppression(const Options &options) : Suppression(options.iouThreshold, options.sigma) {}
  Suppression(float iouThreshold_, float sigma)
      : iouThreshold(iouThreshold_), scale(sigma > 0.0f ? softScale(sigma) : 0.0f), soft(sigma > 0.0f) {}

  // The score of a candidate after meeting one kept box. Kept boxes are to be met in the order in which they were kept:
  // float products depend on their order, and both the eager loop (IPU) and the lazy one (host) can follow this one.
  float apply(float score, float overlap) const {
    if (soft)
      return score * softWeight(overlap, scale);
    return suppresses(overlap, iouThreshold) ? removedScore : score;
  }
};

} // namespace nms_core
