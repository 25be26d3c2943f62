// SPDX-License-Identifier: Apache-2.0
//
// HostNms: non-maximum suppression of scores and boxes on the CPU.
#include "op_support.hpp"

namespace nms_host {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("HostNms")
    .Input("scores: T")
    .Input("boxes: T")
    .Input("classes: int32")
    .Output("indices: int32")
    .Output("out_scores: T")
    .Output("out_boxes: T")
    .Output("out_classes: int32")
    .Output("lengths: int32")
    .Attr("T: {half, bfloat16, float}")
    .Attr("mode: {'best-class', 'class-agnostic', 'multi-class'} = 'best-class'")
    .Attr("iou_threshold: float = 0.5")
    .Attr("score_threshold: float = 0.0")
    .Attr("sigma: float = 0.0")
    .Attr("num_detections: int >= 1 = 100")
    .SetShapeFn([](InferenceContext *c) {
      std::string mode;
      TF_RETURN_IF_ERROR(c->GetAttr("mode", &mode));
      ShapeHandle scores, boxes, classes;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), mode == "multi-class" ? 3 : 2, &scores));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 3, &boxes));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 2, &classes));
      DimensionHandle batch, unused;
      TF_RETURN_IF_ERROR(c->Merge(c->Dim(scores, 0), c->Dim(boxes, 0), &batch));
      TF_RETURN_IF_ERROR(c->Merge(batch, c->Dim(classes, 0), &batch));
      TF_RETURN_IF_ERROR(c->Merge(c->Dim(scores, 1), c->Dim(boxes, 1), &unused));
      TF_RETURN_IF_ERROR(c->WithValue(c->Dim(boxes, 2), 4, &unused));
      std::int32_t rows;
      TF_RETURN_IF_ERROR(c->GetAttr("num_detections", &rows));
      c->set_output(0, c->Matrix(batch, rows));
      c->set_output(1, c->Matrix(batch, rows));
      c->set_output(2, c->MakeShape({batch, c->MakeDim(rows), c->MakeDim(4)}));
      c->set_output(3, c->Matrix(batch, rows));
      c->set_output(4, c->Vector(batch));
      return Status();
    })
    .Doc("Greedy non-maximum suppression, image by image. scores [N, K] (multi-class: [N, K, C]), boxes [N, K, 4], "
         "classes [N, K], or [N, 0] when no box has one.");

class HostNms : public tensorflow::OpKernel {
public:
  explicit HostNms(tensorflow::OpKernelConstruction *construction) : OpKernel(construction) {
    readOptions(construction, &mode_, &options_);
  }

  void Compute(OpKernelContext *context) override {
    const Tensor &scores = context->input(0), &boxes = context->input(1), &labels = context->input(2);
    const bool multi = mode_ == Mode::multiClass;
    OP_REQUIRES(context, scores.dims() == (multi ? 3 : 2),
                invalid(multi ? "scores must be [N, K, C]" : "scores must be [N, K]", ", got ",
                        scores.shape().DebugString(),
                        multi ? "." : ": reduce over classes, or use the mode multi-class."));
    const std::int64_t batch = scores.dim_size(0), count = scores.dim_size(1), classes = multi ? scores.dim_size(2) : 1;
    OP_REQUIRES(context, boxes.shape() == TensorShape({batch, count, 4}),
                invalid("boxes must be [N, K, 4] = [", batch, ",", count, ",4] for scores ",
                        scores.shape().DebugString(), ", got ", boxes.shape().DebugString(), "."));
    const bool labelled = labels.dims() == 2 && labels.dim_size(1) > 0;
    OP_REQUIRES(context, labels.shape() == TensorShape({batch, count}) || labels.shape() == TensorShape({batch, 0}),
                invalid("classes must be [N, K] = [", batch, ",", count, "], or [", batch,
                        ",0] when no box has a class, got ", labels.shape().DebugString(), "."));
    const std::int64_t candidates = valuesFrom(scores.shape(), 1);
    OP_REQUIRES(context, candidates >= 0 && candidates < (std::int64_t{1} << 31) && classes >= 1,
                invalid("scores ", scores.shape().DebugString(),
                        " hold no class, or more candidates an image than an index of 32 bits can number."));
    const std::int64_t rows = options_.maxDetections;
    Tensor *outIndices, *outScores, *outBoxes, *outLabels, *lengths;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({batch, rows}), &outIndices));
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({batch, rows}), &outScores));
    OP_REQUIRES_OK(context, context->allocate_output(2, TensorShape({batch, rows, 4}), &outBoxes));
    OP_REQUIRES_OK(context, context->allocate_output(3, TensorShape({batch, rows}), &outLabels));
    OP_REQUIRES_OK(context, context->allocate_output(4, TensorShape({batch}), &lengths));

    NmsCall call{};
    AlignedInputs inputs;
    call.type = dtypeOf(scores.dtype());
    call.mode = mode_;
    call.options = options_;
    call.batch = static_cast<std::size_t>(batch);
    call.boxes = static_cast<std::size_t>(count);
    call.classes = static_cast<std::size_t>(classes);
    call.scores = dataOf(scores, inputs);
    call.corners = dataOf(boxes, inputs);
    call.labels = labelled && !multi ? dataOf<std::int32_t>(labels, inputs) : nullptr;
    call.outIndices = dataOf<std::int32_t>(outIndices);
    call.outScores = dataOf(outScores);
    call.outCorners = dataOf(outBoxes);
    call.outLabels = dataOf<std::int32_t>(outLabels);
    call.outLengths = dataOf<std::int32_t>(lengths);
    runOn(context, pool_, [&](const Context &resources) { return nms(call, resources); });
  }

private:
  Mode mode_;
  nms_core::Options options_;
  WorkspacePool pool_;
};

REGISTER_KERNEL_BUILDER(Name("HostNms").Device(tensorflow::DEVICE_CPU), HostNms);

} // namespace
} // namespace nms_host
