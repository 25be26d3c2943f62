// SPDX-License-Identifier: Apache-2.0
//
// Vertices of the former operator's loop, see former.hpp. For the estimate only.
#include <poplar/HalfFloat.hpp>
#include <poplar/Vertex.hpp>

#include "nms_core.hpp"

using namespace poplar;

static constexpr auto ONE_PTR = poplar::VectorLayout::ONE_PTR;

template <typename T> class FormerArgMax : public Vertex {
public:
  FormerArgMax();

  Input<Vector<T>> scores;
  Output<float> best;
  Output<unsigned> index;
  const unsigned offset;

  bool compute() {
    unsigned at = 0;
    for (unsigned i = 1; i < scores.size(); ++i) {
      if (static_cast<float>(scores[i]) > static_cast<float>(scores[at]))
        at = i;
    }
    *best = static_cast<float>(scores[at]);
    *index = offset + at;
    return true;
  }
};

class FormerArgMaxJoin : public Vertex {
public:
  Input<Vector<float>> scores;
  Input<Vector<unsigned, ONE_PTR>> indices;
  Output<float> best;
  Output<unsigned> index;

  bool compute() {
    unsigned at = 0;
    for (unsigned i = 1; i < scores.size(); ++i) {
      if (scores[i] > scores[at])
        at = i;
    }
    *best = scores[at];
    *index = indices[at];
    return true;
  }
};

// Every tile contributes to the winner's box and class: zeros unless the winner is its own.
template <typename T> class FormerGather : public Vertex {
public:
  FormerGather();

  Input<unsigned> index;
  Input<Vector<int>> classes;
  Input<Vector<T, ONE_PTR>> boxes;
  Output<Vector<float, ONE_PTR>> box;
  Output<int> label;
  const unsigned offset;

  bool compute() {
    const unsigned at = *index - offset;
    const bool mine = at < classes.size();
    for (unsigned k = 0; k < 4; ++k)
      box[k] = mine ? static_cast<float>(boxes[4 * at + k]) : 0.0f;
    *label = mine ? classes[at] : 0;
    return true;
  }
};

class FormerSum : public Vertex {
public:
  Input<Vector<float, ONE_PTR>> boxes;
  Input<Vector<int>> labels;
  Output<Vector<float, ONE_PTR>> box;
  Output<int> label;

  bool compute() {
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    int labelSum = 0;
    for (unsigned i = 0; i < labels.size(); ++i) {
      for (unsigned k = 0; k < 4; ++k)
        sum[k] += boxes[4 * i + k];
      labelSum += labels[i];
    }
    for (unsigned k = 0; k < 4; ++k)
      box[k] = sum[k];
    *label = labelSum;
    return true;
  }
};

template <typename T> class FormerClear : public Vertex {
public:
  FormerClear();

  Input<unsigned> index;
  InOut<Vector<T>> scores;
  const unsigned offset;

  bool compute() {
    const unsigned at = *index - offset;
    if (at < scores.size())
      scores[at] = static_cast<T>(-65504.0f);
    return true;
  }
};

template <typename T> class FormerAnswer : public Vertex {
public:
  FormerAnswer();

  Input<unsigned> iteration;
  Input<float> best;
  Input<unsigned> index;
  Input<Vector<float, ONE_PTR>> box;
  Input<int> label;
  InOut<int> topIndex;
  InOut<T> topScore;
  InOut<Vector<T, ONE_PTR>> topBox;
  InOut<int> topClass;
  const unsigned row;
  const float scoreThreshold;

  bool compute() {
    if (*iteration == row && *best > scoreThreshold) {
      *topIndex = static_cast<int>(*index);
      *topScore = static_cast<T>(*best);
      for (unsigned k = 0; k < 4; ++k)
        topBox[k] = static_cast<T>(box[k]);
      *topClass = *label;
    }
    return true;
  }
};

template <typename T> class FormerSuppress : public Vertex {
public:
  FormerSuppress();

  Input<Vector<float, ONE_PTR>> box;
  Input<int> label;
  InOut<Vector<T>> scores;
  Input<Vector<T, ONE_PTR>> boxes;
  Input<Vector<int, ONE_PTR>> classes;
  const float iouThreshold;
  const float scoreThreshold;

  bool compute() {
    const nms_core::Box winner = nms_core::makeBox(&box[0]);
    for (unsigned i = 0; i < scores.size(); ++i) {
      if (nms_core::isCandidate(static_cast<float>(scores[i]), scoreThreshold) && classes[i] == *label &&
          nms_core::suppresses(nms_core::iou(winner, nms_core::makeBox(&boxes[4 * i])), iouThreshold))
        scores[i] = static_cast<T>(-65504.0f);
    }
    return true;
  }
};

class FormerStep : public Vertex {
public:
  InOut<unsigned> iteration;

  bool compute() {
    *iteration = *iteration + 1;
    return true;
  }
};

class FormerCondition : public Vertex {
public:
  FormerCondition();

  Input<unsigned> iteration;
  Input<Vector<float>> bests;
  Output<bool> goOn;
  const unsigned rows;
  const float scoreThreshold;

  bool compute() {
    bool active = *iteration == 0;
    for (unsigned i = 0; i < bests.size(); ++i)
      active = active || bests[i] > scoreThreshold;
    *goOn = active && *iteration < rows;
    return true;
  }
};

template class FormerArgMax<float>;
template class FormerArgMax<half>;
template class FormerGather<float>;
template class FormerGather<half>;
template class FormerClear<float>;
template class FormerClear<half>;
template class FormerAnswer<float>;
template class FormerAnswer<half>;
template class FormerSuppress<float>;
template class FormerSuppress<half>;
