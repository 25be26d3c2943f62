// SPDX-License-Identifier: Apache-2.0
//
// Tests of the host library in C++, made to run under sanitizers: `make sanitize`.
#include "../host/libdetect.h"
#include "../host/scan.hpp"
#include "problems.hpp"

#include <cstdio>
#include <cstdlib>

namespace {

using namespace nms_test;

int failures = 0;

#define CHECK(condition)                                          \
  do {                                                            \
    if (!(condition)) {                                           \
      std::printf("%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      ++failures;                                                 \
    }                                                             \
  } while (false)

float overlap(const std::vector<float> &a, const std::vector<float> &b) { return nms_core::iou(a.data(), b.data()); }

void iouIsTheSharedPartOfTheUnion() {
  CHECK(overlap({0, 0, 2, 2}, {0, 0, 2, 2}) == 1.0f);
  CHECK(overlap({0, 0, 2, 2}, {0, 1, 2, 3}) == 2.0f / 6.0f);
  CHECK(overlap({0, 1, 2, 3}, {0, 0, 2, 2}) == 2.0f / 6.0f);
  CHECK(overlap({0, 0, 2, 2}, {0, 2, 2, 4}) == 0.0f);        // touching
  CHECK(overlap({2, 2, 0, 0}, {0, 3, 2, 1}) == 2.0f / 6.0f); // corners in any order
}

void boxesThatCannotBeMeasuredOverlapNothing() {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(overlap({1, 1, 1, 3}, {0, 0, 4, 4}) == 0.0f);
  CHECK(overlap({1, 1, 1, 1}, {1, 1, 1, 1}) == 0.0f);
  for (int k = 0; k < 4; ++k) {
    std::vector<float> box = {0, 0, 2, 2};
    box[static_cast<std::size_t>(k)] = nan;
    CHECK(overlap(box, {0, 0, 2, 2}) == 0.0f);
    CHECK(overlap({0, 0, 2, 2}, box) == 0.0f);
  }
  CHECK(overlap({-inf, -inf, inf, inf}, {-inf, -inf, inf, inf}) == 0.0f);
  CHECK(overlap({-1e30f, -1e30f, 1e30f, 1e30f}, {-1e30f, -1e30f, 1e30f, 1e30f}) == 0.0f); // the area overflows
}

void areasDoNotOverflowInHalf() {
  const Half big[4] = {Half(0.0f), Half(0.0f), Half(512.0f), Half(512.0f)};
  const Half most[4] = {Half(0.0f), Half(0.0f), Half(512.0f), Half(384.0f)};
  CHECK(nms_core::iou(big, most) == 0.75f);
}

template <typename T> void conversionsRoundToNearest(float smallest, int mantissaBits) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const T value(static_cast<std::uint16_t>(bits));
    const float wide = static_cast<float>(value);
    if (wide != wide)
      CHECK(static_cast<float>(T(wide)) != static_cast<float>(T(wide)));
    else
      CHECK(T(wide).bits == bits);
  }
  Source source(7);
  for (int i = 0; i < 200000; ++i) {
    const float value = floatOf(source.bits());
    if (!(std::fabs(value) > smallest && std::fabs(value) < 60000.0f))
      continue;
    const float error = std::fabs(static_cast<float>(T(value)) - value);
    int exponent;
    std::frexp(value, &exponent);
    CHECK(error <= std::ldexp(0.5f, std::max(exponent - mantissaBits, -23)));
  }
}

void halvesOverflowAndTieAsTheStandardSays() {
  CHECK(Half(65504.0f).bits == 0x7bff && Half(65519.9f).bits == 0x7bff && Half(65520.0f).bits == 0x7c00);
  CHECK(Half(1.0f + 1.0f / 2048).bits == 0x3c00 && Half(1.0f + 3.0f / 2048).bits == 0x3c02); // ties go to even
  CHECK(Half(std::ldexp(1.0f, -25)).bits == 0 && Half(std::ldexp(1.5f, -25)).bits == 1);
  CHECK(BFloat16(3.4e38f).bits == 0x7f80 && BFloat16(-0.0f).bits == 0x8000);
}

template <typename T> void scansAgreeWithPlainLoops() {
  Source source(11);
  for (int turn = 0; turn < 3000; ++turn) {
    const std::size_t size = 1 + source.below(turn % 3 ? 20 : 200), rows = source.below(40);
    std::vector<T> data = values<T>(source, size * rows, turn % 2 ? logit : score);
    const float limit = source.below(2) ? logit(source) : source.choice({-inf, inf, 0.0f, 0.5f, 70000.0f, -70000.0f});
    if (limit != limit)
      continue;
    std::vector<bool> visited(rows, false);
    forEachRowAbove(data.data(), rows, size, limit, [&](std::size_t row) {
      CHECK(!visited[row]);
      visited[row] = true;
    });
    for (std::size_t row = 0; row < rows; ++row) {
      bool above = false;
      for (std::size_t i = 0; i < size; ++i)
        above |= static_cast<float>(data[row * size + i]) > limit;
      CHECK(visited[row] || !above);
      CHECK(fastArgMax(data.data() + row * size, size) == nms_core::argMax(data.data() + row * size, size));
    }
  }
}

void scansPassOverRowsThatHoldNothing() {
  const std::vector<float> data(90 * 1000, -4.0f);
  forEachRowAbove(data.data(), 1000, 90, 0.0f, [](std::size_t) { CHECK(!"no row is above"); });
}

void answersAreThoseOfTheTextbook() {
  for (std::uint32_t seed = 0; seed < 6000; ++seed) {
    Source source(seed);
    const std::string complaint = checkOne(source);
    if (!complaint.empty()) {
      std::printf("seed %u: %s\n", seed, complaint.c_str());
      ++failures;
    }
  }
}

void everyCallCanBeInterrupted() {
  Problem problem{DType::float32, Mode::bestClass, {}, 2, 3, 2, {40, 20}};
  Source source(5);
  DetectMemory<float> memory(problem, source);
  WorkspacePool pool;
  int asked = 0;
  Interrupt stop;
  stop.context = &asked;
  stop.asked = [](void *) { return true; };
  CHECK(runWith(1, pool, stop, [&](const Context &c) { return detect(memory.call, c); }) == Outcome::interrupted);
  CHECK(runWith(2, pool, stop, [&](const Context &c) { return detect(memory.call, c); }) == Outcome::interrupted);
  // Some way into the scan, into the selection and just before the end.
  stop.asked = [](void *count) { return ++*static_cast<int *>(count) > 9; };
  CHECK(runWith(1, pool, stop, [&](const Context &c) { return detect(memory.call, c); }) == Outcome::interrupted);
}

void longSelectionsCanBeInterrupted() {
  const std::size_t count = 2000;
  Workspace space;
  for (std::size_t i = 0; i < count; ++i)
    space.candidates.push_back({0.5f, static_cast<std::int32_t>(i), 0, -1});
  Interrupt stop;
  stop.asked = [](void *) { return true; };
  const auto boxAt = [](std::int32_t i) {
    const float y = static_cast<float>(i) * 2.0f, corners[4] = {y, 0.0f, y + 1.0f, 1.0f};
    return nms_core::makeBox(corners);
  };
  Options options;
  options.maxDetections = 2000;
  CHECK(!select(space, options, true, boxAt, stop));
  CHECK(space.kept.size() < count);
}

detect_config configOf(const DetectMemory<float> &memory, const Problem &problem,
                       const std::vector<std::int64_t> &levels) {
  detect_config config{};
  config.anchors = memory.anchors.data();
  config.level_anchors = levels.data();
  config.num_levels = static_cast<std::int32_t>(levels.size());
  config.num_classes = static_cast<std::int32_t>(problem.classes);
  config.mode = static_cast<std::int32_t>(problem.mode);
  config.max_detections = static_cast<std::int32_t>(problem.options.maxDetections);
  config.iou_threshold = problem.options.iouThreshold;
  config.score_threshold = problem.options.scoreThreshold;
  config.sigma = problem.options.sigma;
  config.image_height = memory.call.imageHeight;
  config.image_width = memory.call.imageWidth;
  config.threads = static_cast<std::int32_t>(problem.threads);
  return config;
}

void theCInterfaceDetectsTheSame() {
  Problem problem{DType::float32, Mode::bestClass, {}, 3, 5, 2, {60, 24, 6}};
  problem.options.maxDetections = 20;
  problem.options.scoreThreshold = 0.3f;
  Source source(21);
  DetectMemory<float> memory(problem, source);
  WorkspacePool pool;
  CHECK(runWith(1, pool, {}, [&](const Context &c) { return detect(memory.call, c); }) == Outcome::done);

  const std::vector<std::int64_t> levels(problem.levels.begin(), problem.levels.end());
  char error[100] = "";
  detect_config config = configOf(memory, problem, levels);
  detect_handle *handle = detect_create(&config, error, sizeof error);
  CHECK(handle && detect_interface() == DETECT_INTERFACE);
  std::vector<const void *> logits, regressions;
  std::vector<std::vector<float>> maxima;
  std::vector<std::vector<std::int32_t>> labels;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    logits.push_back(memory.logits[i].data());
    regressions.push_back(memory.regressions[i].data());
    maxima.emplace_back(), labels.emplace_back();
    for (std::size_t row = 0; row < memory.logits[i].size(); row += problem.classes) {
      const std::size_t label = nms_core::argMax(memory.logits[i].data() + row, problem.classes);
      maxima.back().push_back(memory.logits[i][row + label]);
      labels.back().push_back(static_cast<std::int32_t>(label));
    }
  }
  std::vector<const void *> best;
  std::vector<const std::int32_t *> ids;
  for (std::size_t i = 0; i < levels.size(); ++i)
    best.push_back(maxima[i].data()), ids.push_back(labels[i].data());
  for (bool reduced : {false, true}) {
    std::vector<float> corners(memory.corners.size()), scores(memory.scores.size());
    std::vector<std::int32_t> classes(memory.classes.size()), indices(classes.size()), lengths(memory.lengths.size());
    CHECK(detect_run(handle, reduced ? best.data() : logits.data(), reduced ? ids.data() : nullptr, regressions.data(),
                     DETECT_FLOAT32, 3, memory.call.scales, corners.data(), scores.data(), classes.data(),
                     indices.data(), lengths.data()) == DETECT_OK);
    CHECK(lengths == memory.lengths && indices == memory.indices && classes == memory.classes);
    for (std::size_t i = 0; i < corners.size(); ++i)
      CHECK(same(corners[i], memory.corners[i]) && same(scores[i / 4], memory.scores[i / 4]));
  }
  CHECK(detect_run(handle, logits.data(), nullptr, regressions.data(), 7, 3, nullptr, nullptr, nullptr, nullptr,
                   nullptr, nullptr) == DETECT_BAD_ARGUMENT);
  CHECK(detect_run(handle, logits.data(), nullptr, regressions.data(), 0, 0, nullptr, nullptr, nullptr, nullptr,
                   nullptr,
                   nullptr) == DETECT_OK); // an empty batch
  detect_destroy(handle);
  detect_destroy(nullptr);

  const auto refused = [&](void (*spoil)(detect_config &)) {
    detect_config bad = config;
    spoil(bad);
    error[0] = 0;
    return detect_create(&bad, error, sizeof error) == nullptr && error[0] != 0;
  };
  CHECK(refused([](detect_config &c) { c.anchors = nullptr; }));
  CHECK(refused([](detect_config &c) { c.mode = 3; }));
  CHECK(refused([](detect_config &c) { c.max_detections = 0; }));
  CHECK(refused([](detect_config &c) { c.sigma = -1.0f; }));
  CHECK(refused([](detect_config &c) { c.sigma = 0.5f, c.score_threshold = -1.0f; }));
  CHECK(refused([](detect_config &c) { c.iou_threshold = std::numeric_limits<float>::quiet_NaN(); }));
  CHECK(refused([](detect_config &c) { c.image_height = 0.0f; }));
}

// Integers against the floats that they stand for, bit for bit, in every mode.
void integersDetectTheSameAsWhatTheyStandFor() {
  for (std::uint32_t seed = 0; seed < 600; ++seed) {
    Source source(seed);
    Problem problem = makeProblem(source);
    problem.type = DType::float32;
    problem.batch = 1 + seed % 2;
    DetectMemory<float> memory(problem, source);
    const std::size_t count = problem.levels.size();
    std::vector<std::vector<std::int8_t>> logits(count), regressions(count);
    std::vector<detect_quantisation> logitUnits, regressionUnits;
    std::vector<const void *> logitsAt, regressionsAt, floatLogitsAt, floatRegressionsAt;
    const auto quantise = [&](std::vector<float> &values, std::vector<std::int8_t> &stored,
                              std::vector<detect_quantisation> &units, std::vector<const void *> &at,
                              std::vector<const void *> &floatsAt) {
      const detect_quantisation unit{source.choice({0.001f, 0.05f, 0.0471f, 1.0f, 6e35f}) * (0.5f + source.unit()),
                                     static_cast<std::int32_t>(source.below(256)) - 128};
      for (float &value : values) {
        stored.push_back(static_cast<std::int8_t>(static_cast<int>(source.below(256)) - 128));
        value = static_cast<float>(stored.back() - unit.zero_point) * unit.scale;
      }
      units.push_back(unit);
      at.push_back(stored.data());
      floatsAt.push_back(values.data());
    };
    for (std::size_t i = 0; i < count; ++i) {
      quantise(memory.logits[i], logits[i], logitUnits, logitsAt, floatLogitsAt);
      quantise(memory.regressions[i], regressions[i], regressionUnits, regressionsAt, floatRegressionsAt);
    }
    const std::vector<std::int64_t> levels(problem.levels.begin(), problem.levels.end());
    detect_config config = configOf(memory, problem, levels);
    config.class_quantisation = logitUnits.data();
    config.box_quantisation = regressionUnits.data();
    char error[100] = "";
    detect_handle *handle = detect_create(&config, error, sizeof error);
    if (!handle) { // such as sigma with a threshold of minus infinity
      CHECK(error[0] != 0);
      continue;
    }
    const std::size_t rows = problem.batch * problem.options.maxDetections;
    struct Answer {
      std::vector<float> corners, scores;
      std::vector<std::int32_t> classes, indices, lengths;
    };
    const auto answer = [&](std::int32_t type, const std::vector<const void *> &classOutputs,
                            const std::vector<const void *> &boxOutputs) {
      Answer found{std::vector<float>(rows * 4), std::vector<float>(rows), std::vector<std::int32_t>(rows),
                   std::vector<std::int32_t>(rows), std::vector<std::int32_t>(problem.batch)};
      CHECK(detect_run(handle, classOutputs.data(), nullptr, boxOutputs.data(), type,
                       static_cast<std::int64_t>(problem.batch), memory.call.scales, found.corners.data(),
                       found.scores.data(), found.classes.data(), found.indices.data(),
                       found.lengths.data()) == DETECT_OK);
      return found;
    };
    const Answer ours = answer(DETECT_INT8, logitsAt, regressionsAt);
    const Answer floats = answer(DETECT_FLOAT32, floatLogitsAt, floatRegressionsAt);
    CHECK(ours.lengths == floats.lengths && ours.indices == floats.indices && ours.classes == floats.classes);
    for (std::size_t i = 0; i < ours.corners.size(); ++i)
      CHECK(same(ours.corners[i], floats.corners[i]) && same(ours.scores[i / 4], floats.scores[i / 4]));
    detect_destroy(handle);
  }
}

void quantisationsThatMakeNoSenseAreRefused() {
  const float anchors[4] = {0.0f, 0.0f, 1.0f, 1.0f};
  const std::int64_t levels = 1;
  detect_config config{};
  config.anchors = anchors, config.level_anchors = &levels, config.num_levels = 1, config.num_classes = 1;
  config.max_detections = 1, config.threads = 1, config.image_height = 1.0f, config.image_width = 1.0f;
  char error[200] = "";
  const auto made = [&](const detect_quantisation *of_classes, const detect_quantisation *of_boxes) {
    config.class_quantisation = of_classes, config.box_quantisation = of_boxes;
    detect_handle *handle = detect_create(&config, error, sizeof error);
    detect_destroy(handle);
    return handle != nullptr;
  };
  const detect_quantisation good{0.1f, -128};
  CHECK(made(&good, &good) && made(nullptr, nullptr));
  CHECK(!made(&good, nullptr) && !made(nullptr, &good));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const detect_quantisation &bad : {detect_quantisation{0.0f, 0}, detect_quantisation{-1.0f, 0},
                                         detect_quantisation{nan, 0}, detect_quantisation{2e36f, 0},
                                         detect_quantisation{1.0f, 128}, detect_quantisation{1.0f, -129}})
    CHECK(!made(&bad, &good) && !made(&good, &bad));
  // Integers are nothing to a handle that does not know what they stand for.
  config.class_quantisation = nullptr, config.box_quantisation = nullptr;
  detect_handle *handle = detect_create(&config, error, sizeof error);
  const std::int8_t stored[4] = {0, 0, 0, 0};
  const void *at = stored;
  float corners[4], score;
  std::int32_t number, index, length;
  CHECK(detect_run(handle, &at, nullptr, &at, DETECT_INT8, 1, nullptr, corners, &score, &number, &index, &length) ==
        DETECT_BAD_ARGUMENT);
  detect_destroy(handle);
}

} // namespace

int main() {
  iouIsTheSharedPartOfTheUnion();
  boxesThatCannotBeMeasuredOverlapNothing();
  areasDoNotOverflowInHalf();
  conversionsRoundToNearest<Half>(1e-7f, 11);
  conversionsRoundToNearest<BFloat16>(1e-30f, 8);
  halvesOverflowAndTieAsTheStandardSays();
  scansAgreeWithPlainLoops<float>();
  scansAgreeWithPlainLoops<Half>();
  scansAgreeWithPlainLoops<BFloat16>();
  scansPassOverRowsThatHoldNothing();
  answersAreThoseOfTheTextbook();
  everyCallCanBeInterrupted();
  longSelectionsCanBeInterrupted();
  theCInterfaceDetectsTheSame();
  integersDetectTheSameAsWhatTheyStandFor();
  quantisationsThatMakeNoSenseAreRefused();
  if (failures == 0)
    std::printf("all tests of the host library passed\n");
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
