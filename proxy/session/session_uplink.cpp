// From the client to the server: reading, framing, streaming. What a request means is in session_requests.cpp.
//
// A message that lies whole in the read buffer is handled there; one that doesn't is gathered when it must be understood, and
// passed on as it comes otherwise. The uplink reads again only after everything it read is written: backpressure without a queue.
#include <algorithm>
#include <cerrno>
#include <new>

#include "base/assert.hpp"
#include "proxy/session/session.hpp"
#include "proxy/wire/messages.hpp"

namespace pgporter {
namespace {

// A Query that is longer than this is passed on while it comes, and its effects are looked up afterwards.
constexpr std::uint32_t gathered_query_bytes_max = 262'144;
// Portal and statement name of a Bind.
constexpr std::size_t bind_names_bytes_max = 16'384;
constexpr std::uint32_t small_message_bytes_max = 65'536;
// What is to be undone should a request fail is counted by so many.
constexpr std::size_t operations_step = 1'024;

// PostgreSQL bounds the messages that carry little (PQ_SMALL_MESSAGE_LIMIT) and closes the connection on longer ones without a word.
bool is_acceptable_length(char type, std::uint32_t length) {
    constexpr std::uint32_t small_max = 10'000;
    constexpr std::uint32_t large_max = 0x3fffffff;
    const bool is_small = std::string_view("CDEHSXcf").find(type) != std::string_view::npos;
    return length >= 4 && length <= (is_small ? small_max : large_max);
}

}  // namespace

Task<> Session::uplink() {
    std::string held = std::move(login_input_);
    MemoryShare held_share;
    std::string_view input = held;
    bool more = !input.empty();
    bool is_silent = false;
    while (end_reason_ == EndReason::none) {
        if (!ahead_.again.empty()) {
            held = std::exchange(ahead_.again, {});
            input = held;
            more = true;
        }
        if (more) {
            more = false;
            Step step = process(input);
            while (step != Step::done) {
                if (step == Step::ended || end_reason_ != EndReason::none) co_return;
                // The thread's read buffer is everybody's: what waits is kept here.
                std::string rest(input);
                held = std::move(rest);
                held_share.resize(memory_account(), held.size() > 4'096 ? held.size() : 0);
                input = held;
                const bool go_on = co_await take_step(step, input);
                if (!go_on) co_return;
                if (!ahead_.again.empty()) {
                    held = std::exchange(ahead_.again, {}).append(input);
                    input = held;
                }
                step = process(input);
            }
            if (!held.empty()) {
                std::string().swap(held);
                held_share.release();
            }
        }
        if (server_ && must_slow_down()) co_await slow_down();
        if (!client_.has_buffered_input()) {
            const bool is_bounded = bound_next_read();
            const bool ready = co_await client_.readable();
            if (is_bounded) read_deadline_.disarm();
            if (!ready) break;
            if (!ahead_.again.empty()) continue;
        }
        const IoResult result = client_.read_some(worker_.thread().read_buffer(), IoThread::read_bytes);
        if (result.status == IoStatus::ok) {
            input = std::string_view(worker_.thread().read_buffer(), result.bytes);
            more = true;
            if (desk_ != nullptr) desk_->counters().received_bytes.inc(result.bytes);
            charge_bytes(result.bytes);
        } else if (result.status == IoStatus::want_write) {
            const bool ready = co_await client_.writable();
            if (!ready) break;
        } else if (result.status != IoStatus::want_read) {
            is_silent = result.status == IoStatus::failed && errno == ETIMEDOUT;  // what ask_idle_peer() has asked for
            break;
        }
    }
    if (is_silent) end(EndReason::client_silent, nullptr);
    // The client closed its side. Between transactions that is as good as Terminate.
    end(server_ && !is_pinned() ? EndReason::client_lost : EndReason::client_terminated, nullptr);
}

// True: the rest of a message must come within client_read_ms_max.
bool Session::bound_next_read() {
    if (partial_ == Partial::none && client_frames_.at_boundary()) {
        if (server_ && only_client_can_go_on()) bound_idle_transaction();
        return false;
    }
    const Milliseconds ms_max = worker_.config().limits.client_read_ms_max;
    read_deadline_.arm(ms_max, [this, ms_max] {
        const Error error = client_error::message_timeout(ms_max.count());
        end(EndReason::client_too_slow, &error);
    });
    return true;
}

// Does what process() can't do without waiting. False: the session is over.
Task<bool> Session::take_step(Step step, std::string_view& input) {
    switch (step) {
        case Step::done:
        case Step::ended: break;
        case Step::need_server: {
            Result<void> obtained = co_await obtain_server(true);
            if (end_reason_ != EndReason::none) co_return false;
            if (!obtained) fail_request(obtained.error(), input);  // the session goes on
            break;
        }
        case Step::server_blocked: {
            const ServerPtr server = server_;
            if (!server) break;
            const bool flushed = co_await server->flush();
            unsent_share_.release();
            if (!flushed) server->close();
            break;
        }
        case Step::client_blocked: {
            co_await flush_client();
            break;
        }
        case Step::wait_for_replies: {
            if (server_ && server_->owes_proof()) begin_watching_client();  // the statement that it waits for may be a long one
            uplink_waits_ = true;
            co_await wake_.wait();
            uplink_waits_ = false;
            break;
        }
    }
    co_return end_reason_ == EndReason::none;
}

Session::Step Session::process(std::string_view& input) {
    // The thread's buffer must never carry one session's bytes into another's stream.
    PP_ASSERT(worker_.to_server().bytes().empty());
    if (idle_deadline_.is_armed() && !input.empty()) idle_deadline_.disarm();
    turn_input_ = input;
    if (ahead_.is_due && server_) put_prologue_ahead();
    const Step step = process_all(input);
    flush_said();
    if (step == Step::wait_for_replies) ask_for_proof();
    const bool sent = flush_to_server();
    if (ahead_.is_this_turn) keep_what_was_asked(turn_input_.substr(0, static_cast<std::size_t>(input.data() - turn_input_.data())));
    if (step == Step::done && is_client_blocked() && !client_out_.is_flushing()) return Step::client_blocked;
    return sent || step == Step::ended ? step : Step::server_blocked;
}

Session::Step Session::process_all(std::string_view& input) {
    while (true) {
        if (end_reason_ != EndReason::none) return Step::ended;
        if (operations_.size() >= operations_counted_ + operations_step && !has_room_for_operations()) {
            worker_.shared().memory.count_refusal();
            const Error error = client_error::out_of_memory();
            end(EndReason::limit, &error);
            return Step::ended;
        }
        if (terminating_) return terminate();
        const bool has_more = !input.empty() || has_ready_partial();
        if (!server_) turn_input_ = input;
        const bool is_end = partial_ == Partial::none && client_frames_.at_boundary() && input.starts_with('X');
        if (has_more && server_ && !is_end && must_wait()) return Step::wait_for_replies;
        if (is_client_blocked() && !client_out_.is_flushing()) return Step::client_blocked;
        if (!has_more) break;
        Step step = Step::done;
        if (partial_ != Partial::none) {
            step = continue_partial(input);
        } else if (const std::string_view whole = client_frames_.at_boundary() ? whole_message(input) : std::string_view(); !whole.empty()) {
            const std::size_t size = whole.size();
            if (!is_acceptable_length(whole.front(), length_field(whole.substr(1)))) {
                end(EndReason::protocol_violation, nullptr);
                return Step::ended;
            }
            if (skip_to_sync_ && whole.front() != 'S' && whole.front() != 'X') {
                input.remove_prefix(size);
                continue;
            }
            if (whole.front() == 'd' && go_on_with_copy_data()) {
                const std::string_view lines = whole_messages(input, 'd');
                to_server(lines);
                input.remove_prefix(lines.size());
                continue;
            }
            const auto reused = whole.front() == 'P' && worker_.config().limits.unnamed_reuses_max != 0 ? reuse_unnamed(input) : std::nullopt;
            step = reused ? *reused : on_request(whole.front(), whole.substr(5), whole);
            if (!reused && step == Step::done) input.remove_prefix(size);
        } else {
            step = begin_partial(input);
        }
        if (step != Step::done) return step;
    }
    return Step::done;
}

// True: COPY input may go on to the server as it is.
bool Session::go_on_with_copy_data() {
    if (!server_ || skip_to_sync_ || !replies_.is_copying_in()) return false;
    if (idle_deadline_.is_armed()) idle_deadline_.disarm();
    go_on_behind_end('d');
    return true;
}

// Of a pipeline whose answers are long in coming; few sessions ever have so many.
bool Session::has_room_for_operations() {
    const MemoryAccount account = memory_account();
    operations_counted_ = operations_.size();
    operations_share_.resize(account, operations_counted_ * (sizeof(Operation) + 64));
    return account.has_room(0);
}

// A message was read that could not be handled at once: it goes on without further input.
bool Session::has_ready_partial() const {
    if (partial_ == Partial::none) return false;
    return partial_ == Partial::bind_ready || partial_ == Partial::stream_start || client_frames_.body_complete();
}

// Nothing more may be sent before some of what is owed has come.
bool Session::must_wait() const {
    if (inspecting_ || lease_ends_after_flush_) return true;
    if (server_->owes_proof() && !ahead_.is_this_turn) return true;
    if (replies_.size() >= worker_.config().limits.pending_replies_max) return true;
    // COPY input belongs to what is under way, and that isn't over before all of it has come.
    if (has_barrier_ && replies_.ends_with_ready() && !replies_.is_copying_in()) return true;
    return terminating_ && replies_.owes_ready();
}

// The start of a message that isn't whole in the buffer.
Session::Step Session::begin_partial(std::string_view& input) {
    const std::string_view from_start = client_frames_.at_boundary() ? input : std::string_view();
    std::string_view piece;
    const FrameReader::Event event = client_frames_.next(input, piece);
    if (event == FrameReader::Event::need_more) return Step::done;
    const char type = client_frames_.type();
    const std::uint32_t length = client_frames_.body_length();
    if (event == FrameReader::Event::bad_length || !is_acceptable_length(type, length + 4)) {
        end(EndReason::protocol_violation, nullptr);
        return Step::ended;
    }
    PP_ASSERT(event == FrameReader::Event::header);
    gathered_.clear();
    if (type == 'd' && !from_start.empty() && go_on_with_copy_data()) {  // as it lies there, so that all of it leaves without a copy
        to_server(from_start.substr(0, from_start.size() - input.size()));
        partial_ = Partial::stream;
        return continue_partial(input);
    }
    const std::uint32_t statement_max = worker_.config().limits.statement_bytes_max;
    if (skip_to_sync_ && type != 'S' && type != 'X') {
        partial_ = Partial::drop;
    } else if (type == 'B' && pool_mode_ == PoolMode::transaction) {
        partial_ = Partial::bind_names;
    } else if ((type == 'Q' && length <= gathered_query_bytes_max) || (type == 'P' && length <= statement_max) ||
               (type != 'Q' && type != 'P' && type != 'd' && type != 'F' && type != 'B' && length <= small_message_bytes_max)) {
        partial_ = Partial::gather;
    } else {
        partial_ = Partial::stream_start;
    }
    return continue_partial(input);
}

Session::Step Session::continue_partial(std::string_view& input) {
    if (partial_ == Partial::stream_start) {
        const Step begun = begin_stream(client_frames_.type(), client_frames_.body_length());
        if (begun != Step::done) return begun;
        if (partial_ == Partial::stream_start) partial_ = Partial::stream;
    }
    if (partial_ == Partial::bind_ready) return start_bind();
    std::string_view piece;
    while (!client_frames_.body_complete()) {
        if (client_frames_.next(input, piece) == FrameReader::Event::need_more) return Step::done;
        if (partial_ == Partial::stream) {
            to_server(piece);
        } else if (partial_ != Partial::drop && !gather(piece)) {
            refuse_gathered(input);
        }
        if (partial_ == Partial::bind_names) {
            const auto portal_end = gathered_.find('\0');
            const auto statement_end = portal_end == std::string::npos ? portal_end : gathered_.find('\0', portal_end + 1);
            if (statement_end != std::string::npos) {
                // What a statement about the session is bound to must be understood.
                const auto name = std::string_view(gathered_).substr(portal_end + 1, statement_end - portal_end - 1);
                const bool is_of_session = names_in_sql() && session_statement(name) && client_frames_.body_length() <= small_message_bytes_max;
                partial_ = is_of_session ? Partial::gather : Partial::bind_ready;
                if (!is_of_session) return start_bind();
                continue;
            }
            if (gathered_.size() > bind_names_bytes_max) break;
        }
    }
    if (partial_ == Partial::bind_names) {
        if (!client_frames_.body_complete()) {
            const Error error = client_error::protocol_violation("invalid string in message");
            end(EndReason::protocol_violation, &error);
            return Step::ended;
        }
        partial_ = Partial::gather;  // malformed, but whole: PostgreSQL says so
    }
    if (partial_ == Partial::gather) {
        const auto header = frame_header(client_frames_.type(), client_frames_.body_length());
        const std::string whole = std::string(header.data(), header.size()) + gathered_;
        const Step step = on_request(client_frames_.type(), std::string_view(whole).substr(5), whole);
        if (step != Step::done) return step;
        const bool sent = flush_to_server();  // `whole` ends here
        finish_partial();
        return sent ? Step::done : Step::server_blocked;
    }
    finish_partial();
    return Step::done;
}

// False: there is no memory for it.
bool Session::gather(std::string_view piece) {
    const std::size_t size = gathered_.size() + piece.size();
    if (size > gathered_.capacity()) {
        const std::size_t wanted = std::min(std::max(size, 2 * gathered_.capacity()), std::max<std::size_t>(size, client_frames_.body_length()));
        gathered_share_.release();
        if (wanted > uncounted_bytes_max) {
            const MemoryAccount account = memory_account();
            if (!account.has_room(wanted)) return false;
            gathered_share_.resize(account, wanted);
        }
        try {
            gathered_.reserve(wanted);
        } catch (const std::bad_alloc&) {
            return false;
        }
    }
    gathered_.append(piece);
    return true;
}

// There is no memory for the message: it is answered as one that has failed, and what is still to come of it is dropped.
void Session::refuse_gathered(std::string_view& input) {
    std::string().swap(gathered_);
    gathered_share_.release();
    worker_.shared().memory.count_refusal();
    const Error error = client_error::out_of_memory();
    const bool is_query = client_frames_.type() == 'Q';
    partial_ = Partial::gather;
    if (!server_) {
        fail_request(error, input);
    } else if (is_query && !replies_.is_skipping()) {
        raise_query(error);
    } else if (!replies_.is_skipping()) {
        raise_in_batch(error);
    }
    partial_ = Partial::drop;
}

// Both names of a Bind are known: its start is rewritten, what follows is passed on as it comes.
Session::Step Session::start_bind() {
    if (server_ && server_->owes_proof() && !client_frames_.body_complete()) return Step::wait_for_replies;
    if (server_ && replies_.is_skipping()) {  // the server would skip it too
        partial_ = Partial::drop;
        gathered_.clear();
        return Step::done;
    }
    go_on_behind_end('B');
    const std::string_view all = gathered_;
    const auto portal_end = all.find('\0');
    const auto statement_end = all.find('\0', portal_end + 1);
    const std::string_view portal = all.substr(0, portal_end);
    const std::string_view statement = all.substr(portal_end + 1, statement_end - portal_end - 1);
    if (const auto replaced = portals_.empty() ? std::nullopt : replace_portal(portal, !text_of_statement(statement).empty())) {
        if (*replaced == Step::done) partial_ = Partial::drop;
        if (*replaced != Step::done) return *replaced;
    } else {
        const Step step = on_bind(portal, statement, all.substr(statement_end + 1), client_frames_.body_length());
        if (step != Step::done) return step;
    }
    if (partial_ == Partial::drop) {  // refused: what is still to come of it must not reach the server
        gathered_.clear();
        return flush_to_server() ? Step::done : Step::server_blocked;
    }
    const bool sent = flush_to_server();  // `gathered_` ends here
    const bool complete = client_frames_.body_complete();
    finish_partial();
    if (!complete) partial_ = Partial::stream;
    return sent ? Step::done : Step::server_blocked;
}

void Session::finish_partial() {
    const bool was_streamed = std::exchange(partial_, Partial::none) == Partial::stream;
    std::string().swap(gathered_);
    gathered_share_.release();
    // The transaction may have ended while its last message was still on its way (a COPY that failed early).
    if (was_streamed && server_ && replies_.is_idle() && !inspecting_ && !lease_ends_after_flush_ && flush_to_server()) on_ready();
}

void Session::to_server(std::string_view bytes) {
    worker_.to_server().put(bytes);
}

// False: the server can't take more now; what is left is kept in its buffer.
bool Session::flush_to_server() {
    Coalescer& out = worker_.to_server();
    const std::string_view bytes = out.bytes();
    if (server_ && !bytes.empty()) {
        begin_times();
        if (pool_->latency().is_watched() && asked_at_ == SteadyTime{}) asked_at_ = std::chrono::steady_clock::now();
        if (server_->owes_proof() && !is_guarded(bytes)) {
            out.done();
            const Error error = client_error::unguarded();
            end(EndReason::protocol_violation, &error);
            return true;
        }
        if (!server_->send(bytes)) server_->close();  // its downlink reports the loss
    }
    out.done();
    if (!server_ || !server_->is_send_blocked()) return true;
    unsent_share_.resize(memory_account(), server_->unsent_bytes() > uncounted_bytes_max ? server_->unsent_bytes() : 0);
    return false;
}

void Session::say(std::string_view bytes) {
    constexpr std::size_t staged_bytes_max = 65'536;
    PP_ASSERT(!server_ && (has_said_ || worker_.to_client().bytes().empty()));
    has_said_ = true;
    worker_.to_client().put_copy(bytes);
    if (worker_.to_client().bytes().size() > staged_bytes_max) flush_said();
}

void Session::flush_said() {
    if (std::exchange(has_said_, false)) flush_to_client();
}

// A request that could get no server connection: answered as PostgreSQL answers a failed request of that protocol, and skipped.
void Session::fail_request(const Error& error, std::string_view& input) {
    const char type = partial_ == Partial::none ? input.front() : client_frames_.type();
    if (partial_ == Partial::none) {
        input.remove_prefix(whole_message(input).size());
    } else {
        partial_ = Partial::drop;
    }
    held_.fail(named_);
    binding_.reset();
    misplaced_.reset();
    answered_ = 0;
    portals_.clear();
    route_is_stale_ = true;
    std::string text = client_error::to_message(error, "ERROR");
    if (type == 'Q' || type == 'F') {
        text += message::ready_for_query(held_.status());
    } else {
        skip_to_sync_ = true;
    }
    say(text);
    flush_said();
}

}  // namespace pgporter
