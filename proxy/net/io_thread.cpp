#include "proxy/net/io_thread.hpp"

#include <pthread.h>

#include "proxy/net/poller.hpp"

namespace pgporter {

IoThread::IoThread(std::size_t index) : index_(index) {
    static_cast<void>(Poller::of(context_));  // before all that waits there
    wheel_.attach(context_);
}

IoThread::~IoThread() {
    stop();
    wheel_.detach();
}

void IoThread::start() {
    thread_ = std::thread([this] {
        const std::string name = "pgporter-io-" + std::to_string(index_);
        pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
        context_.run();
    });
}

void IoThread::stop() {
    if (!thread_.joinable()) return;
    context_.stop();
    thread_.join();
}

}  // namespace pgporter
