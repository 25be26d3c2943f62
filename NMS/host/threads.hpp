// SPDX-License-Identifier: Apache-2.0
//
// Sharing tasks between the calling thread and helpers that some pool runs, now, later or never.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

namespace nms_host {

// Calls work(0) to work(count - 1) and returns when all are done. The caller takes part, so nothing depends on the
// helpers: one that starts late finds nothing to do and touches nothing of the caller's. `start` is given a function to
// run elsewhere.
template <typename Start>
void shareTasks(std::size_t threads, std::size_t count, const std::function<void(std::size_t)> &work,
                const Start &start) {
  struct State {
    std::atomic<std::size_t> next{0};
    std::size_t done = 0;
    std::mutex mutex;
    std::condition_variable allDone;
  };
  const auto state = std::make_shared<State>();
  const auto help = [state, count, &work] {
    std::size_t finished = 0;
    for (std::size_t i = state->next++; i < count; i = state->next++, ++finished)
      work(i);
    if (finished == 0)
      return;
    const std::lock_guard<std::mutex> lock(state->mutex);
    state->done += finished;
    if (state->done == count)
      state->allDone.notify_one();
  };
  for (std::size_t i = 1; i < threads && i < count; ++i)
    start(help);
  help();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->allDone.wait(lock, [&] { return state->done == count; });
}

} // namespace nms_host
