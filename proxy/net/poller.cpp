#include "proxy/net/poller.hpp"

#include <unistd.h>

#include <boost/asio/detail/reactor.hpp>
#include <boost/asio/detail/reactor_op.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <boost/version.hpp>
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

// Rings when a socket is ready, and when ring() says so. Owns the epoll's descriptor.
#if BOOST_VERSION / 100 == 1081
// async_wait() would arm the descriptor anew each time. As an operation of Asio's own it is only queued: there is nothing to be done at once, and what has
// come meanwhile is found by turn(), which is called whatever has rung.
class Poller::Bell final : public asio::detail::reactor_op {
  public:
    Bell(Poller& poller, asio::io_context& context, int fd)
        : reactor_op({}, &Bell::perform_now, &Bell::complete_now), poller_(poller), reactor_(asio::use_service<asio::detail::reactor>(context)), fd_(fd) {
        reactor_.init_task();
        const int error = reactor_.register_descriptor(fd_, data_);
        if (error != 0) throw std::system_error(error, std::generic_category(), "epoll_ctl");
    }
    Bell(const Bell&) = delete;
    Bell& operator=(const Bell&) = delete;
    ~Bell() {
        reactor_.deregister_descriptor(fd_, data_, true);
        reactor_.cleanup_descriptor_data(data_);
        ::close(fd_);
    }
    void arm() {
        has_rung_ = false;
        ec_ = {};
        reactor_.start_op(asio::detail::reactor::read_op, fd_, data_, this, true, true);
        has_rung_ = true;  // as soon as it is queued, whatever comes is a ring
    }
    void ring() { reactor_.cancel_ops(fd_, data_); }

  private:
    static status perform_now(reactor_op* base) { return static_cast<Bell*>(base)->has_rung_ ? done : not_done; }
    static void complete_now(void* owner, asio::detail::operation* base, const boost::system::error_code&, std::size_t) {
        if (owner != nullptr) static_cast<Bell*>(base)->poller_.on_bell();  // null: the context ends
    }

    Poller& poller_;
    asio::detail::reactor& reactor_;
    int fd_;
    asio::detail::reactor::per_descriptor_data data_{};
    bool has_rung_ = false;
};
#else
class Poller::Bell final {
  public:
    Bell(Poller& poller, asio::io_context& context, int fd) : poller_(poller), descriptor_(context.get_executor(), fd) {}
    void arm() {
        descriptor_.async_wait(asio::posix::descriptor_base::wait_read, [this](const boost::system::error_code&) { poller_.on_bell(); });
    }
    void ring() { descriptor_.cancel(); }

  private:
    Poller& poller_;
    asio::posix::basic_stream_descriptor<Executor> descriptor_;
};
#endif

Poller::Poller(asio::execution_context& context)
    : asio::execution_context::service(context),
      context_(static_cast<asio::io_context&>(context)),
      epoll_fd_(create_epoll()),
      bell_(std::make_unique<Bell>(*this, context_, epoll_fd_)) {
    due_.reserve(due_reserved);
    waking_.reserve(due_reserved);
    bell_->arm();
}

Poller::~Poller() = default;

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

void Poller::on_bell() {
    is_awake_ = true;
    turn();
    wake_due();
    is_awake_ = false;
    bell_->arm();
    if (!due_.empty() || is_full_) bell_->ring();
}

void Poller::wake_later(Readiness& one, Waiter waiter, bool is_ready) {
    due_.push_back({std::move(waiter), &one, is_ready});
    if (!std::exchange(is_awake_, true)) bell_->ring();
}

// What becomes due meanwhile is for the next time: others have their turn first.
void Poller::wake_due() {
    waking_.swap(due_);
    for (Due& one : waking_) one.waiter.wake(one.is_ready);
    waking_.clear();
}

void Poller::turn() {
    const int got = ::epoll_wait(epoll_fd_, events_.data(), static_cast<int>(events_max), 0);
    is_full_ = got == static_cast<int>(events_max);
    if (got <= 0) return;
    events_count_ = static_cast<std::size_t>(got);
    turns_left_ = is_full_ ? 0 : fresh_turns_max;
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
    if (fd_ >= 0) poller_.add(*this);
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

void Readiness::wake_readers() {
    if (reader_) poller_.wake_later(*this, std::move(reader_), true);
    for (Waiter& other : other_readers_) poller_.wake_later(*this, std::move(other), true);
    other_readers_.clear();
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
