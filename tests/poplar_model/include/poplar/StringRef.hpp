// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace poplar {

class StringRef {
public:
  StringRef() = default;
  StringRef(const char *text) : text_(text) {}
  StringRef(const std::string &text) : text_(text) {}
  operator std::string() const { return text_; }
  const std::string &text() const { return text_; }

private:
  std::string text_; // a copy: the model does not need to save it
};

} // namespace poplar
