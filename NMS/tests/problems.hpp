// SPDX-License-Identifier: Apache-2.0
//
// Problems for the host library out of a stream of numbers (a seeded generator, or what a fuzzer gives), and the check
// of every answer against the textbook loop.
#pragma once

#include "../detect_core.hpp"
#include "../host/pipeline.hpp"
#include "../host/threads.hpp"

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace nms_test {

using namespace nms_host;
using nms_core::Options;

// Where the choices come from: a seeded generator, behind the bytes of a fuzzer if there are any. The fuzzer then
// decides about shapes and options with few bytes, and values are never just the zeros that follow their end.
class Source {
public:
  explicit Source(std::uint32_t seed) : generator_(seed), data_(nullptr), size_(0) {}
  Source(const std::uint8_t *data, std::size_t size) : generator_(digest(data, size)), data_(data), size_(size) {}

  std::uint32_t bits() {
    if (size_ < 4)
      return generator_();
    std::uint32_t value;
    std::memcpy(&value, data_, 4);
    data_ += 4;
    size_ -= 4;
    return value;
  }

  std::uint32_t below(std::uint32_t bound) { return bits() % bound; }
  float unit() { return static_cast<float>(bits() >> 8) / 16777216.0f; }
  float choice(std::initializer_list<float> values) {
    return values.begin()[below(static_cast<std::uint32_t>(values.size()))];
  }

private:
  static std::uint32_t digest(const std::uint8_t *data, std::size_t size) {
    std::uint32_t value = 2166136261u; // FNV-1a
    for (std::size_t i = 0; i < size; ++i)
      value = (value ^ data[i]) * 16777619u;
    return value;
  }

  std::mt19937 generator_;
  const std::uint8_t *data_;
  std::size_t size_; // bytes left
};

constexpr float inf = std::numeric_limits<float>::infinity();

// Values where rounding, order and overlap are interesting, and now and then any pattern of bits.
inline float score(Source &source) {
  switch (source.below(8)) {
  case 0: return source.choice({0.0f, 1.0f, 0.5f, -0.0f, -1.0f});
  case 1: return floatOf(source.bits());
  case 2: return static_cast<float>(source.below(8)) / 8.0f; // ties
  default: return source.unit();
  }
}

inline float logit(Source &source) {
  switch (source.below(8)) {
  case 0: return floatOf(source.bits());
  case 1: return source.choice({0.0f, -0.0f, 100.0f, -100.0f, 17.5f, -88.0f, inf, -inf});
  default: return source.unit() * 12.0f - 7.0f;
  }
}

inline float coordinate(Source &source) {
  switch (source.below(16)) {
  case 0: return floatOf(source.bits());
  case 1: return source.choice({0.0f, 1e30f, -1e30f, 1e-30f, 1e-42f, inf});
  default: return static_cast<float>(source.below(12)); // whole numbers: equal, touching and nested boxes
  }
}

inline float regression(Source &source) {
  return source.below(16) == 0 ? floatOf(source.bits()) : source.unit() * 2.0f - 1.0f;
}

struct Problem {
  DType type;
  Mode mode;
  Options options;
  std::size_t batch, classes, threads;
  std::vector<std::size_t> levels; // anchors of each
};

inline Problem makeProblem(Source &source) {
  Problem problem;
  problem.type = static_cast<DType>(source.below(3));
  problem.mode = static_cast<Mode>(source.below(3));
  problem.batch = source.below(4);
  problem.classes = source.below(4) ? 1 + source.below(6) : 1 + source.below(100);
  problem.threads = 1 + source.below(3);
  for (std::uint32_t i = source.below(4); problem.levels.size() <= i;)
    problem.levels.push_back(source.below(3) ? source.below(12) : source.below(70));
  Options &options = problem.options;
  options.maxDetections = source.below(3) ? 1 + source.below(8) : 1 + source.below(120);
  options.iouThreshold = source.below(3) ? source.choice({0.0f, 1.0f, 0.5f, 0.25f, 1.0f / 3.0f}) : source.unit();
  options.sigma = source.below(2) ? 0.0f : source.choice({0.5f, 0.1f, 1e-40f, 1e30f, 2.0f});
  options.scoreThreshold = source.below(3) ? source.unit() : source.choice({0.0f, 1.0f, 1e-38f, 0.9999999f, 0.5f});
  if (options.sigma == 0.0f && source.below(4) == 0)
    options.scoreThreshold = source.choice({-inf, -1.0f, inf});
  return problem;
}

// One image's answer of the textbook loop: take the best candidate, lower or remove the others, repeat.
struct Row {
  std::size_t index;
  float score;
};

template <typename LabelAt, typename BoxAt>
std::vector<Row> textbook(std::vector<float> scores, const Options &options, bool byClass, const LabelAt &labelAt,
                          const BoxAt &boxAt) {
  const nms_core::Suppression suppression(options);
  std::vector<bool> taken(scores.size(), false);
  std::vector<Row> rows;
  while (rows.size() < options.maxDetections) {
    std::size_t best = scores.size();
    for (std::size_t i = 0; i < scores.size(); ++i)
      if (!taken[i] && nms_core::isCandidate(scores[i], options.scoreThreshold) &&
          (best == scores.size() || scores[i] > scores[best]))
        best = i;
    if (best == scores.size())
      break;
    taken[best] = true;
    rows.push_back({best, scores[best]});
    for (std::size_t i = 0; i < scores.size(); ++i)
      if (!taken[i] && nms_core::isCandidate(scores[i], options.scoreThreshold) &&
          (!byClass || labelAt(i) == labelAt(best)))
        scores[i] = suppression.apply(scores[i], nms_core::iou(boxAt(i), boxAt(best)));
  }
  return rows;
}

// Runs a call on real threads.
template <typename Run>
Outcome runWith(std::size_t threads, WorkspacePool &pool, const Interrupt &stop, const Run &run) {
  const ParallelFor parallelFor = [&](std::size_t count, const std::function<void(std::size_t)> &work) {
    std::vector<std::thread> helpers;
    shareTasks(threads, count, work, [&](const std::function<void()> &help) { helpers.emplace_back(help); });
    for (std::thread &helper : helpers)
      helper.join();
  };
  return run(Context{pool, parallelFor, threads, stop});
}

// Equal bit by bit, any NaN equal to any other.
inline bool same(float a, float b) { return bitsOf(a) == bitsOf(b) || (a != a && b != b); }

template <typename T> std::vector<T> values(Source &source, std::size_t count, float (*make)(Source &)) {
  std::vector<T> result(count);
  for (T &value : result)
    value = T(make(source));
  return result;
}

// Each check returns an empty text, or what is wrong.
template <typename T> std::string checkNms(const Problem &problem, Source &source) {
  const bool multi = problem.mode == Mode::multiClass;
  const std::size_t boxes = problem.levels[0], classes = multi ? problem.classes : 1,
                    rows = problem.options.maxDetections;
  const std::vector<T> scores = values<T>(source, problem.batch * boxes * classes, score);
  const std::vector<T> corners = values<T>(source, problem.batch * boxes * 4, coordinate);
  std::vector<std::int32_t> labels(problem.batch * boxes);
  for (std::int32_t &label : labels)
    label =
        source.below(16) ? static_cast<std::int32_t>(source.below(3)) * 256 : static_cast<std::int32_t>(source.bits());
  std::vector<std::int32_t> indices(problem.batch * rows), outLabels(problem.batch * rows), lengths(problem.batch);
  std::vector<T> outScores(problem.batch * rows), outCorners(problem.batch * rows * 4);
  const NmsCall call{problem.type,
                     problem.mode,
                     problem.options,
                     problem.batch,
                     boxes,
                     classes,
                     scores.data(),
                     corners.data(),
                     multi ? nullptr : labels.data(),
                     indices.data(),
                     outScores.data(),
                     outCorners.data(),
                     outLabels.data(),
                     lengths.data()};
  WorkspacePool pool;
  if (runWith(problem.threads, pool, {}, [&](const Context &context) { return nms(call, context); }) != Outcome::done)
    return "nms: not done";
  for (std::size_t image = 0; image < problem.batch; ++image) {
    const std::size_t first = image * boxes;
    const std::vector<float> ofImage(scores.begin() + static_cast<std::ptrdiff_t>(first * classes),
                                     scores.begin() + static_cast<std::ptrdiff_t>((first + boxes) * classes));
    const auto labelAt = [&](std::size_t i) {
      return multi ? static_cast<std::int32_t>(i % classes) : labels[first + i];
    };
    const auto boxAt = [&](std::size_t i) { return nms_core::makeBox(corners.data() + (first + i / classes) * 4); };
    const std::vector<Row> expected =
        textbook(ofImage, problem.options, problem.mode != Mode::classAgnostic, labelAt, boxAt);
    if (lengths[image] != static_cast<std::int32_t>(expected.size()))
      return "nms: another number of detections";
    for (std::size_t i = 0; i < rows; ++i) {
      const std::size_t row = image * rows + i;
      const bool used = i < expected.size();
      if (indices[row] != (used ? static_cast<std::int32_t>(expected[i].index) : nms_core::unusedIndex))
        return "nms: another box";
      if (outLabels[row] != (used ? labelAt(expected[i].index) : nms_core::unusedClass))
        return "nms: another class";
      if (!same(static_cast<float>(outScores[row]), static_cast<float>(T(used ? expected[i].score : 0.0f))))
        return "nms: another score";
      for (std::size_t k = 0; k < 4; ++k) {
        const T wanted = used ? corners[(first + expected[i].index / classes) * 4 + k] : T(0.0f);
        if (!same(static_cast<float>(outCorners[row * 4 + k]), static_cast<float>(wanted)))
          return "nms: other corners";
      }
    }
  }
  return "";
}

// Inputs and outputs of detect() in memory of their own.
template <typename T> struct DetectMemory {
  std::vector<std::vector<T>> logits, regressions;
  std::vector<float> anchors, scales, corners, scores;
  std::vector<std::int32_t> classes, indices, lengths;
  DetectCall call;

  DetectMemory(const Problem &problem, Source &source) {
    std::size_t total = 0;
    call.heads = {problem.type, problem.batch, problem.classes, {}, nullptr};
    for (std::size_t count : problem.levels) {
      logits.push_back(values<T>(source, problem.batch * count * problem.classes, logit));
      regressions.push_back(values<T>(source, problem.batch * count * 4, regression));
      call.heads.levels.push_back({count, logits.back().data(), nullptr, regressions.back().data()});
      total += count;
    }
    for (std::size_t i = 0; i < total; ++i) {
      const float y = static_cast<float>(source.below(20)), x = static_cast<float>(source.below(20));
      anchors.insert(anchors.end(), {y, x, y + 1.0f + static_cast<float>(source.below(9)), x + 5.0f});
    }
    for (std::size_t i = 0; i < problem.batch; ++i)
      scales.push_back(source.unit() * 3.0f);
    const std::size_t rows = problem.batch * problem.options.maxDetections;
    corners.resize(rows * 4), scores.resize(rows), classes.resize(rows), indices.resize(rows),
        lengths.resize(problem.batch);
    call.heads.anchors = anchors.data();
    call.mode = problem.mode;
    call.options = problem.options;
    call.imageHeight = 16.0f, call.imageWidth = 24.0f;
    call.scales = source.below(2) ? scales.data() : nullptr;
    call.outCorners = corners.data(), call.outScores = scores.data(), call.outClasses = classes.data();
    call.outIndices = indices.data(), call.outLengths = lengths.data();
  }
  DetectMemory(const DetectMemory &) = delete;
  DetectMemory &operator=(const DetectMemory &) = delete;
};

// The fused way against decode(), nms(), clipping and scaling one after the other.
template <typename T> std::string checkDetect(const Problem &problem, Source &source) {
  DetectMemory<T> memory(problem, source);
  const DetectCall &call = memory.call;
  WorkspacePool pool;
  if (runWith(problem.threads, pool, {}, [&](const Context &context) { return detect(call, context); }) !=
      Outcome::done)
    return "detect: not done";

  const bool multi = problem.mode == Mode::multiClass;
  const std::size_t batch = problem.batch, total = memory.anchors.size() / 4, rows = problem.options.maxDetections;
  const std::size_t perAnchor = multi ? problem.classes : 1;
  std::vector<float> scores(batch * total * perAnchor), corners(batch * total * 4);
  std::vector<std::int32_t> labels(multi ? 0 : batch * total);
  const DecodeCall decodeCall{call.heads, problem.mode, scores.data(), corners.data(), multi ? nullptr : labels.data()};
  std::vector<float> outScores(batch * rows), outCorners(batch * rows * 4);
  std::vector<std::int32_t> outLabels(batch * rows), indices(batch * rows), lengths(batch);
  const NmsCall nmsCall{DType::float32,
                        problem.mode,
                        problem.options,
                        batch,
                        total,
                        perAnchor,
                        scores.data(),
                        corners.data(),
                        multi ? nullptr : labels.data(),
                        indices.data(),
                        outScores.data(),
                        outCorners.data(),
                        outLabels.data(),
                        lengths.data()};
  const auto both = [&](const Context &context) {
    const Outcome outcome = decode(decodeCall, context);
    return outcome == Outcome::done ? nms(nmsCall, context) : outcome;
  };
  if (runWith(problem.threads, pool, {}, both) != Outcome::done)
    return "decode and nms: not done";
  if (lengths != memory.lengths || indices != memory.indices)
    return "detect: other detections than decode and nms";
  for (std::size_t row = 0; row < batch * rows; ++row) {
    const bool used = indices[row] != nms_core::unusedIndex;
    if (memory.classes[row] != (used ? outLabels[row] + 1 : 0) || !same(memory.scores[row], outScores[row]))
      return "detect: another class or score than decode and nms";
    const float *box = outCorners.data() + row * 4;
    const float scale = call.scales ? call.scales[row / rows] : 1.0f;
    const nms_core::Corners wanted =
        used ? nms_core::clipAndScale({box[0], box[1], box[2], box[3]}, call.imageHeight, call.imageWidth, scale)
             : nms_core::Corners{0.0f, 0.0f, 0.0f, 0.0f};
    const float *got = memory.corners.data() + row * 4;
    if (!same(got[0], wanted.y1) || !same(got[1], wanted.x1) || !same(got[2], wanted.y2) || !same(got[3], wanted.x2))
      return "detect: another box than decode and nms";
  }
  return "";
}

template <typename T> std::string checkBoth(const Problem &problem, Source &source) {
  const std::string complaint = checkNms<T>(problem, source);
  return complaint.empty() ? checkDetect<T>(problem, source) : complaint;
}

// One problem of each kind, out of the source.
inline std::string checkOne(Source &source) {
  const Problem problem = makeProblem(source);
  switch (problem.type) {
  case DType::float16: return checkBoth<Half>(problem, source);
  case DType::bfloat16: return checkBoth<BFloat16>(problem, source);
  default: break;
  }
  return checkBoth<float>(problem, source);
}

} // namespace nms_test
