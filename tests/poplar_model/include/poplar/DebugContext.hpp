// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "poplar/StringRef.hpp"

namespace poplar {

class DebugContext {
public:
  DebugContext() = default;
  DebugContext(const char *name) : path_(name) {}
  DebugContext(std::string name) : path_(std::move(name)) {}
  DebugContext(const DebugContext &parent, StringRef name)
      : path_(parent.path_.empty() ? name.text() : parent.path_ + "/" + name.text()) {}
  std::string getPathName() const { return path_; }

private:
  std::string path_;
};

} // namespace poplar
