// SPDX-License-Identifier: Apache-2.0
//
// Calls of libdetect's C interface as careless programs make them: arrays at any address, numbers at the end of their
// range, several threads on one handle. Built with AddressSanitizer and UndefinedBehaviorSanitizer, and once more with
// ThreadSanitizer: `make sanitize`.
#include "../host/libdetect.h"
#include "problems.hpp"

#include <cstdio>
#include <cstdlib>
#include <thread>

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

// A copy of an array at an address that is `shift` bytes beyond an aligned one.
template <typename T> class Shifted {
public:
  Shifted(const T *values, std::size_t count, std::size_t shift) : bytes_(count * sizeof(T) + 64), shift_(shift) {
    if (count)
      std::memcpy(bytes_.data() + shift_, values, count * sizeof(T));
  }
  void *address() { return bytes_.data() + shift_; }
  T *typed() { return static_cast<T *>(address()); }
  std::vector<T> values(std::size_t count) const {
    std::vector<T> found(count);
    if (count)
      std::memcpy(found.data(), bytes_.data() + shift_, count * sizeof(T));
    return found;
  }

private:
  std::vector<char> bytes_; // starts at an address that is aligned for everything
  std::size_t shift_;
};

template <typename T> std::vector<Shifted<T>> shifted(const std::vector<std::vector<T>> &arrays, std::size_t shift) {
  std::vector<Shifted<T>> found;
  for (const std::vector<T> &array : arrays)
    found.emplace_back(array.data(), array.size(), shift);
  return found;
}

struct Answer {
  std::vector<float> corners, scores;
  std::vector<std::int32_t> classes, indices, lengths;

  bool operator==(const Answer &other) const {
    return std::memcmp(corners.data(), other.corners.data(), corners.size() * sizeof(float)) == 0 &&
           std::memcmp(scores.data(), other.scores.data(), scores.size() * sizeof(float)) == 0 &&
           classes == other.classes && indices == other.indices && lengths == other.lengths;
  }
};

template <typename T> class Scene {
public:
  explicit Scene(std::uint32_t seed, DType type)
      : problem{type, Mode::bestClass, {}, 3, 5, 2, {60, 24, 6}}, source(seed), memory(prepared(), source) {
    for (std::size_t level : problem.levels)
      levels.push_back(static_cast<std::int64_t>(level));
    config.anchors = memory.anchors.data();
    config.level_anchors = levels.data();
    config.num_levels = static_cast<std::int32_t>(levels.size());
    config.num_classes = static_cast<std::int32_t>(problem.classes);
    config.mode = DETECT_BEST_CLASS;
    config.max_detections = static_cast<std::int32_t>(problem.options.maxDetections);
    config.iou_threshold = 0.5f;
    config.score_threshold = problem.options.scoreThreshold;
    config.image_height = 16.0f;
    config.image_width = 24.0f;
    config.threads = 2;
    for (std::size_t i = 0; i < levels.size(); ++i) {
      maxima.emplace_back(), labels.emplace_back();
      for (std::size_t row = 0; row < memory.logits[i].size(); row += problem.classes) {
        const std::size_t label = nms_core::argMax(memory.logits[i].data() + row, problem.classes);
        maxima.back().push_back(memory.logits[i][row + label]);
        labels.back().push_back(static_cast<std::int32_t>(label));
      }
    }
  }

  // Everything `shift` bytes off: 0 leaves it aligned.
  detect_handle *create(std::size_t shift) const {
    Shifted<float> anchors(memory.anchors.data(), memory.anchors.size(), shift);
    Shifted<std::int64_t> counts(levels.data(), levels.size(), shift);
    detect_config moved = config;
    moved.anchors = anchors.typed(), moved.level_anchors = counts.typed();
    Shifted<detect_config> given(&moved, 1, shift);
    return detect_create(given.typed(), nullptr, 0);
  }

  std::int32_t run(detect_handle *handle, bool reduced, std::size_t shift, Answer *answer) const {
    auto logits = shifted(reduced ? maxima : memory.logits, shift), regressions = shifted(memory.regressions, shift);
    auto ids = shifted(labels, shift);
    std::vector<const void *> logitsAt, regressionsAt;
    std::vector<const std::int32_t *> idsAt;
    for (std::size_t i = 0; i < levels.size(); ++i) {
      logitsAt.push_back(logits[i].address()), regressionsAt.push_back(regressions[i].address());
      idsAt.push_back(ids[i].typed());
    }
    Shifted<const void *> logitLists(logitsAt.data(), logitsAt.size(), shift);
    Shifted<const void *> regressionLists(regressionsAt.data(), regressionsAt.size(), shift);
    Shifted<const std::int32_t *> idLists(idsAt.data(), idsAt.size(), shift);
    Shifted<float> scales(memory.scales.data(), memory.scales.size(), shift);
    const std::size_t batch = problem.batch, rows = batch * problem.options.maxDetections;
    const std::vector<float> floats(rows * 4);
    const std::vector<std::int32_t> integers(rows);
    Shifted<float> corners(floats.data(), rows * 4, shift), scores(floats.data(), rows, shift);
    Shifted<std::int32_t> classes(integers.data(), rows, shift), indices(integers.data(), rows, shift);
    Shifted<std::int32_t> lengths(integers.data(), batch, shift);
    const std::int32_t status =
        detect_run(handle, logitLists.typed(), reduced ? idLists.typed() : nullptr, regressionLists.typed(),
                   static_cast<std::int32_t>(problem.type), static_cast<std::int64_t>(batch), scales.typed(),
                   corners.typed(), scores.typed(), classes.typed(), indices.typed(), lengths.typed());
    *answer = {corners.values(rows * 4), scores.values(rows), classes.values(rows), indices.values(rows),
               lengths.values(batch)};
    return status;
  }

  Problem problem;
  Source source;
  DetectMemory<T> memory;
  detect_config config{};
  std::vector<std::int64_t> levels;
  std::vector<std::vector<T>> maxima;
  std::vector<std::vector<std::int32_t>> labels;

private:
  const Problem &prepared() {
    problem.options.maxDetections = 20;
    problem.options.scoreThreshold = 0.3f;
    return problem;
  }
};

template <typename T> void arraysAtAnyAddressGiveTheSame(DType type) {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    const Scene<T> scene(seed, type);
    detect_handle *aligned = scene.create(0);
    CHECK(aligned);
    for (bool reduced : {false, true}) {
      Answer expected;
      CHECK(scene.run(aligned, reduced, 0, &expected) == DETECT_OK);
      for (std::size_t shift : {1, 2, 3, 4, 5, 7}) {
        detect_handle *handle = scene.create(shift);
        Answer found;
        CHECK(handle && scene.run(handle, reduced, shift, &found) == DETECT_OK);
        CHECK(found == expected);
        detect_destroy(handle);
      }
    }
    detect_destroy(aligned);
  }
}

void classesThatDoNotExistAreRefused() {
  Scene<float> scene(3, DType::float32);
  detect_handle *handle = scene.create(0);
  constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();
  for (std::int32_t wrong : {most, most - 1, std::numeric_limits<std::int32_t>::min(), -1, 5}) {
    Answer answer;
    const std::int32_t right = scene.labels[1][7];
    scene.labels[1][7] = wrong;
    CHECK(scene.run(handle, true, 0, &answer) == DETECT_BAD_CLASS);
    CHECK(scene.run(handle, true, 1, &answer) == DETECT_BAD_CLASS);
    scene.labels[1][7] = right;
    CHECK(scene.run(handle, true, 0, &answer) == DETECT_OK);
  }
  detect_destroy(handle);
}

void classNumbersNearTheEndOfTheirRangeStayPositive() {
  // A single anchor, whose class is the last but one of all that there can be.
  constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();
  const float anchor[4] = {0, 0, 4, 4}, logit = 3.0f, regression[4] = {0, 0, 0, 0};
  const std::int64_t one = 1;
  detect_config config{};
  config.anchors = anchor, config.level_anchors = &one, config.num_levels = 1, config.num_classes = most;
  config.mode = DETECT_BEST_CLASS, config.max_detections = 1, config.iou_threshold = 0.5f, config.threads = 1;
  config.image_height = config.image_width = 8.0f;
  detect_handle *handle = detect_create(&config, nullptr, 0);
  CHECK(handle);
  const std::int32_t label = most - 1, *labels = &label;
  const void *logits = &logit, *regressions = regression;
  float corners[4], score;
  std::int32_t found = 0, index = 0, length = 0;
  CHECK(detect_run(handle, &logits, &labels, &regressions, DETECT_FLOAT32, 1, nullptr, corners, &score, &found, &index,
                   &length) == DETECT_OK);
  CHECK(length == 1 && found == most);
  detect_destroy(handle);
}

void numbersThatOverflowAreRefused() {
  constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();
  const float anchor[4] = {0, 0, 4, 4};
  // Their sum is 2^33; times the classes it is more than 64 bits hold.
  const std::int64_t levels[4] = {std::int64_t{1} << 31, std::int64_t{1} << 31, std::int64_t{1} << 31,
                                  std::int64_t{1} << 31};
  detect_config config{};
  config.anchors = anchor, config.level_anchors = levels, config.num_levels = 4, config.num_classes = most;
  config.mode = DETECT_MULTI_CLASS, config.max_detections = most, config.iou_threshold = 0.5f, config.threads = most;
  config.image_height = config.image_width = 8.0f;
  CHECK(!detect_create(&config, nullptr, 0));
  const std::int64_t few[2] = {2, 0}, tooMany[1] = {std::numeric_limits<std::int64_t>::max()};
  config.level_anchors = few, config.num_levels = 2;
  CHECK(!detect_create(&config, nullptr, 0)); // 2 * (2^31 - 1) indices
  config.level_anchors = tooMany, config.num_levels = 1;
  CHECK(!detect_create(&config, nullptr, 0));

  const std::int64_t one = 1;
  config.level_anchors = &one, config.num_classes = 1, config.threads = 1;
  detect_handle *handle = detect_create(&config, nullptr, 0);
  CHECK(handle);
  const float logit = 3.0f, regression[4] = {0, 0, 0, 0};
  const void *logits = &logit, *regressions = regression;
  float value;
  std::int32_t number;
  for (std::int64_t batch : {std::numeric_limits<std::int64_t>::max(), std::int64_t{1} << 40})
    CHECK(detect_run(handle, &logits, nullptr, &regressions, DETECT_FLOAT32, batch, nullptr, &value, &value, &number,
                     &number, &number) == DETECT_BAD_ARGUMENT);
  detect_destroy(handle);
}

void threadsOnOneHandleDoNotDisturbEachOther() {
  std::vector<std::unique_ptr<Scene<float>>> scenes;
  std::vector<Answer> expected(4);
  for (std::uint32_t i = 0; i < expected.size(); ++i)
    scenes.emplace_back(new Scene<float>(100 + i, DType::float32));
  // One handle for all: the anchors are the first scene's.
  detect_handle *handle = scenes[0]->create(0);
  for (std::size_t i = 0; i < scenes.size(); ++i)
    CHECK(scenes[i]->run(handle, false, i % 2, &expected[i]) == DETECT_OK);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < scenes.size(); ++i)
    threads.emplace_back([&, i] {
      for (int turn = 0; turn < 40; ++turn) {
        Answer found;
        if (scenes[i]->run(handle, false, i % 2, &found) != DETECT_OK || !(found == expected[i]))
          ++wrong;
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  CHECK(wrong == 0);
  detect_destroy(handle);
}

void handlesMayBeMadeAndDestroyedByThreadsAtOnce() {
  const Scene<float> scene(7, DType::float32);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int turn = 0; turn < 10; ++turn) {
        detect_handle *handle = scene.create(0);
        Answer found;
        if (!handle || scene.run(handle, true, 0, &found) != DETECT_OK)
          ++wrong;
        detect_destroy(handle);
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  CHECK(wrong == 0);
}

} // namespace

int main() {
  arraysAtAnyAddressGiveTheSame<float>(DType::float32);
  arraysAtAnyAddressGiveTheSame<Half>(DType::float16);
  arraysAtAnyAddressGiveTheSame<BFloat16>(DType::bfloat16);
  classesThatDoNotExistAreRefused();
  classNumbersNearTheEndOfTheirRangeStayPositive();
  numbersThatOverflowAreRefused();
  threadsOnOneHandleDoNotDisturbEachOther();
  handlesMayBeMadeAndDestroyedByThreadsAtOnce();
  if (failures == 0)
    std::printf("all tests of careless calls passed\n");
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
