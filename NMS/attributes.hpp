// SPDX-License-Identifier: Apache-2.0
//
// The attributes of the operator: one JSON object of plain values, read strictly. A misspelt key would otherwise mean
// that a threshold silently keeps its default.
#pragma once

#include <cctype>
#include <clocale>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>

#include "nms.hpp"

namespace nms {

struct Attributes {
  Options options;
  std::string buildId; // identifies library and codelets, see nms_custom_op.hpp
};

// Reads {"key": value, ...} where a value is a number, true, false or a string without escapes. Nothing in it nests.
class AttributeReader {
public:
  explicit AttributeReader(const std::string &text) : text_(text) {}

  Attributes read() {
    expect('{');
    if (!accept('}')) {
      do {
        const std::string key = string();
        if (!seen_.insert(key).second)
          fail("\"" + key + "\" is given twice");
        expect(':');
        value(key);
      } while (accept(','));
      expect('}');
    }
    skipSpace();
    if (at_ != text_.size())
      fail("nothing may follow the closing brace");
    return result_;
  }

private:
  void value(const std::string &key) {
    Options &options = result_.options;
    if (key == "threshold")
      options.iouThreshold = static_cast<float>(number(key));
    else if (key == "scoreThreshold")
      options.scoreThreshold = static_cast<float>(number(key));
    else if (key == "sigma")
      options.sigma = static_cast<float>(number(key));
    else if (key == "numDetections")
      options.maxDetections = count(key);
    else if (key == "classAgnostic")
      options.acrossClasses = boolean(key);
    else if (key == "buildId")
      result_.buildId = string();
    else if (key == "useGather")
      boolean(key); // Known from the operator that this one replaces: a choice between two ways to fetch the winner.
    else if (key == "inPlace") {
      if (boolean(key))
        fail("\"inPlace\" must be false: the inputs of this operator are never written");
    } else
      fail("\"" + key + "\" is not known; known are threshold, scoreThreshold, numDetections, sigma, classAgnostic, " +
           "buildId, useGather and inPlace");
  }

  double number(const std::string &key) {
    skipSpace();
    // JSON's grammar, which is narrower than strtod's: no sign but minus, no leading zero or point, no inf, no
    // hexadecimal.
    std::size_t end = at_;
    const auto digits = [&] {
      const std::size_t begin = end;
      while (end < text_.size() && std::isdigit(static_cast<unsigned char>(text_[end])))
        ++end;
      return end - begin;
    };
    if (end < text_.size() && text_[end] == '-')
      ++end;
    const std::size_t integer = end, integerDigits = digits();
    bool good = integerDigits == 1 || (integerDigits > 1 && text_[integer] != '0');
    if (end < text_.size() && text_[end] == '.') {
      ++end;
      good = digits() > 0 && good;
    }
    if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
      ++end;
      if (end < text_.size() && (text_[end] == '+' || text_[end] == '-'))
        ++end;
      good = digits() > 0 && good;
    }
    if (!good)
      fail("\"" + key + "\" must be a number");
    const double result = decimal(text_.substr(at_, end - at_));
    if (std::fabs(result) > std::numeric_limits<float>::max())
      fail("\"" + key + "\" is greater than a float can hold");
    at_ = end;
    return result;
  }

  // strtod reads the decimal point of the process's locale, JSON knows only one.
  static double decimal(std::string text) {
    const char point = std::localeconv()->decimal_point[0];
    for (char &c : text)
      c = c == '.' ? point : c;
    return std::strtod(text.c_str(), nullptr);
  }

  unsigned count(const std::string &key) {
    const double result = number(key);
    if (!(result >= 1 && result <= std::numeric_limits<int>::max()) || result != std::floor(result))
      fail("\"" + key + "\" must be a whole number from 1 on");
    return static_cast<unsigned>(result);
  }

  bool boolean(const std::string &key) {
    skipSpace();
    for (const bool candidate : {true, false}) {
      const std::string word = candidate ? "true" : "false";
      if (text_.compare(at_, word.size(), word) == 0) {
        at_ += word.size();
        return candidate;
      }
    }
    fail("\"" + key + "\" must be true or false");
  }

  std::string string() {
    expect('"');
    const std::size_t begin = at_;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '\\' || static_cast<unsigned char>(text_[at_]) < ' ')
        fail("strings must not hold escapes or control characters");
      ++at_;
    }
    const std::string result = text_.substr(begin, at_ - begin);
    expect('"');
    return result;
  }

  void skipSpace() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r'))
      ++at_;
  }

  bool accept(char c) {
    skipSpace();
    if (at_ >= text_.size() || text_[at_] != c)
      return false;
    ++at_;
    return true;
  }

  void expect(char c) {
    if (!accept(c))
      fail(std::string("'") + c + "' expected");
  }

  [[noreturn]] void fail(const std::string &what) const {
    throw std::invalid_argument("attributes of NMS: " + what + ", at character " + std::to_string(at_) + " of " +
                                text_);
  }

  const std::string text_;
  std::size_t at_ = 0;
  std::set<std::string> seen_;
  Attributes result_;
};

inline Attributes readAttributes(const std::string &text) { return AttributeReader(text).read(); }

} // namespace nms
