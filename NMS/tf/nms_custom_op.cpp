// SPDX-License-Identifier: Apache-2.0
//
// The symbols TensorFlow looks for, for one score an anchor, with or without classes.
#include "../nms_custom_op.hpp"

extern "C" {

std::int32_t custom_op_api_level = 5;

void Build_metadata(std::vector<std::int64_t> &, std::vector<std::int64_t> &, std::map<std::int64_t, std::int64_t> &,
                    bool &is_elementwise, bool &is_stateless, bool &is_hashable, std::uint32_t) {
  nms::describe(is_elementwise, is_stateless, is_hashable);
}

poplar::program::Program Build(poplar::Graph &graph, const std::vector<poplar::Tensor> &inputs,
                               std::vector<poplar::Tensor> &outputs, const std::string &attributes,
                               const std::string &debug_prefix) {
  return nms::build(graph, inputs, outputs, attributes, debug_prefix, nms::Form::oneScoreAnAnchor);
}
}
