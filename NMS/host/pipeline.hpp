// SPDX-License-Identifier: Apache-2.0
//
// The three things the host library does, on plain memory: nms() on scores and boxes, decode() from head outputs to
// scores and boxes, detect() from head outputs to detections. TensorFlow's kernels and libdetect's functions check what
// they are given, fill one of these structures and call. detect() gives exactly what nms() gives on the outputs of
// decode().
#pragma once

#include "select.hpp"
#include "types.hpp"

#include <functional>

namespace nms_host {

// The numbers are part of libdetect's interface.
enum class Mode : std::int32_t { bestClass = 0, classAgnostic = 1, multiClass = 2 };

enum class Outcome { done, interrupted, outOfMemory };

// Calls work(0) to work(count - 1), each once, in any order and on any thread.
using ParallelFor = std::function<void(std::size_t count, const std::function<void(std::size_t)> &work)>;

struct Context {
  WorkspacePool &pool;
  const ParallelFor &parallelFor;
  std::size_t threads; // how many may run at once; decides into how many pieces an image is cut
  Interrupt stop;
};

// Rows of every output that hold no detection: index -1, score 0, box 0, length counts the others.
struct NmsCall {
  DType type;
  Mode mode;
  nms_core::Options options;
  std::size_t batch, boxes, classes; // N images, K boxes each; C classes in multi-class mode, otherwise 1
  const void *scores;                // [N, K] or, multi-class, [N, K, C]
  const void *corners;               // [N, K, 4]
  const std::int32_t *labels;        // [N, K]; null in multi-class mode, or when every box is of class 0
  std::int32_t *outIndices;          // [N, maxDetections]; multi-class: box * C + class
  void *outScores, *outCorners;      // [N, maxDetections] and [N, maxDetections, 4], of `type`
  std::int32_t *outLabels;           // [N, maxDetections], unusedClass where unused
  std::int32_t *outLengths;          // [N]
};

// One level of the pyramid: A anchors an image, in the order in which the head writes them (row, column, anchor of the
// cell).
struct Level {
  std::size_t anchors;
  const void *logits;         // [N, A, C]; or, where `labels` is given, [N, A], the greatest logit of each anchor
  const std::int32_t *labels; // null, or [N, A], the class that has it
  const void *regressions;    // [N, A, 4]
  Quantisation logitUnits{1.0f, 0}, regressionUnits{1.0f, 0}; // of DType::int8
};

struct Heads {
  DType type; // int8 in a DetectCall alone
  std::size_t batch, classes;
  std::vector<Level> levels;
  const float *anchors; // [sum of A, 4], corners in pixels, finest level first
};

struct DecodeCall {
  Heads heads;
  Mode mode;
  float *outScores;        // [N, A] or, multi-class, [N, A, C]
  float *outCorners;       // [N, A, 4]
  std::int32_t *outLabels; // [N, A]; null in multi-class mode
};

struct DetectCall {
  Heads heads;
  Mode mode;
  nms_core::Options options;
  float imageHeight, imageWidth; // boxes are clipped to it
  const float *scales;           // [N], multiplies the clipped boxes; null for 1
  float *outCorners, *outScores; // [N, maxDetections, 4], [N, maxDetections]
  std::int32_t *outClasses;      // [N, maxDetections], one-based, 0 where unused
  std::int32_t *outIndices;      // [N, maxDetections]; multi-class: anchor * C + class
  std::int32_t *outLengths;      // [N]
};

Outcome nms(const NmsCall &call, const Context &context);
Outcome decode(const DecodeCall &call, const Context &context);
Outcome detect(const DetectCall &call, const Context &context);

} // namespace nms_host
