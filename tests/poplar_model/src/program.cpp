// SPDX-License-Identifier: Apache-2.0
// Control programs: trees of steps.
#include "poplar_model/graph_data.hpp"

namespace poplar_model {
namespace {

std::shared_ptr<Step> newStep(Step::Kind kind) {
  auto step = std::make_shared<Step>();
  step->kind = kind;
  return step;
}

std::shared_ptr<Step> copyOf(const poplar::program::Program &program) {
  return std::make_shared<Step>(*Access::step(program)); // its children are never changed once they are children
}

void checkPredicate(const poplar::Tensor &predicate) {
  if (!predicate.valid() || predicate.rank() != 0)
    throw poplar::control_program_error("a predicate must be a scalar");
  if (predicate.elementType() != poplar::BOOL)
    throw poplar::control_program_error("a predicate must be bool, got " + predicate.elementType().toString());
}

} // namespace
} // namespace poplar_model

namespace poplar {
namespace program {

using poplar_model::Access;
using poplar_model::copyOf;
using poplar_model::newStep;
using poplar_model::Step;

Program::Program() : step_(newStep(Step::Kind::sequence)) {}
bool Program::isEmpty() const { return step_->kind == Step::Kind::sequence && step_->children.empty(); }

Sequence::Sequence() = default;
Sequence::Sequence(std::initializer_list<Program> programs, const DebugContext &) {
  for (const Program &program : programs)
    add(program);
}
void Sequence::add(const Program &program) { step_->children.push_back(copyOf(program)); }

Execute::Execute(ComputeSet computeSet, const DebugContext &) {
  step_ = newStep(Step::Kind::execute);
  step_->computeSet = computeSet.getId();
}

Copy::Copy(Tensor source, Tensor destination, bool, const DebugContext &) {
  if (!source.valid() || !destination.valid() || source.numElements() != destination.numElements())
    throw graph_connection_error("copy of " + std::to_string(source.numElements()) + " to " +
                                 std::to_string(destination.numElements()) + " elements");
  if (source.elementType() != destination.elementType())
    throw type_error("copy of " + source.elementType().toString() + " to " + destination.elementType().toString());
  if (!destination.isParallelWriteable())
    throw graph_connection_error("the destination of a copy is constant or holds an element twice");
  step_ = newStep(Step::Kind::copy);
  step_->source = source;
  step_->destination = destination;
}

WriteUndef::WriteUndef(Tensor tensor, const DebugContext &) {
  if (!tensor.valid() || !tensor.isParallelWriteable())
    throw graph_connection_error("what is to be undefined is constant or holds an element twice");
  step_ = newStep(Step::Kind::writeUndef);
  step_->destination = tensor;
}

Repeat::Repeat(unsigned count, const Program &body, const DebugContext &) {
  step_ = newStep(Step::Kind::repeat);
  step_->count = count;
  step_->children = {copyOf(body)};
}

RepeatWhileTrue::RepeatWhileTrue(const Program &condition, Tensor predicate, const Program &body,
                                 const DebugContext &) {
  poplar_model::checkPredicate(predicate);
  step_ = newStep(Step::Kind::repeatWhileTrue);
  step_->predicate = predicate;
  step_->children = {copyOf(condition), copyOf(body)};
}

If::If(Tensor predicate, const Program &trueBody, const Program &falseBody, const DebugContext &) {
  poplar_model::checkPredicate(predicate);
  step_ = newStep(Step::Kind::branch);
  step_->predicate = predicate;
  step_->children = {copyOf(trueBody), copyOf(falseBody)};
}

} // namespace program
} // namespace poplar
