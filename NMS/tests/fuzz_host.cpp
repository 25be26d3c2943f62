// SPDX-License-Identifier: Apache-2.0
//
// Fuzz target: shapes, types, thresholds and values come from the fuzzer; every answer is compared with the textbook
// loop. Built with libFuzzer where clang is there; otherwise with a driver that makes random inputs (NMS_FUZZ_DRIVER).
#include "problems.hpp"

#include <cstdio>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  nms_test::Source source(data, size);
  const std::string complaint = nms_test::checkOne(source);
  if (!complaint.empty()) {
    std::fprintf(stderr, "%s\n", complaint.c_str());
    std::abort();
  }
  return 0;
}

#ifdef NMS_FUZZ_DRIVER
#include <chrono>

// Arguments: seconds to run, and optionally the seed of the first input.
int main(int argc, char **argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 10.0;
  std::uint32_t seed = argc > 2 ? static_cast<std::uint32_t>(std::atol(argv[2])) : 1;
  const auto start = std::chrono::steady_clock::now();
  std::uint64_t runs = 0;
  for (; std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < seconds; ++runs, ++seed) {
    std::mt19937 generator(seed);
    std::vector<std::uint8_t> data(generator() % 4096);
    for (std::uint8_t &byte : data)
      byte = static_cast<std::uint8_t>(generator());
    LLVMFuzzerTestOneInput(data.data(), data.size());
  }
  std::printf("%llu inputs, no finding\n", static_cast<unsigned long long>(runs));
  return 0;
}
#endif
