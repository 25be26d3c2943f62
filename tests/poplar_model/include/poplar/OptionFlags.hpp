// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

#include "poplar/StringRef.hpp"

namespace poplar {

class OptionFlags {
public:
  OptionFlags() = default;
  void set(StringRef option, StringRef value) { values_[option.text()] = value.text(); }
  std::string at(StringRef option) const { return values_.at(option.text()); }

private:
  std::map<std::string, std::string> values_;
};

} // namespace poplar
