// SPDX-License-Identifier: Apache-2.0
//
// The C interface. Detection of a batch is in pipeline.cpp, non-maximum suppression of an image in select.hpp.
#include "libdetect.h"

#include "aligned.hpp"
#include "pipeline.hpp"
#include "threads.hpp"

#include <cstdio>
#include <new>
#include <thread>

struct detect_handle {
  std::vector<float> anchors;
  std::vector<std::size_t> levelAnchors;
  std::vector<nms_host::Quantisation> logitUnits, regressionUnits; // of the levels, empty without
  std::size_t classes;
  nms_host::Mode mode;
  nms_core::Options options;
  float imageHeight, imageWidth;
  std::size_t threads;
  nms_host::WorkspacePool pool;
};

namespace {

using nms_host::DType;
using nms_host::Mode;

// Starts threads for the call and joins them: a few microseconds each, for work of a millisecond. A thread that cannot
// be started leaves its share to the others.
void runOnThreads(std::size_t threads, std::size_t count, const std::function<void(std::size_t)> &work) {
  std::vector<std::thread> helpers;
  nms_host::shareTasks(threads, count, work, [&](const std::function<void()> &help) {
    try {
      helpers.emplace_back(help);
    } catch (...) {
    }
  });
  for (std::thread &thread : helpers)
    thread.join();
}

constexpr std::int64_t mostIndices = std::int64_t{1} << 31;
constexpr std::int64_t mostRows = std::int64_t{1} << 40; // of an output: more than any memory holds

// Null when the configuration is usable, else what is wrong with it. `levels` is what level_anchors points to.
const char *complaint(const detect_config &config, const std::int64_t *levels) {
  if (config.num_classes < 1 || config.max_detections < 1 || config.threads < 1)
    return "num_classes, max_detections and threads must be at least 1";
  if (config.mode < DETECT_BEST_CLASS || config.mode > DETECT_MULTI_CLASS)
    return "mode must be 0 (best-class), 1 (class-agnostic) or 2 (multi-class)";
  if (config.iou_threshold != config.iou_threshold || config.score_threshold != config.score_threshold)
    return "iou_threshold and score_threshold must be numbers";
  if (!(config.sigma >= 0.0f && config.sigma <= 3.4e38f))
    return "sigma must be 0 (hard suppression) or a positive number";
  if (config.sigma > 0.0f && !(config.score_threshold >= 0.0f))
    return "soft suppression (sigma above 0) needs a score_threshold of at least 0";
  if (!(config.image_height > 0.0f && config.image_width > 0.0f))
    return "image_height and image_width must be positive";
  std::int64_t anchors = 0;
  for (std::int32_t level = 0; level < config.num_levels; ++level) {
    if (levels[level] < 0 || levels[level] > mostIndices)
      return "level_anchors must not be negative nor above 2^31";
    anchors += levels[level];
  }
  if (anchors > (mostIndices - 1) / config.num_classes)
    return "more pairs of anchor and class than an index of 32 bits can number";
  return nullptr;
}

constexpr float mostScale = 1e36f; // 255 times it is a number still, so that different integers stay different

// Copies quantisations; false when one makes no sense.
bool unitsOf(const detect_quantisation *given, std::size_t count, nms_host::AlignedInputs &inputs,
             std::vector<nms_host::Quantisation> &units) {
  const detect_quantisation *levels = inputs.array<detect_quantisation>(given, count);
  for (std::size_t level = 0; level < count; ++level) {
    const detect_quantisation &one = levels[level];
    if (!(one.scale > 0.0f && one.scale <= mostScale) || one.zero_point < -128 || one.zero_point > 127)
      return false;
    units.push_back({one.scale, one.zero_point});
  }
  return true;
}

std::size_t sizeOf(std::int32_t dtype) {
  return dtype == DETECT_FLOAT32 ? sizeof(float) : dtype == DETECT_INT8 ? sizeof(std::int8_t) : sizeof(std::uint16_t);
}

// Does every class that a caller names exist? A class is reported as its number and one.
bool classesExist(const std::int32_t *classes, std::size_t count, std::size_t number) {
  bool all = true;
  for (std::size_t i = 0; i < count; ++i)
    all &= static_cast<std::uint32_t>(classes[i]) < number; // a negative one is above all others
  return all;
}

} // namespace

extern "C" {

int32_t detect_interface(void) { return DETECT_INTERFACE; }

detect_handle *detect_create(const detect_config *config, char *error, int64_t error_size) {
  const char *what = "there is no configuration";
  if (config) {
    detect_config given;
    std::memcpy(&given, config, sizeof given);
    what = "anchors, level_anchors and at least one level are needed";
    if (given.anchors && given.level_anchors && given.num_levels >= 1) {
      try {
        nms_host::AlignedInputs inputs;
        const std::size_t count = static_cast<std::size_t>(given.num_levels);
        const std::int64_t *levels = inputs.array<std::int64_t>(given.level_anchors, count);
        what = complaint(given, levels);
        if (!what) {
          std::unique_ptr<detect_handle> handle(new detect_handle);
          std::size_t anchors = 0;
          for (std::size_t level = 0; level < count; ++level) {
            handle->levelAnchors.push_back(static_cast<std::size_t>(levels[level]));
            anchors += handle->levelAnchors.back();
          }
          handle->anchors.resize(anchors * 4);
          if (anchors)
            std::memcpy(handle->anchors.data(), given.anchors, anchors * 4 * sizeof(float));
          handle->classes = static_cast<std::size_t>(given.num_classes);
          handle->mode = static_cast<Mode>(given.mode);
          handle->options.iouThreshold = given.iou_threshold;
          handle->options.scoreThreshold = given.score_threshold;
          handle->options.sigma = given.sigma;
          handle->options.maxDetections = static_cast<std::uint32_t>(given.max_detections);
          handle->imageHeight = given.image_height;
          handle->imageWidth = given.image_width;
          handle->threads = static_cast<std::size_t>(given.threads);
          const bool quantised = given.class_quantisation && given.box_quantisation;
          if ((given.class_quantisation || given.box_quantisation) &&
              !(quantised && unitsOf(given.class_quantisation, count, inputs, handle->logitUnits) &&
                unitsOf(given.box_quantisation, count, inputs, handle->regressionUnits)))
            what = "a quantisation needs scales above 0, up to 1e36, and zero points of -128 to 127, of both kinds of outputs";
          else
            return handle.release();
        }
      } catch (const std::bad_alloc &) {
        what = "not enough memory";
      }
    }
  }
  if (error && error_size > 0)
    std::snprintf(error, static_cast<std::size_t>(error_size), "%s", what);
  return nullptr;
}

void detect_destroy(detect_handle *handle) { delete handle; }

int32_t detect_run(detect_handle *handle, const void *const *class_outputs, const int32_t *const *class_ids,
                   const void *const *box_outputs, int32_t dtype, int64_t batch, const float *scales, float *boxes,
                   float *scores, int32_t *classes, int32_t *indices, int32_t *lengths) {
  if (!handle || !class_outputs || !box_outputs || batch < 0 || dtype < DETECT_FLOAT32 || dtype > DETECT_INT8 ||
      (class_ids && handle->mode == Mode::multiClass) || (dtype == DETECT_INT8 && handle->logitUnits.empty()))
    return DETECT_BAD_ARGUMENT;
  if (batch > 0 && (!boxes || !scores || !classes || !indices || !lengths))
    return DETECT_BAD_ARGUMENT;
  if (batch > mostRows / static_cast<std::int64_t>(handle->options.maxDetections))
    return DETECT_BAD_ARGUMENT;
  try {
    nms_host::AlignedInputs inputs;
    nms_host::AlignedOutputs outputs;
    const std::size_t images = static_cast<std::size_t>(batch), rows = images * handle->options.maxDetections;
    const std::size_t size = sizeOf(dtype), values = class_ids ? 1 : handle->classes;
    const std::size_t count = handle->levelAnchors.size();
    // The lists of addresses are arrays of others, too.
    const auto *logits = inputs.array<const void *>(class_outputs, count);
    const auto *regressions = inputs.array<const void *>(box_outputs, count);
    const auto *ids = inputs.array<const std::int32_t *>(class_ids, count);
    nms_host::DetectCall call{};
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t anchors = images * handle->levelAnchors[i];
      const std::int32_t *labels = ids ? inputs.array<std::int32_t>(ids[i], anchors) : nullptr;
      if (labels && !classesExist(labels, anchors, handle->classes))
        return DETECT_BAD_CLASS;
      nms_host::Level level{};
      level.anchors = handle->levelAnchors[i];
      level.logits = inputs.at(logits[i], size, anchors * values * size);
      level.labels = labels;
      level.regressions = inputs.at(regressions[i], size, anchors * 4 * size);
      if (dtype == DETECT_INT8)
        level.logitUnits = handle->logitUnits[i], level.regressionUnits = handle->regressionUnits[i];
      call.heads.levels.push_back(level);
    }
    call.heads.type = static_cast<DType>(dtype);
    call.heads.batch = images;
    call.heads.classes = handle->classes;
    call.heads.anchors = handle->anchors.data();
    call.mode = handle->mode;
    call.options = handle->options;
    call.imageHeight = handle->imageHeight;
    call.imageWidth = handle->imageWidth;
    call.scales = inputs.array<float>(scales, images);
    call.outCorners = outputs.array(boxes, rows * 4);
    call.outScores = outputs.array(scores, rows);
    call.outClasses = outputs.array(classes, rows);
    call.outIndices = outputs.array(indices, rows);
    call.outLengths = outputs.array(lengths, images);
    const nms_host::ParallelFor parallelFor = [&](std::size_t count, const std::function<void(std::size_t)> &work) {
      runOnThreads(handle->threads, count, work);
    };
    const nms_host::Context context{handle->pool, parallelFor, handle->threads, {}};
    if (nms_host::detect(call, context) != nms_host::Outcome::done)
      return DETECT_OUT_OF_MEMORY;
    outputs.deliver();
    return DETECT_OK;
  } catch (const std::bad_alloc &) {
    return DETECT_OUT_OF_MEMORY;
  }
}
}
