// SPDX-License-Identifier: Apache-2.0
#include "pipeline.hpp"

#include "../detect_core.hpp"
#include "scan.hpp"

#include <atomic>
#include <cfenv>
#include <new>

namespace nms_host {
namespace {

using nms_core::Options;

// Tests make them small, so that small problems take every path.
#ifndef NMS_ROWS_PER_CHECK
#define NMS_ROWS_PER_CHECK 8192
#endif
#ifndef NMS_ROWS_PER_PIECE
#define NMS_ROWS_PER_PIECE 8192
#endif
constexpr std::size_t rowsPerCheck = NMS_ROWS_PER_CHECK; // rows scanned between two looks at the interrupt
constexpr std::size_t rowsPerPiece = NMS_ROWS_PER_PIECE; // an image is not cut into smaller pieces than this

// A limit for logits that no candidate fails: every logit whose score is above the threshold is above it. It is set a
// little low, so nothing depends on how exp() rounds; the exact test is made on the score. `all` when there is no such
// limit.
struct LogitLimit {
  float value;
  bool all;
};

LogitLimit limitOf(float scoreThreshold) {
  const float safe = scoreThreshold - 1e-5f * std::fabs(scoreThreshold);
  if (!(safe > 1e-30f))
    return {-std::numeric_limits<float>::infinity(), true};
  float low = -104.0f, high = 104.0f; // their scores are 0 and 1
  if (nms_core::sigmoid(high) <= safe)
    return {high, false};
  for (float middle = 0.0f; low < middle && middle < high; middle = low + (high - low) / 2.0f)
    (nms_core::sigmoid(middle) <= safe ? low : high) = middle;
  return {low, false};
}

// Grows by doubling before a loop starts, so that the loop itself never allocates.
void makeRoom(std::vector<Candidate> &candidates, std::size_t more) {
  const std::size_t needed = candidates.size() + more;
  if (needed > candidates.capacity())
    candidates.reserve(std::max(needed, 2 * candidates.capacity()));
}

template <typename T, typename OnRow>
void forEachRow(const T *values, std::size_t rows, std::size_t size, float limit, bool all, OnRow onRow) {
  if (all)
    for (std::size_t row = 0; row < rows; ++row)
      onRow(row);
  else
    forEachRowAbove(values, rows, size, limit, onRow);
}

// Appends the candidates among `rows` anchors, whose first is number `offset` of the image.
template <typename T>
void collectLogits(const T *logits, const Quantisation &units, const std::int32_t *labels, std::size_t rows,
                   std::size_t offset, std::size_t classes, Mode mode, const LogitLimit &limit, float scoreThreshold,
                   std::vector<Candidate> &out) {
  const float stored = storedLimit(logits, limit.value, units);
  const auto add = [&](float logit, std::size_t index, std::int32_t label) {
    const float score = nms_core::sigmoid(logit);
    if (nms_core::isCandidate(score, scoreThreshold))
      out.push_back({score, static_cast<std::int32_t>(index), label, -1});
  };
  if (labels) {
    makeRoom(out, rows);
    forEachRow(logits, rows, 1, stored, limit.all,
               [&](std::size_t row) { add(valueOf(logits[row], units), offset + row, labels[row]); });
  } else if (mode == Mode::multiClass) {
    forEachRow(logits, rows, classes, stored, limit.all, [&](std::size_t row) {
      const T *values = logits + row * classes;
      makeRoom(out, classes);
      for (std::size_t label = 0; label < classes; ++label) {
        const float logit = valueOf(values[label], units);
        if (limit.all || logit > limit.value)
          add(logit, (offset + row) * classes + label, static_cast<std::int32_t>(label));
      }
    });
  } else {
    makeRoom(out, rows);
    forEachRow(logits, rows, classes, stored, limit.all, [&](std::size_t row) {
      const T *values = logits + row * classes;
      const std::size_t label = fastArgMax(values, classes);
      add(valueOf(values[label], units), offset + row, static_cast<std::int32_t>(label));
    });
  }
}

std::size_t anchorsOf(const Heads &heads) {
  std::size_t sum = 0;
  for (const Level &level : heads.levels)
    sum += level.anchors;
  return sum;
}

// Calls onPart(level, row of the level, rows, number of the first anchor) for the anchors begin to end of one image, in
// pieces between which the interrupt is looked at. Returns false when interrupted.
template <typename OnPart>
bool forEachPart(const Heads &heads, std::size_t begin, std::size_t end, const Interrupt &stop, OnPart onPart) {
  std::size_t first = 0;
  for (const Level &level : heads.levels) {
    const std::size_t from = std::max(begin, first), to = std::min(end, first + level.anchors);
    for (std::size_t at = from; at < to; at += rowsPerCheck) {
      if (stop())
        return false;
      onPart(level, at - first, std::min(rowsPerCheck, to - at), at);
    }
    first += level.anchors;
  }
  return true;
}

template <typename T>
bool collect(const DetectCall &call, std::size_t image, std::size_t begin, std::size_t end, const LogitLimit &limit,
             const Interrupt &stop, std::vector<Candidate> &out) {
  return forEachPart(call.heads, begin, end, stop,
                     [&](const Level &level, std::size_t row, std::size_t rows, std::size_t anchor) {
                       const std::size_t place = image * level.anchors + row;
                       const std::size_t width = level.labels ? 1 : call.heads.classes;
                       collectLogits(static_cast<const T *>(level.logits) + place * width, level.logitUnits,
                                     level.labels ? level.labels + place : nullptr, rows, anchor, call.heads.classes,
                                     call.mode, limit, call.options.scoreThreshold, out);
                     });
}

template <typename T> nms_core::Corners cornersOf(const Heads &heads, std::size_t image, std::size_t anchor) {
  std::size_t row = anchor;
  const Level *level = heads.levels.data();
  for (; row >= level->anchors; ++level)
    row -= level->anchors;
  const T *stored = static_cast<const T *>(level->regressions) + (image * level->anchors + row) * 4;
  float regression[4];
  for (std::size_t k = 0; k < 4; ++k)
    regression[k] = valueOf(stored[k], level->regressionUnits);
  return nms_core::decodeBox(regression, heads.anchors + anchor * 4);
}

template <typename T> bool finish(const DetectCall &call, std::size_t image, Workspace &space, const Interrupt &stop) {
  const std::size_t perAnchor = call.mode == Mode::multiClass ? call.heads.classes : 1;
  const auto boxAt = [&](std::int32_t index) {
    const nms_core::Corners c = cornersOf<T>(call.heads, image, static_cast<std::size_t>(index) / perAnchor);
    const float corners[4] = {c.y1, c.x1, c.y2, c.x2};
    return nms_core::makeBox(corners);
  };
  if (!select(space, call.options, call.mode != Mode::classAgnostic, boxAt, stop))
    return false;
  const float scale = call.scales ? call.scales[image] : 1.0f;
  const std::size_t rows = call.options.maxDetections;
  for (std::size_t i = 0; i < rows; ++i) {
    const std::size_t row = image * rows + i;
    float *corners = call.outCorners + row * 4;
    if (i < space.kept.size()) {
      const Kept &kept = space.kept[i];
      const nms_core::Corners box =
          nms_core::clipAndScale(cornersOf<T>(call.heads, image, static_cast<std::size_t>(kept.index) / perAnchor),
                                 call.imageHeight, call.imageWidth, scale);
      corners[0] = box.y1, corners[1] = box.x1, corners[2] = box.y2, corners[3] = box.x2;
      call.outScores[row] = kept.score;
      call.outClasses[row] = kept.label + 1;
      call.outIndices[row] = kept.index;
    } else {
      std::fill(corners, corners + 4, 0.0f);
      call.outScores[row] = 0.0f;
      call.outClasses[row] = 0;
      call.outIndices[row] = nms_core::unusedIndex;
    }
  }
  call.outLengths[image] = static_cast<std::int32_t>(space.kept.size());
  return true;
}

// The worker threads of TensorFlow flush subnormal numbers to zero, the thread that calls does not. A detection must
// not depend on where it was computed, so every task runs in the default environment.
class DefaultFloats {
public:
  DefaultFloats() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  DefaultFloats(const DefaultFloats &) = delete;
  DefaultFloats &operator=(const DefaultFloats &) = delete;
  ~DefaultFloats() { std::fesetenv(&saved_); }

private:
  std::fenv_t saved_;
};

// Runs the tasks, remembering the worst that happened to any of them.
Outcome runAll(const Context &context, std::size_t count, const std::function<bool(std::size_t)> &task) {
  std::atomic<bool> interrupted{false}, outOfMemory{false};
  context.parallelFor(count, [&](std::size_t i) {
    const DefaultFloats floats;
    try {
      if (interrupted || outOfMemory || !task(i))
        interrupted = true;
    } catch (const std::bad_alloc &) {
      outOfMemory = true;
    }
  });
  return outOfMemory ? Outcome::outOfMemory : interrupted ? Outcome::interrupted : Outcome::done;
}

// Into how many pieces to cut an image so that all threads have work, also when the batch is smaller than their number.
std::size_t piecesPerImage(const Context &context, std::size_t batch, std::size_t rows) {
  const std::size_t wanted = (context.threads + batch - 1) / batch;
  return std::max<std::size_t>(1, std::min(wanted, rows / rowsPerPiece));
}

template <typename T> Outcome detectAs(const DetectCall &call, const Context &context) {
  const std::size_t batch = call.heads.batch, anchors = anchorsOf(call.heads);
  if (batch == 0)
    return Outcome::done;
  const LogitLimit limit = limitOf(call.options.scoreThreshold);
  const std::size_t pieces = piecesPerImage(context, batch, anchors);
  if (pieces == 1)
    return runAll(context, batch, [&](std::size_t image) {
      WorkspacePool::Lease space(context.pool);
      space->candidates.clear();
      return collect<T>(call, image, 0, anchors, limit, context.stop, space->candidates) &&
             finish<T>(call, image, *space, context.stop);
    });
  std::vector<WorkspacePool::Lease> spaces;
  spaces.reserve(batch * pieces);
  for (std::size_t i = 0; i < batch * pieces; ++i) {
    spaces.emplace_back(context.pool);
    spaces.back()->candidates.clear();
  }
  const Outcome collected = runAll(context, batch * pieces, [&](std::size_t i) {
    const std::size_t image = i / pieces, piece = i % pieces;
    return collect<T>(call, image, anchors * piece / pieces, anchors * (piece + 1) / pieces, limit, context.stop,
                      spaces[i]->candidates);
  });
  if (collected != Outcome::done)
    return collected;
  return runAll(context, batch, [&](std::size_t image) {
    std::vector<Candidate> &all = spaces[image * pieces]->candidates;
    for (std::size_t piece = 1; piece < pieces; ++piece) {
      const std::vector<Candidate> &more = spaces[image * pieces + piece]->candidates;
      all.insert(all.end(), more.begin(), more.end());
    }
    return finish<T>(call, image, *spaces[image * pieces], context.stop);
  });
}

template <typename T> Outcome decodeAs(const DecodeCall &call, const Context &context) {
  const Heads &heads = call.heads;
  const std::size_t batch = heads.batch, classes = heads.classes, anchors = anchorsOf(heads);
  if (batch == 0)
    return Outcome::done;
  const std::size_t pieces = piecesPerImage(context, batch, anchors);
  return runAll(context, batch * pieces, [&](std::size_t i) {
    const std::size_t image = i / pieces, piece = i % pieces;
    return forEachPart(
        heads, anchors * piece / pieces, anchors * (piece + 1) / pieces, context.stop,
        [&](const Level &level, std::size_t row, std::size_t rows, std::size_t anchor) {
          const T *logits = static_cast<const T *>(level.logits) + (image * level.anchors + row) * classes;
          const T *regressions = static_cast<const T *>(level.regressions) + (image * level.anchors + row) * 4;
          for (std::size_t k = 0; k < rows; ++k, logits += classes, regressions += 4) {
            const std::size_t place = image * anchors + anchor + k;
            const nms_core::Corners box = nms_core::decodeBox(regressions, heads.anchors + (anchor + k) * 4);
            float *corners = call.outCorners + place * 4;
            corners[0] = box.y1, corners[1] = box.x1, corners[2] = box.y2, corners[3] = box.x2;
            if (call.mode == Mode::multiClass) {
              for (std::size_t label = 0; label < classes; ++label)
                call.outScores[place * classes + label] = nms_core::sigmoid(static_cast<float>(logits[label]));
            } else {
              const std::size_t label = fastArgMax(logits, classes);
              call.outScores[place] = nms_core::sigmoid(static_cast<float>(logits[label]));
              call.outLabels[place] = static_cast<std::int32_t>(label);
            }
          }
        });
  });
}

template <typename T> bool nmsImage(const NmsCall &call, std::size_t image, Workspace &space, const Interrupt &stop) {
  const std::size_t boxes = call.boxes, classes = call.classes, rows = call.options.maxDetections;
  const T *scores = static_cast<const T *>(call.scores) + image * boxes * classes;
  const T *corners = static_cast<const T *>(call.corners) + image * boxes * 4;
  const std::int32_t *labels = call.labels ? call.labels + image * boxes : nullptr;
  const float threshold = call.options.scoreThreshold;
  const bool multi = call.mode == Mode::multiClass;
  space.candidates.clear();
  const auto add = [&](std::size_t index, std::int32_t label) {
    const float score = static_cast<float>(scores[index]);
    if (nms_core::isCandidate(score, threshold))
      space.candidates.push_back({score, static_cast<std::int32_t>(index), label, -1});
  };
  for (std::size_t from = 0; from < boxes; from += rowsPerCheck) {
    if (stop())
      return false;
    const std::size_t count = std::min(rowsPerCheck, boxes - from);
    if (!multi)
      makeRoom(space.candidates, count);
    forEachRowAbove(scores + from * classes, count, classes, threshold, [&](std::size_t row) {
      const std::size_t box = from + row;
      if (!multi)
        return add(box, labels ? labels[box] : 0);
      makeRoom(space.candidates, classes);
      for (std::size_t label = 0; label < classes; ++label)
        add(box * classes + label, static_cast<std::int32_t>(label));
    });
  }
  const auto boxAt = [&](std::int32_t index) {
    return nms_core::makeBox(corners + static_cast<std::size_t>(index) / classes * 4);
  };
  if (!select(space, call.options, call.mode != Mode::classAgnostic, boxAt, stop))
    return false;

  T *outScores = static_cast<T *>(call.outScores) + image * rows;
  T *outCorners = static_cast<T *>(call.outCorners) + image * rows * 4;
  for (std::size_t i = 0; i < rows; ++i) {
    const bool used = i < space.kept.size();
    const std::size_t index = used ? static_cast<std::size_t>(space.kept[i].index) : 0;
    call.outIndices[image * rows + i] = used ? space.kept[i].index : nms_core::unusedIndex;
    call.outLabels[image * rows + i] = used ? space.kept[i].label : nms_core::unusedClass;
    outScores[i] = T(used ? space.kept[i].score : 0.0f);
    for (std::size_t k = 0; k < 4; ++k)
      outCorners[i * 4 + k] = used ? corners[index / classes * 4 + k] : T(0.0f);
  }
  call.outLengths[image] = static_cast<std::int32_t>(space.kept.size());
  return true;
}

template <typename T> Outcome nmsAs(const NmsCall &call, const Context &context) {
  return runAll(context, call.batch, [&](std::size_t image) {
    WorkspacePool::Lease space(context.pool);
    return nmsImage<T>(call, image, *space, context.stop);
  });
}

// `run` for the element type, as the object that is passed. Memory may also run out before the tasks start.
template <typename Run> Outcome forType(DType type, const Run &run) {
  try {
    switch (type) {
    case DType::float16: return run(Half());
    case DType::bfloat16: return run(BFloat16());
    default: break;
    }
    return run(float());
  } catch (const std::bad_alloc &) {
    return Outcome::outOfMemory;
  }
}

} // namespace

Outcome nms(const NmsCall &call, const Context &context) {
  return forType(call.type, [&](auto t) { return nmsAs<decltype(t)>(call, context); });
}

Outcome decode(const DecodeCall &call, const Context &context) {
  return forType(call.heads.type, [&](auto t) { return decodeAs<decltype(t)>(call, context); });
}

Outcome detect(const DetectCall &call, const Context &context) {
  const auto run = [&](auto t) { return detectAs<decltype(t)>(call, context); };
  if (call.heads.type != DType::int8)
    return forType(call.heads.type, run);
  try {
    return run(Int8());
  } catch (const std::bad_alloc &) {
    return Outcome::outOfMemory;
  }
}

} // namespace nms_host
