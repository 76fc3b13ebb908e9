// IoThread: one io_context(1), the thread that runs it, and what everything on that thread shares: the read buffer, the deadline wheel.
// Owned by proxy/app; other threads only post().
#pragma once

#include <array>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "proxy/net/deadline_wheel.hpp"
#include "proxy/net/types.hpp"

namespace pgporter {

class IoThread {
  public:
    static constexpr std::size_t read_bytes = 65'536;

    explicit IoThread(std::size_t index);
    IoThread(const IoThread&) = delete;
    IoThread& operator=(const IoThread&) = delete;
    ~IoThread();

    void start();
    void stop();  // from another thread; returns when the thread has ended

    template <class F>
    void post(F&& work) {
        asio::post(context_, std::forward<F>(work));
    }

    [[nodiscard]] asio::io_context& context() { return context_; }
    [[nodiscard]] Executor executor() { return context_.get_executor(); }
    [[nodiscard]] DeadlineWheel& wheel() { return wheel_; }
    [[nodiscard]] std::size_t index() const { return index_; }
    // Where every read of this thread lands. Valid until the next co_await: what must outlive one is copied.
    [[nodiscard]] char* read_buffer() { return read_buffer_.get(); }

  private:
    std::size_t index_;
    DeadlineWheel wheel_;  // before context_: what the context's end destroys still disarms its deadlines
    asio::io_context context_{1};
    asio::executor_work_guard<Executor> work_{context_.get_executor()};
    std::unique_ptr<char[]> read_buffer_ = std::make_unique<char[]>(read_bytes);
    std::thread thread_;
};

}  // namespace pgporter
