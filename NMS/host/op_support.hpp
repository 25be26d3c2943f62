// SPDX-License-Identifier: Apache-2.0
//
// What the TensorFlow kernels of this folder share: attributes, element types, threads, cancellation, errors.
#pragma once

#include "aligned.hpp"
#include "pipeline.hpp"
#include "threads.hpp"

#include "tensorflow/core/framework/cancellation.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/lib/core/threadpool.h"

#include <algorithm>
#include <sstream>
#include <string>
#include <utility>

namespace nms_host {

// tensorflow::Status in older releases, absl::Status in newer ones; the numbers of the codes are the same.
using Status = std::decay<decltype(std::declval<tensorflow::OpKernelContext &>().status())>::type;
using StatusCode = decltype(std::declval<const Status &>().code());

inline Status failure(int code, const std::string &message) { return Status(static_cast<StatusCode>(code), message); }

// An error in the arguments: the parts of the message, joined.
template <typename... Parts> Status invalid(const Parts &...parts) {
  std::ostringstream text;
  (void)std::initializer_list<int>{(text << parts, 0)...};
  return failure(3, text.str());
}

inline DType dtypeOf(tensorflow::DataType type) {
  switch (type) {
  case tensorflow::DT_HALF: return DType::float16;
  case tensorflow::DT_BFLOAT16: return DType::bfloat16;
  default: return DType::float32; // the registration admits no others
  }
}

// The values of an input. Not flat(), which ends the process where a tensor is not aligned for vectors; slices and
// memory of others may not even be aligned for their type, and are copied then.
inline const void *dataOf(const tensorflow::Tensor &tensor, AlignedInputs &inputs) {
  const auto data = tensor.tensor_data();
  return inputs.at(data.data(), static_cast<std::size_t>(tensorflow::DataTypeSize(tensor.dtype())), data.size());
}

template <typename T> const T *dataOf(const tensorflow::Tensor &tensor, AlignedInputs &inputs) {
  return static_cast<const T *>(dataOf(tensor, inputs));
}

// How many values the dimensions from `first` on hold; -1 when that is more than 2^31, which no head gives.
inline std::int64_t valuesFrom(const tensorflow::TensorShape &shape, int first) {
  constexpr std::int64_t most = std::int64_t{1} << 31;
  std::int64_t values = 1;
  for (int i = first; i < shape.dims(); ++i) {
    if (shape.dim_size(i) != 0 && values > most / shape.dim_size(i))
      return -1;
    values *= shape.dim_size(i);
  }
  return values;
}

template <typename T = void> T *dataOf(tensorflow::Tensor *tensor) {
  return reinterpret_cast<T *>(const_cast<char *>(tensor->tensor_data().data()));
}

inline Mode modeOf(const std::string &name) {
  return name == "multi-class" ? Mode::multiClass : name == "class-agnostic" ? Mode::classAgnostic : Mode::bestClass;
}

// Reads the attributes that choose how boxes suppress one another. On an error the construction carries its status.
inline void readOptions(tensorflow::OpKernelConstruction *construction, Mode *mode, nms_core::Options *options) {
  std::string name;
  std::int32_t detections;
  OP_REQUIRES_OK(construction, construction->GetAttr("mode", &name));
  OP_REQUIRES_OK(construction, construction->GetAttr("iou_threshold", &options->iouThreshold));
  OP_REQUIRES_OK(construction, construction->GetAttr("score_threshold", &options->scoreThreshold));
  OP_REQUIRES_OK(construction, construction->GetAttr("sigma", &options->sigma));
  OP_REQUIRES_OK(construction, construction->GetAttr("num_detections", &detections));
  *mode = modeOf(name);
  options->maxDetections = static_cast<std::uint32_t>(detections);
  OP_REQUIRES(construction, options->iouThreshold == options->iouThreshold,
              invalid("iou_threshold is not a number: give one between 0 and 1."));
  OP_REQUIRES(construction, options->scoreThreshold == options->scoreThreshold,
              invalid("score_threshold is not a number: give one between 0 and 1."));
  OP_REQUIRES(construction, options->sigma >= 0.0f && options->sigma <= 3.4e38f,
              invalid("sigma must be 0 (hard suppression) or a positive number, got ", options->sigma, "."));
  OP_REQUIRES(construction, options->sigma == 0.0f || options->scoreThreshold >= 0.0f,
              invalid("soft suppression (sigma ", options->sigma,
                      ") multiplies scores, so negative ones would "
                      "rise: score_threshold must be at least 0, got ",
                      options->scoreThreshold, "."));
}

// Runs one of the pipeline's functions with the threads and the cancellation of a kernel's call.
template <typename Run> void runOn(tensorflow::OpKernelContext *context, WorkspacePool &pool, const Run &run) {
  const auto *workers = context->device()->tensorflow_cpu_worker_threads();
  const ParallelFor parallelFor = [&](std::size_t count, const std::function<void(std::size_t)> &work) {
    shareTasks(static_cast<std::size_t>(std::max(1, workers->num_threads)), count, work,
               [&](const std::function<void()> &help) { workers->workers->Schedule(help); });
  };
  Interrupt stop;
  stop.context = context->cancellation_manager();
  if (stop.context)
    stop.asked = [](void *manager) { return static_cast<tensorflow::CancellationManager *>(manager)->IsCancelled(); };
  const Outcome outcome =
      run(Context{pool, parallelFor, static_cast<std::size_t>(std::max(1, workers->num_threads)), stop});
  OP_REQUIRES(context, outcome != Outcome::interrupted, failure(1, "the detection was cancelled"));
  OP_REQUIRES(context, outcome != Outcome::outOfMemory,
              failure(8, "no memory for the candidates: raise the score threshold."));
}

} // namespace nms_host
