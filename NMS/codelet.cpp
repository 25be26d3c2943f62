// SPDX-License-Identifier: Apache-2.0
//
// The Poplar vertices of the NMS operator: they unpack pointers and call nms_core.hpp. nms.cpp lays them out on tiles.
//
// Every image has its own vertices. A worker owns a slice of consecutive anchors of one image; its "entries" are the
// scores of that slice, one an anchor or one a class of each anchor. After NmsSelect it keeps only the entries that can
// still be selected: `alive` holds their positions in rising order, `working` their scores, `count` how many there are.
// The lists only ever shrink, so an iteration costs what is left, not what was there.
//
// A "record" is a candidate on its way to becoming the winner: score, box as four floats, {index, class}. Records
// travel in rising order of their index, so that taking the first of equal scores lets the lower index win. Index -1
// says "none".
//
// Poplar fills in the fields; no code constructs a vertex. Those with const members declare a constructor all the same,
// and define none: popc is a clang, which warns of const members that nothing could ever initialise.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF // The host rounds products before adding; see nms_core.hpp.
#endif

#include <poplar/HalfFloat.hpp>
#include <poplar/Vertex.hpp>

#include "nms_core.hpp"

using namespace poplar;

static constexpr auto ONE_PTR = poplar::VectorLayout::ONE_PTR;

namespace {

// Position of the first greatest score; 0 when all are nms_core::removedScore.
inline unsigned firstGreatest(const float *scores, unsigned size) {
  unsigned at = 0;
  float best = scores[0];
  for (unsigned i = 1; i < size; ++i) {
    if (scores[i] > best) {
      best = scores[i];
      at = i;
    }
  }
  return at;
}

// One worker's slice of one image, and the record it reports.
template <typename T, typename Score> struct Slice {
  const T *boxes;      // [anchors, 4]
  const int *classes;  // [anchors], or null where the class is the position within the anchor's entries
  unsigned numClasses; // entries an anchor
  int firstIndex;      // index of the slice's first entry within its image
  float scoreThreshold;
  unsigned short *alive;
  Score *working;

  float bestScore = nms_core::removedScore;
  unsigned bestEntry = 0, bestAnchor = 0;
  int bestClass = nms_core::unusedClass;

  void offer(float score, unsigned entry, unsigned anchor, int label) {
    if (score > bestScore) {
      bestScore = score;
      bestEntry = entry;
      bestAnchor = anchor;
      bestClass = label;
    }
  }

  // Fill the lists from the original scores; returns how many entries are candidates.
  unsigned select(const T *scores, unsigned numEntries) {
    unsigned kept = 0, anchor = 0, anchorBegin = 0;
    for (unsigned entry = 0; entry < numEntries; ++entry) {
      if (entry == anchorBegin + numClasses) {
        ++anchor;
        anchorBegin = entry;
      }
      const float score = static_cast<float>(scores[entry]);
      if (!nms_core::isCandidate(score, scoreThreshold))
        continue;
      alive[kept] = static_cast<unsigned short>(entry);
      working[kept] = static_cast<Score>(score);
      ++kept;
      offer(score, entry, anchor, classes ? classes[anchor] : static_cast<int>(entry - anchorBegin));
    }
    return kept;
  }

  // Let the winner act on the entries that are left, drop those that are no candidates any more; returns how many
  // remain.
  unsigned suppress(const float *winnerBox, int winnerIndex, int winnerClass, bool acrossClasses,
                    const nms_core::Suppression &suppression, unsigned count) {
    const nms_core::Box winner = nms_core::makeBox(winnerBox);
    unsigned kept = 0, anchor = 0, anchorBegin = 0;
    for (unsigned i = 0; i < count; ++i) {
      const unsigned entry = alive[i];
      if (numClasses == 1)
        anchor = anchorBegin = entry;
      while (entry >= anchorBegin + numClasses) { // entries rise: no division to find the anchor
        ++anchor;
        anchorBegin += numClasses;
      }
      if (firstIndex + static_cast<int>(entry) == winnerIndex)
        continue;
      const int label = classes ? classes[anchor] : static_cast<int>(entry - anchorBegin);
      float score = static_cast<float>(working[i]);
      if (acrossClasses || label == winnerClass) {
        score = suppression.apply(score, nms_core::iou(winner, nms_core::makeBox(&boxes[4 * anchor])));
        if (!nms_core::isCandidate(score, scoreThreshold))
          continue;
        working[i] = static_cast<Score>(score);
      }
      if (kept != i) { // nothing moves until something has gone
        alive[kept] = static_cast<unsigned short>(entry);
        working[kept] = static_cast<Score>(score);
      }
      ++kept;
      offer(score, entry, anchor, label);
    }
    return kept;
  }

  void report(bool any, float *score, float *box, int *id) const {
    *score = bestScore;
    for (unsigned k = 0; k < 4; ++k)
      box[k] = any ? static_cast<float>(boxes[4 * bestAnchor + k]) : 0.0f;
    id[0] = any ? firstIndex + static_cast<int>(bestEntry) : nms_core::unusedIndex;
    id[1] = bestClass;
  }
};

} // namespace

// Once a run: read the scores, list the candidates, report the best. T: type of scores and boxes; Score: type of
// `working`, float where suppression changes scores (soft), T where it only removes them (hard).
template <typename T, typename Score> class NmsSelect : public Vertex {
public:
  NmsSelect();

  Input<Vector<T>> scores;
  Input<Vector<T, ONE_PTR>> boxes;
  InOut<Vector<unsigned short, ONE_PTR>> alive; // InOut: only the first `count` elements are written
  InOut<Vector<Score, ONE_PTR>> working;
  Output<unsigned> count;
  Output<float> bestScore;
  Output<Vector<float, ONE_PTR>> bestBox;
  Output<Vector<int, ONE_PTR>> bestId;
  const unsigned numClasses;
  const int firstIndex;
  const float scoreThreshold;

  bool compute() {
    Slice<T, Score> slice{&boxes[0], nullptr, numClasses, firstIndex, scoreThreshold, &alive[0], &working[0]};
    const unsigned kept = slice.select(&scores[0], scores.size());
    *count = kept;
    slice.report(kept > 0, &*bestScore, &bestBox[0], &bestId[0]);
    return true;
  }
};

// The same where every anchor brings its class along.
template <typename T, typename Score> class NmsSelectLabelled : public Vertex {
public:
  NmsSelectLabelled();

  Input<Vector<T>> scores;
  Input<Vector<T, ONE_PTR>> boxes;
  Input<Vector<int, ONE_PTR>> classes;
  InOut<Vector<unsigned short, ONE_PTR>> alive;
  InOut<Vector<Score, ONE_PTR>> working;
  Output<unsigned> count;
  Output<float> bestScore;
  Output<Vector<float, ONE_PTR>> bestBox;
  Output<Vector<int, ONE_PTR>> bestId;
  const int firstIndex;
  const float scoreThreshold;

  bool compute() {
    Slice<T, Score> slice{&boxes[0], &classes[0], 1, firstIndex, scoreThreshold, &alive[0], &working[0]};
    const unsigned kept = slice.select(&scores[0], scores.size());
    *count = kept;
    slice.report(kept > 0, &*bestScore, &bestBox[0], &bestId[0]);
    return true;
  }
};

// Once an iteration: find the winner among the finalists of the image, suppress against it, report the best that is
// left. Every worker finds the winner for itself: a superstep less than one vertex finding it for all.
template <typename T, typename Score> class NmsSuppress : public Vertex {
public:
  NmsSuppress();

  Input<Vector<float>> finalistScores;
  Input<Vector<float, ONE_PTR>> finalistBoxes;
  Input<Vector<int, ONE_PTR>> finalistIds;
  Input<Vector<T, ONE_PTR>> boxes;
  InOut<Vector<unsigned short, ONE_PTR>> alive;
  InOut<Vector<Score, ONE_PTR>> working;
  InOut<unsigned> count;
  Output<float> bestScore;
  Output<Vector<float, ONE_PTR>> bestBox;
  Output<Vector<int, ONE_PTR>> bestId;
  const unsigned numClasses;
  const int firstIndex;
  const float iouThreshold;
  const float scoreThreshold;
  const float sigma;

  bool compute() {
    const unsigned at = firstGreatest(&finalistScores[0], finalistScores.size());
    Slice<T, Score> slice{&boxes[0], nullptr, numClasses, firstIndex, scoreThreshold, &alive[0], &working[0]};
    const unsigned kept = slice.suppress(&finalistBoxes[4 * at], finalistIds[2 * at], finalistIds[2 * at + 1], false,
                                         nms_core::Suppression(iouThreshold, sigma), *count);
    *count = kept;
    slice.report(kept > 0, &*bestScore, &bestBox[0], &bestId[0]);
    return true;
  }
};

template <typename T, typename Score> class NmsSuppressLabelled : public Vertex {
public:
  NmsSuppressLabelled();

  Input<Vector<float>> finalistScores;
  Input<Vector<float, ONE_PTR>> finalistBoxes;
  Input<Vector<int, ONE_PTR>> finalistIds;
  Input<Vector<T, ONE_PTR>> boxes;
  Input<Vector<int, ONE_PTR>> classes;
  InOut<Vector<unsigned short, ONE_PTR>> alive;
  InOut<Vector<Score, ONE_PTR>> working;
  InOut<unsigned> count;
  Output<float> bestScore;
  Output<Vector<float, ONE_PTR>> bestBox;
  Output<Vector<int, ONE_PTR>> bestId;
  const int firstIndex;
  const float iouThreshold;
  const float scoreThreshold;
  const float sigma;
  const bool acrossClasses; // the class is reported, but does not shield a box from another class

  bool compute() {
    const unsigned at = firstGreatest(&finalistScores[0], finalistScores.size());
    Slice<T, Score> slice{&boxes[0], &classes[0], 1, firstIndex, scoreThreshold, &alive[0], &working[0]};
    const unsigned kept = slice.suppress(&finalistBoxes[4 * at], finalistIds[2 * at], finalistIds[2 * at + 1],
                                         acrossClasses, nms_core::Suppression(iouThreshold, sigma), *count);
    *count = kept;
    slice.report(kept > 0, &*bestScore, &bestBox[0], &bestId[0]);
    return true;
  }
};

// The best of some records: of a tile's workers, or of a group of tiles.
class NmsBest : public Vertex {
public:
  Input<Vector<float>> scores;
  Input<Vector<float, ONE_PTR>> boxes;
  Input<Vector<int, ONE_PTR>> ids;
  Output<float> bestScore;
  Output<Vector<float, ONE_PTR>> bestBox;
  Output<Vector<int, ONE_PTR>> bestId;

  bool compute() {
    const unsigned at = firstGreatest(&scores[0], scores.size());
    *bestScore = scores[at];
    for (unsigned k = 0; k < 4; ++k)
      bestBox[k] = boxes[4 * at + k];
    bestId[0] = ids[2 * at];
    bestId[1] = ids[2 * at + 1];
    return true;
  }
};

// Once a run and image: empty the answer. The program runs again and again, so nothing may be left of the run before.
template <typename T> class NmsReset : public Vertex {
public:
  Output<Vector<int>> indices;
  Output<Vector<T, ONE_PTR>> scores;
  Output<Vector<T, ONE_PTR>> boxes;
  Output<Vector<int, ONE_PTR>> classes;
  Output<int> length;
  Output<bool> active;

  bool compute() {
    for (unsigned row = 0; row < indices.size(); ++row) {
      indices[row] = nms_core::unusedIndex;
      classes[row] = nms_core::unusedClass;
      scores[row] = static_cast<T>(0.0f);
      for (unsigned k = 0; k < 4; ++k)
        boxes[4 * row + k] = static_cast<T>(0.0f);
    }
    *length = 0;
    *active = true;
    return true;
  }
};

// Once an iteration and image: write the winner into the next free row. An image that has no candidate left, or no free
// row, stays as it is however long the others in the batch go on.
template <typename T> class NmsAnswer : public Vertex {
public:
  Input<Vector<float>> finalistScores;
  Input<Vector<float, ONE_PTR>> finalistBoxes;
  Input<Vector<int, ONE_PTR>> finalistIds;
  InOut<Vector<int>> indices;
  InOut<Vector<T, ONE_PTR>> scores;
  InOut<Vector<T, ONE_PTR>> boxes;
  InOut<Vector<int, ONE_PTR>> classes;
  InOut<int> length;
  Output<bool> active;

  bool compute() {
    const unsigned at = firstGreatest(&finalistScores[0], finalistScores.size());
    const int row = *length, rows = static_cast<int>(indices.size());
    const bool found = finalistIds[2 * at] != nms_core::unusedIndex && row < rows;
    if (found) {
      indices[row] = finalistIds[2 * at];
      classes[row] = finalistIds[2 * at + 1];
      scores[row] = static_cast<T>(finalistScores[at]);
      for (unsigned k = 0; k < 4; ++k)
        boxes[4 * row + k] = static_cast<T>(finalistBoxes[4 * at + k]);
      *length = row + 1;
    }
    *active = found && row + 1 < rows;
    return true;
  }
};

// The loop goes on while any image is active.
class NmsAnyActive : public Vertex {
public:
  Input<Vector<bool>> active;
  Output<bool> any;

  bool compute() {
    bool result = false;
    for (unsigned i = 0; i < active.size(); ++i)
      result = result || active[i];
    *any = result;
    return true;
  }
};

template class NmsSelect<float, float>;
template class NmsSelect<half, half>;
template class NmsSelect<half, float>;
template class NmsSelectLabelled<float, float>;
template class NmsSelectLabelled<half, half>;
template class NmsSelectLabelled<half, float>;
template class NmsSuppress<float, float>;
template class NmsSuppress<half, half>;
template class NmsSuppress<half, float>;
template class NmsSuppressLabelled<float, float>;
template class NmsSuppressLabelled<half, half>;
template class NmsSuppressLabelled<half, float>;
template class NmsReset<float>;
template class NmsReset<half>;
template class NmsAnswer<float>;
template class NmsAnswer<half>;
