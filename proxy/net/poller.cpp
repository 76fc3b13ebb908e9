#include "proxy/net/poller.hpp"

#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace pgporter {
namespace {

int create_epoll() {
    const int fd = ::epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0) throw std::system_error(errno, std::generic_category(), "epoll_create1");
    return fd;
}

}  // namespace

asio::execution_context::id Poller::id;

Poller::Poller(asio::execution_context& context)
    : asio::execution_context::service(context),
      context_(static_cast<asio::io_context&>(context)),
      epoll_fd_(create_epoll()),
      descriptor_(context_.get_executor(), epoll_fd_) {
    due_.reserve(due_reserved);
    waking_.reserve(due_reserved);
    arm();
}

Poller::~Poller() = default;  // the descriptor closes it

Poller& Poller::of(asio::io_context& context) {
    return asio::use_service<Poller>(context);
}

// The context ends: so do the coroutines that wait here.
void Poller::shutdown() noexcept {
    events_count_ = 0;
    is_awake_ = true;
    due_.clear();
    while (first_ != nullptr) {
        Readiness& one = *first_;
        const Waiter reader = std::move(one.reader_);
        const Waiter writer = std::move(one.writer_);
        const std::vector<Waiter> readers = std::move(one.other_readers_);
        const std::vector<Waiter> writers = std::move(one.other_writers_);
        remove(one);
    }
}

void Poller::add(Readiness& one) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.ptr = &one;
    if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, one.fd_, &event) != 0) {
        throw std::system_error(errno, std::generic_category(), "epoll_ctl");
    }
    one.next_ = first_;
    if (first_ != nullptr) first_->previous_ = &one;
    first_ = &one;
}

void Poller::remove(Readiness& one) {
    epoll_event unused{};
    ::epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, one.fd_, &unused);
    one.fd_ = -1;
    (one.previous_ != nullptr ? one.previous_->next_ : first_) = one.next_;
    if (one.next_ != nullptr) one.next_->previous_ = one.previous_;
    one.next_ = one.previous_ = nullptr;
    for (std::size_t i = 0; i < events_count_; ++i) {
        if (events_[i].data.ptr == &one) events_[i].data.ptr = nullptr;
    }
    for (std::vector<Due>* all : {&due_, &waking_}) {
        for (Due& due : *all) due.is_ready &= due.of != &one;
    }
}

void Poller::arm() {
    is_awake_ = false;
    descriptor_.async_wait(asio::posix::descriptor_base::wait_read, [this](const boost::system::error_code& error) {
        is_awake_ = true;
        if (!error) turn();  // else somebody is due
        wake_due();
        arm();
        if (!due_.empty()) descriptor_.cancel();
    });
}

void Poller::wake_later(Readiness& one, Waiter waiter, bool is_ready) {
    due_.push_back({std::move(waiter), &one, is_ready});
    if (!std::exchange(is_awake_, true)) descriptor_.cancel();  // ends the wait
}

// What becomes due meanwhile is for the next time: others have their turn first.
void Poller::wake_due() {
    waking_.swap(due_);
    for (Due& one : waking_) one.waiter.wake(one.is_ready);
    waking_.clear();
}

void Poller::turn() {
    const int got = ::epoll_wait(epoll_fd_, events_.data(), static_cast<int>(events_max), 0);
    if (got <= 0) return;
    events_count_ = static_cast<std::size_t>(got);
    turns_left_ = events_count_ < events_max ? fresh_turns_max : 0;
    for (const bool first : {true, false}) {
        for (std::size_t i = 0; i < events_count_; ++i) {
            auto* one = static_cast<Readiness*>(events_[i].data.ptr);
            if (one == nullptr || (first && !one->goes_first_)) continue;
            events_[i].data.ptr = nullptr;
            one->on_events(events_[i].events);
            if (turns_left_ != 0) --turns_left_;
        }
    }
    events_count_ = 0;
    turns_left_ = 0;
}

Readiness::Readiness(Poller& poller, int fd) : poller_(poller), fd_(fd) {
    poller_.add(*this);
}

void Readiness::on_events(std::uint32_t events) {
    constexpr std::uint32_t ended = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
    Waiter reader;
    Waiter writer;
    std::vector<Waiter> others;
    if ((events & (EPOLLIN | ended)) != 0) {
        has_input_ = true;
        has_ended_ |= (events & ended) != 0;
        reader = std::move(reader_);
        if (!other_readers_.empty()) others = std::move(other_readers_);
    }
    if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) {
        writer = std::move(writer_);
        for (Waiter& other : other_writers_) others.push_back(std::move(other));
        other_writers_.clear();
    }
    if (writer || !others.empty()) {  // each may end what holds us
        if (writer) poller_.wake_later(*this, std::move(writer), true);
        for (Waiter& other : others) poller_.wake_later(*this, std::move(other), true);
    }
    if (reader) reader.wake(true);
}

void Readiness::add(Waiter& first, std::vector<Waiter>& others, Waiter waiter) {
    if (first) {
        others.push_back(std::move(waiter));
    } else {
        first = std::move(waiter);
    }
}

void Readiness::wait_for_input(Waiter waiter) {
    if (fd_ < 0 || has_input_ || has_ended_) return poller_.wake_later(*this, std::move(waiter), fd_ >= 0);
    add(reader_, other_readers_, std::move(waiter));
}

void Readiness::wait_for_room(Waiter waiter) {
    if (fd_ < 0) return poller_.wake_later(*this, std::move(waiter), false);
    add(writer_, other_writers_, std::move(waiter));
}

bool Readiness::is_quiet() const {
    return poller_.turns_left_ != 0 && fd_ >= 0 && !has_input_ && !has_ended_;
}

void Readiness::stop() {
    if (fd_ < 0) return;
    poller_.remove(*this);
    if (reader_) poller_.wake_later(*this, std::move(reader_), false);
    if (writer_) poller_.wake_later(*this, std::move(writer_), false);
    for (Waiter& other : other_readers_) poller_.wake_later(*this, std::move(other), false);
    for (Waiter& other : other_writers_) poller_.wake_later(*this, std::move(other), false);
    other_readers_.clear();
    other_writers_.clear();
}

}  // namespace pgporter
