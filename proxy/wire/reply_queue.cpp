#include "proxy/wire/reply_queue.hpp"

namespace pgporter {

void ReplyQueue::push(Expected expected) {
    if (count_ == ring_.size()) {
        std::vector<Expected> larger(ring_.empty() ? ring_size_min : ring_.size() * 2);
        for (std::size_t i = 0; i < count_; ++i) larger[i] = at(i);
        ring_ = std::move(larger);
        first_ = 0;
    }
    ++count_;
    at(count_ - 1) = expected;
}

void ReplyQueue::pop() {
    first_ = (first_ + 1) & (ring_.size() - 1);
    --count_;
}

void ReplyQueue::remove(std::size_t i) {
    for (std::size_t k = i; k + 1 < count_; ++k) at(k) = at(k + 1);
    --count_;
}

bool ReplyQueue::sent(Expected expected) {
    if (expected.handling != Handling::simulate && expected.request != Request::copy_end) {
        open_batch_ = expected.request != Request::sync && expected.request != Request::query && expected.request != Request::function_call;
    }
    if (skipping_) {
        if (expected.request != Request::sync) return false;
        skipping_ = false;
        push(expected);
        return true;
    }
    if (copying_in_) {
        if (expected.request == Request::sync) return true;  // ignored by the server, as Flush is
        copying_in_ = false;  // CopyDone and CopyFail end it, anything else breaks it (PostgreSQL ends the connection then)
        if (expected.request == Request::copy_end) return true;
    }
    if (expected.request == Request::copy_end) {
        // It may belong to a COPY whose CopyInResponse is still on its way; without anything owed the server ignores it.
        if (count_ != 0) push(expected);
        return true;
    }
    push(expected);
    return true;
}

void ReplyQueue::drop_stale_copy_ends() {
    while (count_ != 0 && at(0).request == Request::copy_end) pop();
}

void ReplyQueue::begin_copy_in() {
    copying_in_ = true;
    // What was sent before the server said CopyInResponse is read by it as COPY input.
    std::size_t i = 1;
    while (i < count_) {
        switch (at(i).request) {
            case Request::sync: remove(i); continue;
            case Request::copy_end:
                remove(i);
                copying_in_ = false;
                return;
            case Request::query:
            case Request::parse:
            case Request::bind:
            case Request::describe:
            case Request::close:
            case Request::execute:
            case Request::function_call:
                if (at(i).handling == Handling::simulate) {  // never sent: the server can't stumble over it
                    ++i;
                    continue;
                }
                // If the COPY fails before it reads, this is answered as usual; if not, PostgreSQL ends the connection.
                copying_in_ = false;
                return;
        }
    }
}

ReplyQueue::Outcome ReplyQueue::on_error() {
    Outcome outcome;
    copying_in_ = false;
    if (count_ == 0) return outcome;  // an unsolicited FATAL (shutdown, timeout): the client sees it
    outcome.expected = at(0);
    const Request head = at(0).request;
    if (head == Request::query || head == Request::function_call || head == Request::sync) return outcome;
    while (count_ != 0 && at(0).request != Request::sync) {
        trimmed_.insert(trimmed_.begin(), at(0));
        pop();
    }
    skipping_ = count_ == 0;  // a Sync that is already on its way ends the skipping
    return outcome;
}

ReplyQueue::Outcome ReplyQueue::finish(Outcome outcome) {
    outcome.completed = true;
    pop();
    drop_stale_copy_ends();
    return outcome;
}

ReplyQueue::Outcome ReplyQueue::on_server(char type, char status) {
    trimmed_.clear();
    drop_stale_copy_ends();
    if (type == 'E') return on_error();
    Outcome outcome;
    if (count_ == 0) {
        outcome.unexpected = true;
        return outcome;
    }
    outcome.expected = at(0);
    outcome.handling = at(0).handling;
    const Request head = at(0).request;
    const auto only = [&](bool fits) {
        outcome.unexpected = !fits;
        return outcome;
    };
    switch (type) {
        case 'Z':
            if (head != Request::query && head != Request::function_call && head != Request::sync) return only(false);
            status_ = status;
            copying_in_ = false;
            return finish(outcome);
        case '1': return head == Request::parse ? finish(outcome) : only(false);
        case '2': return head == Request::bind ? finish(outcome) : only(false);
        case '3': return head == Request::close ? finish(outcome) : only(false);
        case 't': return only(head == Request::describe);
        case 'n': return head == Request::describe ? finish(outcome) : only(false);
        case 'T': return head == Request::describe ? finish(outcome) : only(head == Request::query);
        case 'C':
            copying_in_ = false;
            return head == Request::execute ? finish(outcome) : only(head == Request::query);
        case 'I': return head == Request::execute ? finish(outcome) : only(head == Request::query);
        case 's': return head == Request::execute ? finish(outcome) : only(false);
        case 'D':
        case 'H':
        case 'd':
        case 'c': return only(head == Request::execute || head == Request::query);
        case 'G':
            if (head != Request::execute && head != Request::query) return only(false);
            begin_copy_in();
            return outcome;
        case 'V': return only(head == Request::function_call);
        default: return only(false);
    }
}

std::optional<Expected> ReplyQueue::take_simulated() {
    if (count_ == 0 || at(0).handling != Handling::simulate) return std::nullopt;
    const Expected expected = at(0);
    pop();
    return expected;
}

bool ReplyQueue::ends_with_ready() const {
    if (count_ == 0) return false;
    const Request last = ring_[(first_ + count_ - 1) & (ring_.size() - 1)].request;
    return last == Request::query || last == Request::sync || last == Request::function_call;
}

const std::vector<Expected>& ReplyQueue::give_up() {
    std::vector<Expected> owed;
    for (std::size_t i = count_; i-- > 0;) owed.push_back(at(i));
    reset();
    trimmed_ = std::move(owed);
    return trimmed_;
}

bool ReplyQueue::owes_ready() const {
    for (std::size_t i = 0; i < count_; ++i) {
        const Request request = ring_[(first_ + i) & (ring_.size() - 1)].request;
        if (request == Request::query || request == Request::sync || request == Request::function_call) return true;
    }
    return false;
}

void ReplyQueue::reset() {
    first_ = 0;
    count_ = 0;
    trimmed_.clear();
    skipping_ = false;
    copying_in_ = false;
    open_batch_ = false;
    status_ = 'I';
}

}  // namespace pgporter
