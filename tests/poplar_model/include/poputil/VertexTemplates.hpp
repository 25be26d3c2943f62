// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <type_traits>

#include "poplar/Type.hpp"

namespace poputil {

template <typename T> struct VertexTemplateToString {
  static std::string to_string(const T &value) { return std::to_string(value); }
};
template <> struct VertexTemplateToString<poplar::Type> {
  static std::string to_string(const poplar::Type &type) { return type.toString(); }
};
template <> struct VertexTemplateToString<std::string> {
  static std::string to_string(const std::string &text) { return text; }
};
template <> struct VertexTemplateToString<const char *> {
  static std::string to_string(const char *text) { return text; }
};
template <> struct VertexTemplateToString<bool> {
  static std::string to_string(bool value) { return value ? "true" : "false"; }
};

namespace detail {
inline std::string arguments(bool) { return ""; }
template <typename First, typename... Rest>
std::string arguments(bool first, const First &argument, const Rest &...rest) {
  return (first ? "" : ",") + VertexTemplateToString<typename std::decay<First>::type>::to_string(argument) +
         arguments(false, rest...);
}
} // namespace detail

template <typename... Args> std::string templateVertex(const std::string &name, Args &&...args) {
  return name + "<" + detail::arguments(true, args...) + ">";
}

} // namespace poputil
