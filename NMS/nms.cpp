// SPDX-License-Identifier: Apache-2.0
//
// The graph of the NMS operator. One run:
//
//   copy boxes and classes to the workers that need them
//   select      every worker lists its candidates and reports the best; the answer is emptied
//   loop        while an image is active
//     tile      on every tile, the best of its workers' records
//     group     the best of each group of tiles, and of each group of groups; fewer steps of it when tiles are few
//     suppress  every worker finds the winner among the groups' records, suppresses its own candidates and reports
//               the best that is left; one more vertex an image writes the winner into the answer
//
// Two to four supersteps an iteration, whatever the batch: images only share the loop.
#include "nms.hpp"

#include <limits>
#include <string>
#include <vector>

#include <poputil/VertexTemplates.hpp>
#include <poputil/exceptions.hpp>

#include "nms_plan.hpp"

namespace nms {
namespace {

using poplar::ComputeSet;
using poplar::DebugContext;
using poplar::Graph;
using poplar::Tensor;
using poplar::Type;
using poplar::VertexRef;
using poplar::program::Copy;
using poplar::program::Execute;
using poplar::program::RepeatWhileTrue;
using poplar::program::Sequence;
using poplar::program::WriteUndef;
using Mapping = Graph::TileToTensorMapping;

std::string shapeText(const Tensor &tensor) {
  std::string text = "[";
  for (std::size_t dim = 0; dim < tensor.rank(); ++dim)
    text += (dim ? ", " : "") + std::to_string(tensor.dim(dim));
  return text + "]";
}

[[noreturn]] void fail(const std::string &message) { throw poputil::poplibs_error("NMS: " + message); }

void check(const Candidates &in, const Options &options) {
  const Tensor &scores = in.scores, &boxes = in.boxes;
  if (scores.rank() != 2 && scores.rank() != 3)
    fail("scores must be [B, N] or [B, N, C], got " + shapeText(scores) + ".");
  if (scores.numElements() == 0 || scores.numElements() / scores.dim(0) > std::numeric_limits<std::int32_t>::max())
    fail("scores of an image must be 1 to 2^31 - 1, got " + shapeText(scores) + ".");
  if (boxes.rank() != 3 || boxes.dim(0) != scores.dim(0) || boxes.dim(1) != scores.dim(1) || boxes.dim(2) != 4)
    fail("boxes must be [B, N, 4] for scores " + shapeText(scores) + ", got " + shapeText(boxes) + ".");
  if (scores.elementType() != poplar::FLOAT && scores.elementType() != poplar::HALF)
    fail("scores must be float or half, got " + std::string(scores.elementType().toString()) + ": cast them first.");
  if (boxes.elementType() != scores.elementType())
    fail("boxes and scores must have one type, got " + std::string(boxes.elementType().toString()) + " and " +
         std::string(scores.elementType().toString()) + ": cast one of them.");
  if (scores.rank() == 3 && scores.dim(2) > maxEntriesPerSlice)
    fail("at most " + std::to_string(maxEntriesPerSlice) + " classes are possible, got scores " + shapeText(scores) +
         ".");
  if (in.classes.valid()) {
    if (scores.rank() == 3)
      fail("scores " + shapeText(scores) + " have a class dimension, so classes must not be given: leave them out.");
    if (in.classes.rank() != 2 || in.classes.dim(0) != scores.dim(0) || in.classes.dim(1) != scores.dim(1))
      fail("classes must be [B, N] like the scores " + shapeText(scores) + ", got " + shapeText(in.classes) + ".");
    if (in.classes.elementType() != poplar::INT && in.classes.elementType() != poplar::UNSIGNED_INT)
      fail("classes must be int or unsigned int, got " + std::string(in.classes.elementType().toString()) + ".");
  }
  if (options.acrossClasses && scores.rank() == 3)
    fail("suppression across classes needs scores [B, N], got " + shapeText(scores) +
         ": reduce over the classes first.");
  if (options.maxDetections < 1 ||
      options.maxDetections > static_cast<unsigned>(std::numeric_limits<std::int32_t>::max()))
    fail("the number of detections must be 1 to 2^31 - 1, got " + std::to_string(options.maxDetections) + ".");
  if (options.iouThreshold != options.iouThreshold || options.scoreThreshold != options.scoreThreshold)
    fail("thresholds must be numbers, got NaN.");
  if (!(options.sigma >= 0.0f))
    fail("sigma must be 0 (hard) or more (soft), got " + std::to_string(options.sigma) + ".");
  if (options.sigma > 0.0f && options.scoreThreshold < 0.0f)
    fail("soft suppression needs a score threshold of at least 0, got " + std::to_string(options.scoreThreshold) + ".");
}

// Records as three tensors, so that comparing reads nothing but scores. See codelet.cpp.
struct Records {
  Tensor scores; // [n] FLOAT
  Tensor boxes;  // [n, 4] FLOAT
  Tensor ids;    // [n, 2] INT

  Records(Graph &graph, const std::vector<unsigned> &tiles, const DebugContext &dc, const std::string &name) {
    const std::size_t n = tiles.size();
    scores = graph.addVariable(poplar::FLOAT, {n}, {dc, name + "Scores"});
    boxes = graph.addVariable(poplar::FLOAT, {n, 4}, {dc, name + "Boxes"});
    ids = graph.addVariable(poplar::INT, {n, 2}, {dc, name + "Ids"});
    for (std::size_t i = 0; i < n; ++i) {
      graph.setTileMapping(scores[i], tiles[i]);
      graph.setTileMapping(boxes[i], tiles[i]);
      graph.setTileMapping(ids[i], tiles[i]);
    }
  }

  void connectOutput(Graph &graph, VertexRef vertex, std::size_t i) const {
    graph.connect(vertex["bestScore"], scores[i]);
    graph.connect(vertex["bestBox"], boxes[i]);
    graph.connect(vertex["bestId"], ids[i]);
  }

  void connectInput(Graph &graph, VertexRef vertex, const Range &range) const {
    graph.connect(vertex["scores"], scores.slice(range.begin, range.end));
    graph.connect(vertex["boxes"], boxes.slice(range.begin, range.end).flatten());
    graph.connect(vertex["ids"], ids.slice(range.begin, range.end).flatten());
  }

  void connectFinalists(Graph &graph, VertexRef vertex) const {
    graph.connect(vertex["finalistScores"], scores);
    graph.connect(vertex["finalistBoxes"], boxes.flatten());
    graph.connect(vertex["finalistIds"], ids.flatten());
  }
};

VertexRef addVertex(Graph &graph, ComputeSet cs, const std::string &type, unsigned tile, std::size_t steps) {
  VertexRef vertex = graph.addVertex(cs, type);
  graph.setTileMapping(vertex, tile);
  // The IPU Model asks for an estimate: 10 instructions a step, each one every sixth cycle. See docs/NMS_POPLAR.md.
  graph.setPerfEstimate(vertex, 6 * (30 + 10 * steps));
  return vertex;
}

// A tensor of which every image owns a part. Parts are variables of their own, because two workers of a tile must not
// write one 32-bit word, and rows of half may end in the middle of one.
Tensor stack(const std::vector<Tensor> &parts) {
  std::vector<Tensor> rows;
  for (const Tensor &part : parts)
    rows.push_back(part.expand({0}));
  return poplar::concat(rows);
}

struct ComputeSets {
  ComputeSet select, tile, suppress;
  std::vector<ComputeSet> groups; // one a level
};

// The part of one image: local state, vertices and answer.
class Image {
public:
  Image(Graph &graph, Sequence &prog, const Candidates &in, const Tensor &localBoxes, const Tensor &localClasses,
        const Options &options, const ImagePlan &plan, std::size_t image, const ComputeSets &sets,
        const DebugContext &dc)
      : graph_(graph), options_(options), plan_(plan), type_(in.scores.elementType()),
        numClasses_(in.scores.rank() == 3 ? in.scores.dim(2) : 1), labelled_(in.classes.valid()),
        scores_(in.scores[image].flatten()), boxes_(localBoxes[image]) {
    if (labelled_)
      classes_ = localClasses[image];
    addAnswer(sets.select, dc);
    addWorkers(prog, sets, dc);
  }

  // Rows, and two scalars. A scalar is a tensor without dimensions: Poplar takes no other for a vertex's scalar field.
  Tensor indices, scores, boxes, classes, length, active;

private:
  void addAnswer(ComputeSet select, const DebugContext &dc) {
    const std::size_t rows = options_.maxDetections;
    indices = variable(poplar::INT, {rows}, {dc, "indices"});
    scores = variable(type_, {rows}, {dc, "scores"});
    boxes = variable(type_, {rows, 4}, {dc, "boxes"});
    classes = variable(poplar::INT, {rows}, {dc, "classes"});
    length = variable(poplar::INT, {}, {dc, "length"});
    active = variable(poplar::BOOL, {}, {dc, "active"});
    connectAnswer(addVertex(graph_, select, poputil::templateVertex("NmsReset", type_), plan_.answerTile, rows));
  }

  void addWorkers(Sequence &prog, const ComputeSets &sets, const DebugContext &dc) {
    std::vector<unsigned> sliceTiles;
    for (const WorkerSlice &slice : plan_.slices)
      sliceTiles.push_back(slice.tile);

    const Records workers(graph_, sliceTiles, dc, "worker");
    const std::size_t n = sliceTiles.size(), entries = plan_.entriesPerSlice;
    // Scores that change are kept in float, those that are only dropped may stay as they came.
    const Type workingType = options_.sigma > 0.0f ? Type(poplar::FLOAT) : type_;
    const Tensor alive = graph_.addVariable(poplar::UNSIGNED_SHORT, {n, entries}, {dc, "alive"});
    const Tensor working = graph_.addVariable(workingType, {n, entries}, {dc, "working"});
    const Tensor count = graph_.addVariable(poplar::UNSIGNED_INT, {n}, {dc, "count"});
    for (std::size_t i = 0; i < n; ++i) {
      graph_.setTileMapping(alive[i], sliceTiles[i]);
      graph_.setTileMapping(working[i], sliceTiles[i]);
      graph_.setTileMapping(count[i], sliceTiles[i]);
    }
    // The lists are written in part, so vertices own them as InOut. Without this they would seem to carry something
    // from one run to the next, and their memory could not serve anything else meanwhile.
    prog.add(WriteUndef(alive));
    prog.add(WriteUndef(working));
    Records finalists = join(sets.tile, workers, plan_.tileSlices, plan_.tiles, {dc, "tile"});
    std::vector<unsigned> tiles = plan_.tiles;
    for (std::size_t level = 0; level < plan_.levels.size(); ++level) {
      std::vector<unsigned> groupTiles;
      for (const Range &group : plan_.levels[level])
        groupTiles.push_back(tiles[group.begin]);
      finalists = join(sets.groups[level], finalists, plan_.levels[level], groupTiles, {dc, "group"});
      tiles = groupTiles;
    }
    addSuppression(sets, workers, finalists, alive, working, count);
  }

  // The best of each group of records, on the tile that belongs to the group.
  Records join(ComputeSet cs, const Records &from, const std::vector<Range> &groups, const std::vector<unsigned> &tiles,
               const DebugContext &dc) {
    const Records to(graph_, tiles, dc, "best");
    for (std::size_t i = 0; i < groups.size(); ++i) {
      VertexRef vertex = addVertex(graph_, cs, "NmsBest", tiles[i], groups[i].size());
      from.connectInput(graph_, vertex, groups[i]);
      to.connectOutput(graph_, vertex, i);
    }
    return to;
  }

  void addSuppression(const ComputeSets &sets, const Records &workers, const Records &finalists, const Tensor &alive,
                      const Tensor &working, const Tensor &count) {
    const std::size_t numFinalists = finalists.scores.numElements();
    const std::string suffix = labelled_ ? "Labelled" : "";
    for (std::size_t i = 0; i < plan_.slices.size(); ++i) {
      const WorkerSlice &slice = plan_.slices[i];
      const Range entries{slice.anchors.begin * numClasses_, slice.anchors.end * numClasses_};
      VertexRef select =
          addVertex(graph_, sets.select, poputil::templateVertex("NmsSelect" + suffix, type_, working.elementType()),
                    slice.tile, entries.size());
      graph_.connect(select["scores"], scores_.slice(entries.begin, entries.end));
      VertexRef suppress = addVertex(graph_, sets.suppress,
                                     poputil::templateVertex("NmsSuppress" + suffix, type_, working.elementType()),
                                     slice.tile, numFinalists + 5 * entries.size());
      finalists.connectFinalists(graph_, suppress);
      graph_.setInitialValue(suppress["iouThreshold"], options_.iouThreshold);
      graph_.setInitialValue(suppress["sigma"], options_.sigma);
      if (labelled_)
        graph_.setInitialValue(suppress["acrossClasses"], options_.acrossClasses);

      for (VertexRef vertex : {select, suppress}) {
        graph_.connect(vertex["boxes"], boxes_.slice(slice.anchors.begin, slice.anchors.end).flatten());
        if (labelled_)
          graph_.connect(vertex["classes"], classes_.slice(slice.anchors.begin, slice.anchors.end));
        else
          graph_.setInitialValue(vertex["numClasses"], static_cast<unsigned>(numClasses_));
        graph_.connect(vertex["alive"], alive[i]);
        graph_.connect(vertex["working"], working[i]);
        graph_.connect(vertex["count"], count[i]);
        workers.connectOutput(graph_, vertex, i);
        graph_.setInitialValue(vertex["firstIndex"], static_cast<int>(entries.begin));
        graph_.setInitialValue(vertex["scoreThreshold"], options_.scoreThreshold);
      }
    }
    VertexRef answer =
        addVertex(graph_, sets.suppress, poputil::templateVertex("NmsAnswer", type_), plan_.answerTile, numFinalists);
    finalists.connectFinalists(graph_, answer);
    connectAnswer(answer);
  }

  void connectAnswer(VertexRef vertex) {
    graph_.connect(vertex["indices"], indices);
    graph_.connect(vertex["scores"], scores);
    graph_.connect(vertex["boxes"], boxes.flatten());
    graph_.connect(vertex["classes"], classes);
    graph_.connect(vertex["length"], length);
    graph_.connect(vertex["active"], active);
  }

  Tensor variable(const Type &type, const std::vector<std::size_t> &shape, const DebugContext &dc) {
    const Tensor tensor = graph_.addVariable(type, shape, dc);
    graph_.setTileMapping(tensor, plan_.answerTile);
    return tensor;
  }

  Graph &graph_;
  const Options &options_;
  const ImagePlan &plan_;
  const Type type_;
  const std::size_t numClasses_;
  const bool labelled_;
  const Tensor scores_, boxes_;
  Tensor classes_;
};

// A copy of `from` [B, N, ...] in which every worker has the anchors of its slice on its own tile. Vertices that read
// the input itself would fetch it over the exchange in every iteration; moving the input would change another
// operation's layout.
Tensor copyToWorkers(Graph &graph, Sequence &prog, const Tensor &from, const std::vector<ImagePlan> &plans,
                     const DebugContext &dc) {
  const Tensor to = graph.addVariable(from.elementType(), from.shape(), dc);
  for (std::size_t image = 0; image < plans.size(); ++image) {
    for (const WorkerSlice &slice : plans[image].slices)
      graph.setTileMapping(to[image].slice(slice.anchors.begin, slice.anchors.end), slice.tile);
  }
  prog.add(Copy(from, to));
  return to;
}

} // namespace

Detections suppress(Graph &graph, Sequence &prog, const Candidates &in, const Options &options,
                    const DebugContext &debugContext) {
  check(in, options);
  const std::size_t batch = in.scores.dim(0), anchors = in.scores.dim(1);
  const std::size_t numClasses = in.scores.rank() == 3 ? in.scores.dim(2) : 1;
  const poplar::Target &target = graph.getTarget();
  std::vector<ImagePlan> plans;
  for (std::size_t image = 0; image < batch; ++image)
    plans.push_back(planImage(image, batch, anchors, numClasses, target.getNumTiles(), target.getNumWorkerContexts()));

  const Tensor boxes = copyToWorkers(graph, prog, in.boxes, plans, {debugContext, "boxes"});
  Tensor classes;
  if (in.classes.valid())
    classes = copyToWorkers(graph, prog, in.classes.reinterpret(poplar::INT), plans, {debugContext, "classes"});

  ComputeSets sets{graph.addComputeSet({debugContext, "select"}),
                   graph.addComputeSet({debugContext, "tile"}),
                   graph.addComputeSet({debugContext, "suppress"}),
                   {}};
  for (std::size_t level = 0; level < plans[0].levels.size(); ++level) // images are of one size, so plans are alike
    sets.groups.push_back(graph.addComputeSet({debugContext, "group" + std::to_string(level)}));
  std::vector<Tensor> indices, scores, answerBoxes, answerClasses, lengths, active;
  for (std::size_t i = 0; i < batch; ++i) {
    const Image image(graph, prog, in, boxes, classes, options, plans[i], i, sets,
                      {debugContext, "image" + std::to_string(i)});
    indices.push_back(image.indices);
    scores.push_back(image.scores);
    answerBoxes.push_back(image.boxes);
    answerClasses.push_back(image.classes);
    lengths.push_back(image.length);
    active.push_back(image.active);
  }
  prog.add(Execute(sets.select, {debugContext, "select"}));

  // NmsReset has set the flag of every image.
  Tensor predicate = active[0];
  if (batch > 1) {
    predicate = graph.addVariable(poplar::BOOL, {}, {debugContext, "anyActive"});
    graph.setTileMapping(predicate, plans[0].answerTile);
    const Tensor yes = graph.addConstant(poplar::BOOL, {}, true, {debugContext, "yes"});
    graph.setTileMapping(yes, plans[0].answerTile);
    prog.add(Copy(yes, predicate));
    // The flags are joined beside the next iteration's comparisons. So the loop runs once more than needed, which
    // changes nothing, and saves a superstep in every iteration.
    VertexRef any = addVertex(graph, sets.tile, "NmsAnyActive", plans[0].answerTile, batch);
    graph.connect(any["active"], stack(active));
    graph.connect(any["any"], predicate);
  }
  Sequence body;
  body.add(Execute(sets.tile, {debugContext, "tile"}));
  for (const ComputeSet group : sets.groups)
    body.add(Execute(group, {debugContext, "group"}));
  body.add(Execute(sets.suppress, {debugContext, "suppress"}));
  prog.add(RepeatWhileTrue(Sequence(), predicate, body, {debugContext, "loop"}));

  return {stack(indices), stack(scores), stack(answerBoxes), stack(answerClasses), stack(lengths)};
}

} // namespace nms
