// SPDX-License-Identifier: Apache-2.0
#include "former.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <poputil/TileMapping.hpp>
#include <poputil/VertexTemplates.hpp>

using namespace poplar;
using namespace poplar::program;

namespace {

struct Piece {
  std::size_t begin, end; // anchors of one image
  unsigned tile;
};

Tensor onTile(Graph &graph, const Type &type, const std::vector<std::size_t> &shape, unsigned tile) {
  const Tensor tensor = graph.addVariable(type, shape, "former");
  graph.setTileMapping(tensor, tile);
  return tensor;
}

template <typename T> void fill(Graph &graph, Sequence &prog, const Tensor &tensor, T value) {
  const Tensor constant = graph.addConstant(tensor.elementType(), {1}, value, "former");
  graph.setTileMapping(constant, 1);
  prog.add(Copy(constant.broadcast(static_cast<unsigned>(tensor.numElements()), 0), tensor.flatten()));
}

std::size_t rootOf(std::size_t n) { return static_cast<std::size_t>(std::ceil(std::sqrt(static_cast<double>(n)))); }

// The part of an image on each tile.
std::vector<Piece> piecesOf(Graph &graph, const Tensor &scores) {
  const auto mapping = graph.getTileMapping(scores);
  std::vector<Piece> pieces;
  for (unsigned tile = 0; tile < mapping.size(); ++tile) {
    for (const Interval &interval : mapping[tile])
      pieces.push_back({interval.begin(), interval.end(), tile});
  }
  return pieces;
}

// A copy of an input spread over all tiles, anchor by anchor.
Tensor spread(Graph &graph, Sequence &prog, const Tensor &from, unsigned width) {
  const Tensor to = graph.addVariable(from.elementType(), from.shape(), "former");
  poputil::mapTensorLinearly(graph, to, 2 * width, 2 * width); // two halves make a word
  prog.add(Copy(from, to));
  return to;
}

// One step of a tree: `join` is called with each group of inputs and the tile for its result; returns the tiles.
template <typename Join>
std::vector<unsigned> groups(const std::vector<unsigned> &tiles, std::size_t groupSize, Join join) {
  std::vector<unsigned> result;
  for (std::size_t i = 0; i < tiles.size(); i += groupSize) {
    join(i, std::min(tiles.size(), i + groupSize), result.size());
    result.push_back(tiles[i]);
  }
  return result;
}

struct Sets {
  std::vector<ComputeSet> argMax;
  ComputeSet gather, sumGroups, sum, update, suppress, condition;
};

// PopLibs' arg-max: every step leaves one of 32 numbers. The first one has six workers on a tile, from tile 0 on,
// wherever the scores are; the others have one.
constexpr std::size_t argMaxFactor = 32;

std::size_t argMaxSteps(std::size_t n) {
  std::size_t steps = 0;
  for (; n > 1; n = (n + argMaxFactor - 1) / argMaxFactor)
    ++steps;
  return steps;
}

void addArgMax(Graph &graph, const std::vector<ComputeSet> &sets, const Tensor &scores, const Tensor &best,
               const Tensor &index, unsigned home) {
  const unsigned tiles = graph.getTarget().getNumTiles(), workers = graph.getTarget().getNumWorkerContexts();
  Tensor values = scores, indices;
  unsigned next = 0;
  for (std::size_t step = 0; step < sets.size(); ++step) {
    const std::size_t n = values.numElements(), groups = (n + argMaxFactor - 1) / argMaxFactor;
    const bool last = step + 1 == sets.size();
    const Tensor toValues = last ? best.expand({0}) : graph.addVariable(FLOAT, {groups}, "partials"),
                 toIndices = last ? index.expand({0}) : graph.addVariable(UNSIGNED_INT, {groups}, "partials");
    for (std::size_t i = 0; i < groups; ++i) {
      const std::size_t begin = i * argMaxFactor, end = std::min(n, begin + argMaxFactor);
      const unsigned tile = last ? home : (step == 0 ? next + static_cast<unsigned>(i) / workers : next++) % tiles;
      VertexRef vertex = graph.addVertex(
          sets[step], step == 0 ? poputil::templateVertex("FormerArgMax", values.elementType()) : "FormerArgMaxJoin");
      graph.setTileMapping(vertex, tile);
      graph.connect(vertex["scores"], values.slice(begin, end));
      if (step == 0)
        graph.setInitialValue(vertex["offset"], static_cast<unsigned>(begin));
      else
        graph.connect(vertex["indices"], indices.slice(begin, end));
      graph.connect(vertex["best"], toValues[i]);
      graph.connect(vertex["index"], toIndices[i]);
      if (!last) {
        graph.setTileMapping(toValues[i], tile);
        graph.setTileMapping(toIndices[i], tile);
      }
    }
    if (step == 0)
      next += static_cast<unsigned>((groups + workers - 1) / workers);
    values = toValues;
    indices = toIndices;
  }
}

} // namespace

nms::Detections formerSuppress(Graph &graph, Sequence &prog, const nms::Candidates &in, const nms::Options &options) {
  const std::size_t batch = in.scores.dim(0), rows = options.maxDetections;
  const Type type = in.scores.elementType();
  const unsigned workers = graph.getTarget().getNumWorkerContexts(), tiles = graph.getTarget().getNumTiles();
  Sets sets{{},
            graph.addComputeSet("gather"),
            graph.addComputeSet("sum groups"),
            graph.addComputeSet("sum"),
            graph.addComputeSet("update"),
            graph.addComputeSet("suppress"),
            graph.addComputeSet("condition")};
  for (std::size_t i = 0; i < argMaxSteps(in.scores.dim(1)); ++i)
    sets.argMax.push_back(graph.addComputeSet("arg-max " + std::to_string(i + 1)));

  const auto rowVariable = [&](const Type &rowType, std::size_t width) {
    const Tensor tensor = graph.addVariable(rowType, {batch, rows, width}, "top");
    poputil::mapTensorLinearly(graph, tensor, static_cast<unsigned>(width), static_cast<unsigned>(width));
    return tensor;
  };
  const Tensor topIndices = rowVariable(INT, 1), topScores = rowVariable(type, 2), topBoxes = rowVariable(type, 4),
               topClasses = rowVariable(INT, 1); // scores two wide: half a word must not be shared
  fill(graph, prog, topIndices, -1);
  fill(graph, prog, topScores, 0.0f);
  fill(graph, prog, topBoxes, 0.0f);
  fill(graph, prog, topClasses, std::numeric_limits<int>::max());
  const Tensor iteration = onTile(graph, UNSIGNED_INT, {}, 1), goOn = onTile(graph, BOOL, {}, 1),
               bests = onTile(graph, FLOAT, {batch}, 1);
  fill(graph, prog, iteration, 0u);
  fill(graph, prog, bests, 0.0f);

  const auto vertex = [&](ComputeSet set, const std::string &name, unsigned tile) {
    const VertexRef ref = graph.addVertex(set, name);
    graph.setTileMapping(ref, tile);
    return ref;
  };
  for (std::size_t image = 0; image < batch; ++image) {
    const Tensor scores = spread(graph, prog, in.scores[image], 1), boxes = spread(graph, prog, in.boxes[image], 4),
                 classes = spread(graph, prog, in.classes[image], 1);
    const std::vector<Piece> pieces = piecesOf(graph, scores);
    std::vector<Piece> parts; // of workers
    for (const Piece &piece : pieces) {
      const std::size_t size = (piece.end - piece.begin + workers - 1) / workers;
      const std::size_t even = (size + 1) / 2 * 2; // two workers must not write one word
      for (std::size_t begin = piece.begin; begin < piece.end; begin += even)
        parts.push_back({begin, std::min(piece.end, begin + even), piece.tile});
    }
    std::vector<unsigned> pieceTiles;
    for (const Piece &piece : pieces)
      pieceTiles.push_back(piece.tile);

    const unsigned home = static_cast<unsigned>(1 + image) % tiles;
    const Tensor index = onTile(graph, UNSIGNED_INT, {}, home);
    addArgMax(graph, sets.argMax, scores, bests[image], index, home);

    // The winner's box and class.
    const Tensor pieceBox = graph.addVariable(FLOAT, {pieces.size(), 4}, "contribution"),
                 pieceLabel = graph.addVariable(INT, {pieces.size()}, "contribution");
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const Piece &piece = pieces[i];
      graph.setTileMapping(pieceBox[i], piece.tile);
      graph.setTileMapping(pieceLabel[i], piece.tile);
      VertexRef gather = vertex(sets.gather, poputil::templateVertex("FormerGather", type), piece.tile);
      graph.connect(gather["index"], index);
      graph.connect(gather["classes"], classes.slice(piece.begin, piece.end));
      graph.connect(gather["boxes"], boxes.slice(piece.begin, piece.end).flatten());
      graph.connect(gather["box"], pieceBox[i]);
      graph.connect(gather["label"], pieceLabel[i]);
      graph.setInitialValue(gather["offset"], static_cast<unsigned>(piece.begin));
    }
    const auto sum = [&](ComputeSet set, const Tensor &from, const Tensor &fromLabel, std::size_t begin,
                         std::size_t end, const Tensor &to, const Tensor &toLabel, unsigned tile) {
      VertexRef ref = vertex(set, "FormerSum", tile);
      graph.connect(ref["boxes"], from.slice(begin, end).flatten());
      graph.connect(ref["labels"], fromLabel.slice(begin, end));
      graph.connect(ref["box"], to);
      graph.connect(ref["label"], toLabel);
    };
    const std::size_t pieceGroup = rootOf(pieces.size()), pieceGroups = (pieces.size() + pieceGroup - 1) / pieceGroup;
    const Tensor groupBox = graph.addVariable(FLOAT, {pieceGroups, 4}, "sum"),
                 groupLabel = graph.addVariable(INT, {pieceGroups}, "sum");
    groups(pieceTiles, pieceGroup, [&](std::size_t begin, std::size_t end, std::size_t i) {
      graph.setTileMapping(groupBox[i], pieceTiles[begin]);
      graph.setTileMapping(groupLabel[i], pieceTiles[begin]);
      sum(sets.sumGroups, pieceBox, pieceLabel, begin, end, groupBox[i], groupLabel[i], pieceTiles[begin]);
    });
    const Tensor box = onTile(graph, FLOAT, {4}, home), label = onTile(graph, INT, {}, home);
    sum(sets.sum, groupBox, groupLabel, 0, pieceGroups, box, label, home);

    // Clear the winner, write the answer, suppress.
    for (const Piece &piece : pieces) {
      VertexRef clear = vertex(sets.update, poputil::templateVertex("FormerClear", type), piece.tile);
      graph.connect(clear["index"], index);
      graph.connect(clear["scores"], scores.slice(piece.begin, piece.end));
      graph.setInitialValue(clear["offset"], static_cast<unsigned>(piece.begin));
    }
    for (std::size_t row = 0; row < rows; ++row) {
      const Tensor topBox = topBoxes[image][row];
      const auto mapping = graph.getTileMapping(topBox);
      const auto owner =
          std::find_if(mapping.begin(), mapping.end(), [](const std::vector<Interval> &tile) { return !tile.empty(); });
      VertexRef answer = vertex(sets.update, poputil::templateVertex("FormerAnswer", type),
                                static_cast<unsigned>(owner - mapping.begin()));
      graph.connect(answer["iteration"], iteration);
      graph.connect(answer["best"], bests[image]);
      graph.connect(answer["index"], index);
      graph.connect(answer["box"], box);
      graph.connect(answer["label"], label);
      graph.connect(answer["topIndex"], topIndices[image][row][0]);
      graph.connect(answer["topScore"], topScores[image][row][0]);
      graph.connect(answer["topBox"], topBox);
      graph.connect(answer["topClass"], topClasses[image][row][0]);
      graph.setInitialValue(answer["row"], static_cast<unsigned>(row));
      graph.setInitialValue(answer["scoreThreshold"], options.scoreThreshold);
    }
    for (const Piece &part : parts) {
      VertexRef suppress = vertex(sets.suppress, poputil::templateVertex("FormerSuppress", type), part.tile);
      graph.connect(suppress["box"], box);
      graph.connect(suppress["label"], label);
      graph.connect(suppress["scores"], scores.slice(part.begin, part.end));
      graph.connect(suppress["boxes"], boxes.slice(part.begin, part.end).flatten());
      graph.connect(suppress["classes"], classes.slice(part.begin, part.end));
      graph.setInitialValue(suppress["iouThreshold"], options.iouThreshold);
      graph.setInitialValue(suppress["scoreThreshold"], options.scoreThreshold);
    }
  }
  VertexRef step = vertex(sets.suppress, "FormerStep", 1);
  graph.connect(step["iteration"], iteration);
  VertexRef condition = vertex(sets.condition, "FormerCondition", 1);
  graph.connect(condition["iteration"], iteration);
  graph.connect(condition["bests"], bests);
  graph.connect(condition["goOn"], goOn);
  graph.setInitialValue(condition["rows"], static_cast<unsigned>(rows));
  graph.setInitialValue(condition["scoreThreshold"], options.scoreThreshold);

  Sequence body;
  for (const ComputeSet set : sets.argMax)
    body.add(Execute(set));
  for (const ComputeSet set : {sets.gather, sets.sumGroups, sets.sum, sets.update, sets.suppress})
    body.add(Execute(set));
  prog.add(RepeatWhileTrue(Execute(sets.condition), goOn, body));
  return {topIndices.squeeze({2}), topScores.slice(0, 1, 2).squeeze({2}), topBoxes, topClasses.squeeze({2}), Tensor()};
}
