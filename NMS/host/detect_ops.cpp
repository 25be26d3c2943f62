// SPDX-License-Identifier: Apache-2.0
//
// HostDetect: from the outputs of the heads straight to detections. HostDecode: its first half, scores and boxes of all
// anchors. HostNms on the outputs of HostDecode, then clipping and scaling, gives what HostDetect gives.
#include "op_support.hpp"

namespace nms_host {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// Merges the batch dimension of all head outputs and checks the anchors.
Status inferHeads(InferenceContext *c, DimensionHandle *batch, DimensionHandle *anchors) {
  std::vector<ShapeHandle> outputs, boxes;
  TF_RETURN_IF_ERROR(c->input("class_outputs", &outputs));
  TF_RETURN_IF_ERROR(c->input("box_outputs", &boxes));
  outputs.insert(outputs.end(), boxes.begin(), boxes.end());
  *batch = c->UnknownDim();
  for (ShapeHandle output : outputs) {
    ShapeHandle known;
    TF_RETURN_IF_ERROR(c->WithRankAtLeast(output, 2, &known));
    TF_RETURN_IF_ERROR(c->Merge(*batch, c->Dim(known, 0), batch));
  }
  std::vector<ShapeHandle> rest;
  TF_RETURN_IF_ERROR(c->input("anchors", &rest));
  ShapeHandle corners;
  DimensionHandle four;
  TF_RETURN_IF_ERROR(c->WithRank(rest[0], 2, &corners));
  TF_RETURN_IF_ERROR(c->WithValue(c->Dim(corners, 1), 4, &four));
  *anchors = c->Dim(corners, 0);
  return Status();
}

REGISTER_OP("HostDecode")
    .Input("class_outputs: L * T")
    .Input("box_outputs: L * T")
    .Input("anchors: float")
    .Output("scores: float")
    .Output("boxes: float")
    .Output("classes: int32")
    .Attr("L: int >= 1")
    .Attr("T: {half, bfloat16, float}")
    .Attr("num_classes: int >= 1")
    .Attr("mode: {'best-class', 'class-agnostic', 'multi-class'} = 'best-class'")
    .SetShapeFn([](InferenceContext *c) {
      DimensionHandle batch, anchors;
      TF_RETURN_IF_ERROR(inferHeads(c, &batch, &anchors));
      std::string mode;
      std::int32_t classes;
      TF_RETURN_IF_ERROR(c->GetAttr("mode", &mode));
      TF_RETURN_IF_ERROR(c->GetAttr("num_classes", &classes));
      const bool multi = mode == "multi-class";
      c->set_output(0, multi ? c->MakeShape({batch, anchors, c->MakeDim(classes)}) : c->Matrix(batch, anchors));
      c->set_output(1, c->MakeShape({batch, anchors, c->MakeDim(4)}));
      c->set_output(2, multi ? c->Matrix(batch, c->MakeDim(0)) : c->Matrix(batch, anchors));
      return Status();
    })
    .Doc(
        "Scores and boxes of all anchors: the sigmoid of the greatest logit and its class (multi-class: the sigmoid of "
        "all), and corners in pixels. float32 whatever the type of the heads.");

REGISTER_OP("HostDetect")
    .Input("class_outputs: L * T")
    .Input("box_outputs: L * T")
    .Input("anchors: float")
    .Input("image_scales: float")
    .Output("boxes: float")
    .Output("scores: float")
    .Output("classes: int32")
    .Output("indices: int32")
    .Output("lengths: int32")
    .Attr("L: int >= 1")
    .Attr("T: {half, bfloat16, float}")
    .Attr("num_classes: int >= 1")
    .Attr("image_height: float")
    .Attr("image_width: float")
    .Attr("mode: {'best-class', 'class-agnostic', 'multi-class'} = 'best-class'")
    .Attr("iou_threshold: float = 0.5")
    .Attr("score_threshold: float = 0.0")
    .Attr("sigma: float = 0.0")
    .Attr("num_detections: int >= 1 = 100")
    .SetShapeFn([](InferenceContext *c) {
      DimensionHandle batch, anchors;
      TF_RETURN_IF_ERROR(inferHeads(c, &batch, &anchors));
      std::vector<ShapeHandle> scales;
      TF_RETURN_IF_ERROR(c->input("image_scales", &scales));
      ShapeHandle vector;
      TF_RETURN_IF_ERROR(c->WithRank(scales[0], 1, &vector));
      std::int32_t rows;
      TF_RETURN_IF_ERROR(c->GetAttr("num_detections", &rows));
      c->set_output(0, c->MakeShape({batch, c->MakeDim(rows), c->MakeDim(4)}));
      for (int i = 1; i < 4; ++i)
        c->set_output(i, c->Matrix(batch, rows));
      c->set_output(4, c->Vector(batch));
      return Status();
    })
    .Doc("Detections from the outputs of the heads, finest level first. image_scales [N], or empty for none.");

// Fills `heads` from the inputs of a call, or gives the call an error.
void readHeads(OpKernelContext *context, std::int64_t classes, AlignedInputs &inputs, Heads *heads) {
  tensorflow::OpInputList logits, regressions;
  const Tensor *anchors;
  OP_REQUIRES_OK(context, context->input_list("class_outputs", &logits));
  OP_REQUIRES_OK(context, context->input_list("box_outputs", &regressions));
  OP_REQUIRES_OK(context, context->input("anchors", &anchors));
  OP_REQUIRES(context, logits[0].dims() >= 2,
              invalid("class_outputs must be [N, H, W, anchors * classes], got ", logits[0].shape().DebugString()));
  const std::int64_t batch = logits[0].dim_size(0);
  std::int64_t total = 0;
  for (int level = 0; level < logits.size(); ++level) {
    const TensorShape &ofLogits = logits[level].shape(), &ofBoxes = regressions[level].shape();
    OP_REQUIRES(context,
                ofLogits.dims() >= 2 && ofBoxes.dims() >= 2 && ofLogits.dim_size(0) == batch &&
                    ofBoxes.dim_size(0) == batch,
                invalid("all levels must hold the same number of images, got ", ofLogits.DebugString(), " and ",
                        ofBoxes.DebugString(), " in level ", level, " and ", batch, " in the first."));
    const std::int64_t values = valuesFrom(ofLogits, 1), coordinates = valuesFrom(ofBoxes, 1);
    OP_REQUIRES(context, values >= 0 && coordinates >= 0,
                invalid("level ", level, " holds more values an image than an index of 32 bits can number: ",
                        ofLogits.DebugString(), " and ", ofBoxes.DebugString(), "."));
    OP_REQUIRES(context, values % classes == 0 && values / classes * 4 == coordinates,
                invalid("level ", level, " has ", values, " logits and ", coordinates, " coordinates an image; with ",
                        classes, " classes that is not the same number of anchors. Check num_classes."));
    heads->levels.push_back({static_cast<std::size_t>(values / classes), dataOf(logits[level], inputs), nullptr,
                             dataOf(regressions[level], inputs)});
    total += values / classes;
  }
  OP_REQUIRES(context, anchors->shape() == TensorShape({total, 4}),
              invalid("the head outputs hold ", total, " anchors, so anchors must be [", total, ",4], got ",
                      anchors->shape().DebugString(), ". Check the image size and the levels."));
  OP_REQUIRES(context, total < (std::int64_t{1} << 31) / classes + 1 && total * classes < (std::int64_t{1} << 31),
              invalid(total, " anchors of ", classes, " classes are more than an index of 32 bits can number."));
  heads->type = dtypeOf(logits[0].dtype());
  heads->batch = static_cast<std::size_t>(batch);
  heads->classes = static_cast<std::size_t>(classes);
  heads->anchors = dataOf<float>(*anchors, inputs);
}

class HostDecode : public tensorflow::OpKernel {
public:
  explicit HostDecode(OpKernelConstruction *construction) : OpKernel(construction) {
    std::string mode;
    OP_REQUIRES_OK(construction, construction->GetAttr("mode", &mode));
    OP_REQUIRES_OK(construction, construction->GetAttr("num_classes", &classes_));
    mode_ = modeOf(mode);
  }

  void Compute(OpKernelContext *context) override {
    DecodeCall call{};
    AlignedInputs inputs;
    readHeads(context, classes_, inputs, &call.heads);
    if (!context->status().ok())
      return;
    const std::int64_t batch = static_cast<std::int64_t>(call.heads.batch);
    std::int64_t anchors = 0;
    for (const Level &level : call.heads.levels)
      anchors += static_cast<std::int64_t>(level.anchors);
    const bool multi = mode_ == Mode::multiClass;
    Tensor *scores, *boxes, *labels;
    OP_REQUIRES_OK(context,
                   context->allocate_output(
                       0, multi ? TensorShape({batch, anchors, classes_}) : TensorShape({batch, anchors}), &scores));
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({batch, anchors, 4}), &boxes));
    OP_REQUIRES_OK(context, context->allocate_output(2, TensorShape({batch, multi ? 0 : anchors}), &labels));
    call.mode = mode_;
    call.outScores = dataOf<float>(scores);
    call.outCorners = dataOf<float>(boxes);
    call.outLabels = multi ? nullptr : dataOf<std::int32_t>(labels);
    runOn(context, pool_, [&](const Context &resources) { return decode(call, resources); });
  }

private:
  Mode mode_;
  std::int32_t classes_;
  WorkspacePool pool_;
};

class HostDetect : public tensorflow::OpKernel {
public:
  explicit HostDetect(OpKernelConstruction *construction) : OpKernel(construction) {
    readOptions(construction, &mode_, &options_);
    OP_REQUIRES_OK(construction, construction->GetAttr("num_classes", &classes_));
    OP_REQUIRES_OK(construction, construction->GetAttr("image_height", &height_));
    OP_REQUIRES_OK(construction, construction->GetAttr("image_width", &width_));
  }

  void Compute(OpKernelContext *context) override {
    DetectCall call{};
    AlignedInputs inputs;
    readHeads(context, classes_, inputs, &call.heads);
    const Tensor *scales = nullptr;
    OP_REQUIRES_OK(context, context->input("image_scales", &scales));
    if (!context->status().ok())
      return;
    const std::int64_t batch = static_cast<std::int64_t>(call.heads.batch), rows = options_.maxDetections;
    OP_REQUIRES(context, scales->shape() == TensorShape({batch}) || scales->shape() == TensorShape({0}),
                invalid("image_scales must hold one number an image, [", batch, "], or be empty, got ",
                        scales->shape().DebugString(), "."));
    Tensor *boxes, *scores, *labels, *indices, *lengths;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({batch, rows, 4}), &boxes));
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({batch, rows}), &scores));
    OP_REQUIRES_OK(context, context->allocate_output(2, TensorShape({batch, rows}), &labels));
    OP_REQUIRES_OK(context, context->allocate_output(3, TensorShape({batch, rows}), &indices));
    OP_REQUIRES_OK(context, context->allocate_output(4, TensorShape({batch}), &lengths));
    call.mode = mode_;
    call.options = options_;
    call.imageHeight = height_;
    call.imageWidth = width_;
    call.scales = scales->NumElements() ? dataOf<float>(*scales, inputs) : nullptr;
    call.outCorners = dataOf<float>(boxes);
    call.outScores = dataOf<float>(scores);
    call.outClasses = dataOf<std::int32_t>(labels);
    call.outIndices = dataOf<std::int32_t>(indices);
    call.outLengths = dataOf<std::int32_t>(lengths);
    runOn(context, pool_, [&](const Context &resources) { return detect(call, resources); });
  }

private:
  Mode mode_;
  nms_core::Options options_;
  std::int32_t classes_;
  float height_, width_;
  WorkspacePool pool_;
};

REGISTER_KERNEL_BUILDER(Name("HostDecode").Device(tensorflow::DEVICE_CPU), HostDecode);
REGISTER_KERNEL_BUILDER(Name("HostDetect").Device(tensorflow::DEVICE_CPU), HostDetect);

} // namespace
} // namespace nms_host
