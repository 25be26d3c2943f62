// SPDX-License-Identifier: Apache-2.0
#include "libdetect.h"

#include "pipeline.hpp"
#include "threads.hpp"

#include <cstdio>
#include <new>
#include <thread>

struct detect_handle {
  std::vector<float> anchors;
  std::vector<std::size_t> levelAnchors;
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

// Null when the configuration is usable, else what is wrong with it.
const char *complaint(const detect_config &config) {
  if (!config.anchors || !config.level_anchors || config.num_levels < 1)
    return "anchors, level_anchors and at least one level are needed";
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
    if (config.level_anchors[level] < 0 || config.level_anchors[level] > (std::int64_t{1} << 31))
      return "level_anchors must not be negative nor above 2^31";
    anchors += config.level_anchors[level];
  }
  if (anchors * config.num_classes >= (std::int64_t{1} << 31))
    return "more pairs of anchor and class than an index of 32 bits can number";
  return nullptr;
}

} // namespace

extern "C" {

int32_t detect_interface(void) { return DETECT_INTERFACE; }

detect_handle *detect_create(const detect_config *config, char *error, int64_t error_size) {
  const char *what = config ? complaint(*config) : "there is no configuration";
  if (!what) {
    try {
      std::unique_ptr<detect_handle> handle(new detect_handle);
      std::size_t anchors = 0;
      for (std::int32_t level = 0; level < config->num_levels; ++level) {
        handle->levelAnchors.push_back(static_cast<std::size_t>(config->level_anchors[level]));
        anchors += handle->levelAnchors.back();
      }
      handle->anchors.assign(config->anchors, config->anchors + anchors * 4);
      handle->classes = static_cast<std::size_t>(config->num_classes);
      handle->mode = static_cast<Mode>(config->mode);
      handle->options.iouThreshold = config->iou_threshold;
      handle->options.scoreThreshold = config->score_threshold;
      handle->options.sigma = config->sigma;
      handle->options.maxDetections = static_cast<std::uint32_t>(config->max_detections);
      handle->imageHeight = config->image_height;
      handle->imageWidth = config->image_width;
      handle->threads = static_cast<std::size_t>(config->threads);
      return handle.release();
    } catch (const std::bad_alloc &) {
      what = "not enough memory";
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
  if (!handle || !class_outputs || !box_outputs || batch < 0 || dtype < DETECT_FLOAT32 || dtype > DETECT_BFLOAT16 ||
      (class_ids && handle->mode == Mode::multiClass))
    return DETECT_BAD_ARGUMENT;
  if (batch > 0 && (!boxes || !scores || !classes || !indices || !lengths))
    return DETECT_BAD_ARGUMENT;
  try {
    nms_host::DetectCall call{};
    for (std::size_t i = 0; i < handle->levelAnchors.size(); ++i)
      call.heads.levels.push_back(
          {handle->levelAnchors[i], class_outputs[i], class_ids ? class_ids[i] : nullptr, box_outputs[i]});
    call.heads.type = static_cast<DType>(dtype);
    call.heads.batch = static_cast<std::size_t>(batch);
    call.heads.classes = handle->classes;
    call.heads.anchors = handle->anchors.data();
    call.mode = handle->mode;
    call.options = handle->options;
    call.imageHeight = handle->imageHeight;
    call.imageWidth = handle->imageWidth;
    call.scales = scales;
    call.outCorners = boxes;
    call.outScores = scores;
    call.outClasses = classes;
    call.outIndices = indices;
    call.outLengths = lengths;
    const nms_host::ParallelFor parallelFor = [&](std::size_t count, const std::function<void(std::size_t)> &work) {
      runOnThreads(handle->threads, count, work);
    };
    const nms_host::Context context{handle->pool, parallelFor, handle->threads, {}};
    return nms_host::detect(call, context) == nms_host::Outcome::done ? DETECT_OK : DETECT_OUT_OF_MEMORY;
  } catch (const std::bad_alloc &) {
    return DETECT_OUT_OF_MEMORY;
  }
}
}
