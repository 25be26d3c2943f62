// SPDX-License-Identifier: Apache-2.0
//
// Builds the NMS operator in the model of Poplar, runs it and counts cycles. As a C interface for
// benchmarks/nms_poplar_estimate.py, which also explains the assumptions.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

#include "nms.hpp"
#include "poplar_model/executable.hpp"
#include "poputil/TileMapping.hpp"

using poplar_model::VertexView;

extern "C" struct EstimateSettings {
  std::int32_t isHalf, tiles, batch, anchors, rows;
  float iouThreshold, scoreThreshold;
  // Assumptions, in instructions of a worker unless they say cycles.
  double vertex;  // starting a vertex and reading its fields
  double compare; // finding the greatest: one number, compiled C++
  double move;    // copying one number
  double scan;    // looking at a score that is not a candidate
  double visit;   // an entry that is left, without its box
  double overlap; // reading a box, its area, IoU with the winner, the decision
  double syncCycles, loopCycles;
};

namespace {

template <typename T> double candidates(const VertexView &view, const std::string &field, float threshold) {
  double count = 0;
  for (std::size_t i = 0; i < view.size(field); ++i)
    count += static_cast<float>(view.data<T>(field)[i]) > threshold;
  return count;
}

double candidates(const VertexView &view, const EstimateSettings &s) {
  return s.isHalf ? candidates<half>(view, "scores", s.scoreThreshold)
                  : candidates<float>(view, "scores", s.scoreThreshold);
}

// Entries that are left in a slice and of the winner's class.
double overlaps(const VertexView &view) {
  const float *scores = view.data<float>("finalistScores");
  std::size_t at = 0;
  for (std::size_t i = 1; i < view.size("finalistScores"); ++i)
    at = scores[i] > scores[at] ? i : at;
  double count = 0;
  for (unsigned i = 0; i < view.value<unsigned>("count"); ++i)
    count +=
        view.data<int>("classes")[view.data<std::uint16_t>("alive")[i]] == view.data<int>("finalistIds")[2 * at + 1];
  return count;
}

poplar_model::CostModel costModel(const EstimateSettings &s) {
  poplar_model::CostModel model;
  model.syncCycles = s.syncCycles;
  model.loopCycles = s.loopCycles;
  const double record = 7 * s.move; // score, box, index, class
  auto &vertices = model.vertices;
  vertices["NmsReset"] = [=](const VertexView &v) { return s.vertex + 7 * s.move * v.size("indices"); };
  vertices["NmsSelectLabelled"] = [=](const VertexView &v) {
    return s.vertex + s.scan * v.size("scores") + s.visit * candidates(v, s) + record;
  };
  vertices["NmsBest"] = [=](const VertexView &v) { return s.vertex + s.compare * v.size("scores") + record; };
  vertices["NmsAnyActive"] = [=](const VertexView &v) { return s.vertex + s.compare * v.size("active"); };
  vertices["NmsAnswer"] = [=](const VertexView &v) {
    return s.vertex + s.compare * v.size("finalistScores") + 2 * record;
  };
  vertices["NmsSuppressLabelled"] = [=](const VertexView &v) {
    return s.vertex + s.compare * v.size("finalistScores") + s.overlap / 3 + s.visit * v.value<unsigned>("count") +
           s.overlap * overlaps(v) + record;
  };
  return model;
}

std::string estimate(const EstimateSettings &s, const char *codelets, const void *scoreData, const void *boxData,
                     const std::int32_t *classData, std::int32_t *indices) {
  poplar::Graph graph(poplar::Target::createIPUTarget(1, s.tiles, "ipu2"));
  graph.addCodelets(codelets);
  const poplar::Type type = s.isHalf ? poplar::HALF : poplar::FLOAT;
  const std::size_t batch = s.batch, anchors = s.anchors;
  nms::Candidates in;
  in.scores = graph.addVariable(type, {batch, anchors}, "scores");
  in.boxes = graph.addVariable(type, {batch, anchors, 4}, "boxes");
  in.classes = graph.addVariable(poplar::INT, {batch, anchors}, "classes");
  for (const poplar::Tensor &tensor : {in.scores, in.boxes, in.classes})
    poputil::mapTensorLinearly(graph, tensor);
  auto &data = poplar_model::Access::data(graph);
  const std::size_t inputBytes = poplar_model::Executable(data, poplar::program::Sequence()).maxTileBytes();

  nms::Options options;
  options.iouThreshold = s.iouThreshold;
  options.scoreThreshold = s.scoreThreshold;
  options.maxDetections = s.rows;
  poplar::program::Sequence prog;
  const nms::Detections out = nms::suppress(graph, prog, in, options);
  poplar_model::Executable executable(data, prog);
  poplar_model::writeElements(in.scores, scoreData);
  poplar_model::writeElements(in.boxes, boxData);
  poplar_model::writeElements(in.classes, classData);
  const poplar_model::CostModel costs = costModel(s);
  executable.run(&costs);
  poplar_model::readElements(out.indices, indices);

  std::string json = "{\"tile_bytes\": " + std::to_string(executable.maxTileBytes()) +
                     ", \"tile_bytes_apart\": " + std::to_string(executable.maxTileBytesApart()) +
                     ", \"input_bytes\": " + std::to_string(inputBytes) + ", \"stages\": [";
  for (const poplar_model::Cost &cost : executable.costs()) {
    char line[400];
    std::snprintf(line, sizeof line,
                  "%s{\"name\": \"%s\", \"executions\": %zu, \"compute\": %.1f, \"exchange\": %.1f, \"apart\": %.1f, "
                  "\"sync\": %.1f, \"bytes\": %.0f}",
                  &cost == &executable.costs().front() ? "" : ", ", cost.name.c_str(), cost.executions,
                  cost.computeCycles, cost.exchangeCycles, cost.apartCycles, cost.syncCycles, cost.bytesExchanged);
    json += line;
  }
  return json + "]}";
}

} // namespace

// scores [B, N], boxes [B, N, 4] float or half, classes [B, N]; indices [B, rows] is written. 0 and JSON, or 1 and a
// text.
extern "C" int nms_poplar_estimate(const EstimateSettings *settings, const char *codelets, const void *scores,
                                   const void *boxes, const std::int32_t *classes, std::int32_t *indices, char *text,
                                   std::size_t text_size) {
  int failed = 0;
  std::string result;
  try {
    result = estimate(*settings, codelets, scores, boxes, classes, indices);
  } catch (const std::exception &error) {
    result = error.what();
    failed = 1;
  }
  std::strncpy(text, result.c_str(), text_size - 1);
  text[text_size - 1] = '\0';
  return failed;
}
