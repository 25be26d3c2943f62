// SPDX-License-Identifier: Apache-2.0
//
// Exact greedy selection among the candidates of one image, without touching boxes that cannot matter: candidates lie
// in a heap and are ordered only as far as they are needed, each is compared only with kept boxes (of its class), and
// the search ends with the last row of the output. The result is that of the textbook loop "take the best, suppress the
// rest, repeat".
//
// Why lazily is exact: suppression only ever lowers a score, so the score in the heap is an upper bound. A candidate
// that leaves the heap meets the kept boxes it has not met yet, in the order in which they were kept. If its score
// survives unchanged it is the best of all; if not it goes back with its new score.
#pragma once

#include "../nms_core.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>
#include <vector>

namespace nms_host {

struct Candidate {
  float score;
  std::int32_t index; // of the anchor; in multi-class mode anchor * classes + class
  std::int32_t label; // the class it is reported with
  std::int32_t visit; // where its progress is kept once a box has lowered its score, -1 before
};

struct Kept {
  nms_core::Box box;
  float score;
  std::int32_t index, label;
  std::int32_t next; // kept later in the same bucket, -1 at the end
};

struct Visit {
  nms_core::Box box;
  std::int32_t met; // the last kept box of its bucket that it has met, -1 for none
};

// The memory of one image's selection, reused from call to call.
struct Workspace {
  std::vector<Candidate> candidates; // filled by the caller, consumed by select()
  std::vector<Kept> kept;            // the result, best first
  std::vector<Visit> visits;
};

// Asked now and then during long work; true ends it.
struct Interrupt {
  bool (*asked)(void *) = nullptr;
  void *context = nullptr;

  bool operator()() const { return asked && asked(context); }
};

// Hands out workspaces to concurrent tasks. After the first calls nothing is allocated any more.
class WorkspacePool {
public:
  class Lease {
  public:
    explicit Lease(WorkspacePool &pool) : pool_(&pool), space_(pool.take()) {}
    Lease(Lease &&other) noexcept : pool_(other.pool_), space_(std::move(other.space_)) {}
    Lease(const Lease &) = delete;
    Lease &operator=(const Lease &) = delete;
    Lease &operator=(Lease &&) = delete;
    ~Lease() {
      if (space_)
        pool_->put(std::move(space_));
    }
    Workspace &operator*() const { return *space_; }
    Workspace *operator->() const { return space_.get(); }

  private:
    WorkspacePool *pool_;
    std::unique_ptr<Workspace> space_;
  };

private:
  static constexpr std::size_t keepBelow = std::size_t{1} << 20; // candidates; a larger one is an exception, free it

  std::unique_ptr<Workspace> take() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!free_.empty()) {
        std::unique_ptr<Workspace> space = std::move(free_.back());
        free_.pop_back();
        return space;
      }
    }
    return std::unique_ptr<Workspace>(new Workspace);
  }

  void put(std::unique_ptr<Workspace> space) noexcept {
    if (space->candidates.capacity() > keepBelow)
      return;
    std::lock_guard<std::mutex> lock(mutex_);
    try {
      free_.push_back(std::move(space));
    } catch (...) { // no memory to remember it by: it is freed instead
    }
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_;
};

// Consumes space.candidates (no NaN scores, all above the score threshold, distinct indices) into space.kept.
//   byClass: boxes suppress only those with the same label.
//   boxAt(index) -> nms_core::Box, called when a candidate is first looked at.
// Returns false when interrupted.
template <typename BoxAt>
bool select(Workspace &space, const nms_core::Options &options, bool byClass, const BoxAt &boxAt,
            const Interrupt &stop) {
  constexpr std::int32_t none = -1;
  constexpr std::uint32_t buckets = 256; // kept boxes are chained by the low bits of their class
  const nms_core::Suppression suppression(options);
  const auto later = [](const Candidate &a, const Candidate &b) {
    return nms_core::precedes(b.score, b.index, a.score, a.index);
  };
  std::array<std::int32_t, buckets> first, last;
  first.fill(none);
  last.fill(none);
  std::vector<Candidate> &heap = space.candidates;
  std::vector<Kept> &kept = space.kept;
  kept.clear();
  kept.reserve(std::min<std::size_t>(options.maxDetections, heap.size()));
  space.visits.clear();
  std::make_heap(heap.begin(), heap.end(), later);

  for (std::uint32_t turn = 1; kept.size() < options.maxDetections && !heap.empty(); ++turn) {
    if (turn % 256 == 0 && stop())
      return false;
    std::pop_heap(heap.begin(), heap.end(), later);
    Candidate candidate = heap.back();
    heap.pop_back();
    Visit visit = candidate.visit == none ? Visit{boxAt(candidate.index), none}
                                          : space.visits[static_cast<std::size_t>(candidate.visit)];
    const std::int32_t label = byClass ? candidate.label : 0;
    const std::uint32_t bucket = static_cast<std::uint32_t>(label) % buckets;
    float score = candidate.score;
    std::int32_t node = visit.met == none ? first[bucket] : kept[static_cast<std::size_t>(visit.met)].next;
    for (; node != none && nms_core::isCandidate(score, options.scoreThreshold);
         visit.met = node, node = kept[static_cast<std::size_t>(node)].next) {
      const Kept &winner = kept[static_cast<std::size_t>(node)];
      if (!byClass || winner.label == label)
        score = suppression.apply(score, nms_core::iou(visit.box, winner.box));
    }
    if (!nms_core::isCandidate(score, options.scoreThreshold))
      continue;
    if (score == candidate.score) {
      const std::int32_t place = static_cast<std::int32_t>(kept.size());
      kept.push_back({visit.box, score, candidate.index, candidate.label, none});
      if (last[bucket] == none)
        first[bucket] = place;
      else
        kept[static_cast<std::size_t>(last[bucket])].next = place;
      last[bucket] = place;
      continue;
    }
    if (candidate.visit == none) {
      candidate.visit = static_cast<std::int32_t>(space.visits.size());
      space.visits.push_back(visit);
    } else {
      space.visits[static_cast<std::size_t>(candidate.visit)] = visit;
    }
    candidate.score = score;
    heap.push_back(candidate);
    std::push_heap(heap.begin(), heap.end(), later);
  }
  return true;
}

} // namespace nms_host
