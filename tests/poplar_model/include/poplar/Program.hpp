// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>
#include <memory>

#include "poplar/DebugContext.hpp"
#include "poplar/Graph.hpp"
#include "poplar/Tensor.hpp"

namespace poplar_model {
struct Step; // poplar_model/step.hpp
}

namespace poplar {
namespace program {

// A handle. A program given to another one is copied: what is added to it later does not count.
class Program {
public:
  Program();
  bool isEmpty() const;

protected:
  friend struct poplar_model::Access;
  std::shared_ptr<poplar_model::Step> step_;
};

class Sequence : public Program {
public:
  Sequence();
  Sequence(std::initializer_list<Program> programs, const DebugContext &debugContext = {});
  void add(const Program &program);
};

class Execute : public Program {
public:
  Execute(ComputeSet computeSet, const DebugContext &debugContext = {});
};

class Copy : public Program {
public:
  Copy(Tensor source, Tensor destination, bool dontOutline = false, const DebugContext &debugContext = {});
};

// Says that nobody needs what the tensor holds.
class WriteUndef : public Program {
public:
  WriteUndef(Tensor tensor, const DebugContext &debugContext = {});
};

class Repeat : public Program {
public:
  Repeat(unsigned count, const Program &body, const DebugContext &debugContext = {});
};

class RepeatWhileTrue : public Program {
public:
  RepeatWhileTrue(const Program &condition, Tensor predicate, const Program &body,
                  const DebugContext &debugContext = {});
};

class If : public Program {
public:
  If(Tensor predicate, const Program &trueBody, const Program &falseBody, const DebugContext &debugContext = {});
};

} // namespace program
} // namespace poplar
