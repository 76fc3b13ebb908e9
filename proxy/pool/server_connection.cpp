#include "proxy/pool/server_connection.hpp"

#include <algorithm>
#include <cerrno>
#include <new>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "proxy/pool/pool.hpp"
#include "proxy/wire/messages.hpp"
#include "proxy/wire/startup.hpp"

namespace pgporter {
namespace {

Error server_failure(const ServerOptions& options, std::string message, std::string detail = {}) {
    return fail(ErrorKind::unavailable, std::move(message), std::move(detail),
                "see the server of cluster \"" + options.address.cluster + "\"", "08006");
}

}  // namespace

ServerConnection::ServerConnection(IoThread& thread, ServerOptions options, Socket socket)
    : thread_(&thread),
      options_(std::move(options)),
      stream_(std::make_unique<Stream>(std::move(socket))),
      deadline_(thread.wheel()),
      statements_(options_.statements_max),
      opened_at_(std::chrono::steady_clock::now()) {
    ask_idle_peer(stream_->descriptor(), options_.silent_ms_max);
}

ServerConnection::~ServerConnection() = default;

Task<Result<ServerPtr>> ServerConnection::open(IoThread& thread, ServerOptions options) {
    const auto until = std::chrono::steady_clock::now() + options.connect_ms_max;
    Result<Socket> socket = co_await connect_socket(thread, options.address, options.connect_ms_max);
    if (!socket) co_return socket.error();
    const auto left = std::chrono::duration_cast<Milliseconds>(until - std::chrono::steady_clock::now());
    ServerPtr self(new ServerConnection(thread, std::move(options), std::move(*socket)));
    // Closing the stream ends whatever the login waits for.
    self->deadline_.arm(std::max(left, Milliseconds(1)), [raw = self.get()] { raw->stream_->close(); });
    Result<void> secured = co_await self->negotiate_tls();
    if (!secured) co_return secured.error();
    Result<void> logged_in = co_await self->log_in();
    self->deadline_.disarm();
    if (!logged_in) co_return logged_in.error();
    co_return self;
}

Task<Result<void>> ServerConnection::negotiate_tls() {
    const ServerAddress& address = options_.address;
    if (address.tls == ServerTls::disable || address.is_local_socket()) co_return Result<void>{};
    const bool sent = co_await stream_->write_all(build_ssl_request());
    if (!sent) co_return server_failure(options_, "the server closed the connection before TLS was agreed on");
    char answer = 0;
    while (true) {
        // Exactly one byte: anything behind it before the handshake would be unprotected (CVE-2021-23222).
        const IoResult result = stream_->read_some(&answer, 1);
        if (result.status == IoStatus::ok) break;
        const bool ready = co_await stream_->ready_for(result.status);
        if (!ready) co_return server_failure(options_, "the server closed the connection before TLS was agreed on");
    }
    if (answer != 'S') {
        co_return fail(ErrorKind::invalid, "the server of cluster \"" + address.cluster + "\" doesn't offer TLS", {},
                       "turn ssl on there, or set tls: disable for this cluster", "08001");
    }
    const bool verify = address.tls == ServerTls::verify_ca || address.tls == ServerTls::verify_full;
    Result<std::shared_ptr<TlsContext>> context = TlsContext::for_server(verify ? address.tls_ca_file : std::string());
    if (!context) co_return context.error();
    Result<void> done = co_await stream_->connect_tls(*context, address.host, address.tls == ServerTls::verify_full);
    if (!done) {
        co_return fail(ErrorKind::invalid, "no TLS connection to the server of cluster \"" + address.cluster + "\"",
                       done.error().detail, "see the cluster's tls and tls_ca_file, and the server's certificate", "08001");
    }
    co_return Result<void>{};
}

Task<Result<void>> ServerConnection::log_in() {
    const bool protected_link = stream_->is_tls() || options_.address.is_local_socket();
    // Nothing that RESET would bring back to a client's surprise.
    Settings parameters{{"user", options_.user}, {"database", options_.database}, {"client_encoding", "UTF8"}};
    for (const auto& [name, value] : options_.startup_parameters) put_setting(parameters, name, value);
    ServerLogin login(std::move(parameters), options_.credential, protected_link, stream_->server_end_point());
    bool sent = co_await stream_->write_all(login.start());
    FrameReader reader(own_message_bytes_max);
    std::string body;
    while (sent && login.state() != ServerLogin::State::ready) {
        const IoResult result = stream_->read_some(thread_->read_buffer(), IoThread::read_bytes);
        if (result.status != IoStatus::ok) {
            sent = co_await stream_->ready_for(result.status);
            continue;
        }
        // Copied, since answering may wait and the thread's buffer is everybody's.
        const std::string chunk(thread_->read_buffer(), result.bytes);
        std::string_view input = chunk;
        std::string_view piece;
        while (true) {
            const FrameReader::Event event = reader.next(input, piece);
            if (event == FrameReader::Event::need_more) break;
            if (event == FrameReader::Event::bad_length) co_return server_failure(options_, "the server sent a malformed message");
            if (event == FrameReader::Event::header) body.clear();
            if (event == FrameReader::Event::body) body.append(piece);
            if (!reader.body_complete()) continue;
            Result<std::string> reply = login.on_message(reader.type(), body);
            if (!reply) co_return reply.error();
            if (!reply->empty()) sent = co_await stream_->write_all(std::move(*reply));
        }
    }
    if (!sent) co_return server_failure(options_, "the server closed the connection during login, or took too long");
    pid_ = login.pid();
    cancel_key_ = login.cancel_key();
    reported_ = std::make_shared<const Settings>(login.parameters());
    defaults_ = *reported_;
    co_return Result<void>{};
}

void ServerConnection::run(Pool* pool) {
    pool_ = pool;
    reported_ = pool->shared(*reported_);
    stream_->go_first();  // what has ended is known before it is lent
    asio::co_spawn(thread_->executor(), downlink(shared_from_this()), asio::detached);
}

Task<> ServerConnection::downlink(ServerPtr self) {
    try {
        co_await self->read_to_the_end();
    } catch (const std::bad_alloc&) {  // ends what needed the memory, and nothing else
        self->loss_ = Loss::out_of_memory;
        if (const auto holder = self->holder_) holder->on_out_of_memory();
    }
    if (self->moving_) {
        leave_thread(std::move(self));
    } else {
        self->lost();
    }
}

void ServerConnection::move_to(IoThread& thread, std::function<void(ServerPtr)> arrived) {
    PP_ASSERT(state_ == State::idle && !holder_ && own_query_ == nullptr && !moving_ && cancels_in_flight == 0);
    pool_ = nullptr;
    moving_ = Move{&thread, std::move(arrived)};
    stream_->interrupt();
}

// The downlink's last act: after the post nothing of it is this thread's.
void ServerConnection::leave_thread(ServerPtr self) {
    Move move = *std::exchange(self->moving_, std::nullopt);
    self->deadline_.disarm();
    self->deadline_.move_to(move.to->wheel());
    self->stream_->leave_thread();
    self->thread_ = move.to;
    move.to->post([server = std::move(self), arrived = std::move(move.arrived)]() mutable {
        server->stream_->enter_thread(server->thread_->executor());
        arrived(std::move(server));
    });
}

Task<> ServerConnection::read_to_the_end() {
    while (state_ != State::closing && !moving_) {
        const IoResult result = stream_->read_some(thread_->read_buffer(), IoThread::read_bytes);
        if (result.status == IoStatus::ok) {
            std::string_view input(thread_->read_buffer(), result.bytes);
            const bool lets_gather = bulk_.should_pause(input) && stream_->is_used_up();
            if (!on_bytes(input)) break;
            const std::shared_ptr<LeaseHolder> holder = holder_;
            if (holder && holder->is_client_blocked()) {
                co_await holder->flush_client();
                if (holder_ == holder) holder->on_client_flushed(*this);
            }
            if (holder_ == holder && holder && holder->must_slow_down()) co_await holder->slow_down();
            if (result.bytes == IoThread::read_bytes || stream_->has_buffered_input()) {
                // There is more; the others' turn comes first, or one long result would stop them all.
                [[maybe_unused]] const auto turn = co_await asio::post(thread_->executor(), as_result);
                continue;
            }
            if (lets_gather && holder_) {
                Timer timer(thread_->executor());
                timer.expires_after(BulkPace::pause);
                [[maybe_unused]] const auto paused = co_await timer.async_wait(as_result);
            }
        } else if (result.status == IoStatus::closed || result.status == IoStatus::failed) {
            if (result.status == IoStatus::failed && errno == ETIMEDOUT) loss_ = Loss::silent;  // what ask_idle_peer() has asked for
            break;
        }
        bool ready = false;
        if (result.status == IoStatus::want_write) {
            ready = co_await stream_->writable();
        } else {
            ready = co_await stream_->readable();
        }
        if (!ready) break;
    }
}

bool ServerConnection::on_bytes(std::string_view& input) {
    while (!input.empty()) {
        bool sound = true;
        if (own_query_ != nullptr) {
            sound = on_own_query_bytes(input);
        } else if (ahead_) {
            sound = on_ahead_bytes(input);
        } else if (holder_) {
            const std::shared_ptr<LeaseHolder> holder = holder_;
            sound = holder->on_server_bytes(*this, input);
        } else {
            sound = on_idle_bytes(input);
        }
        if (!sound || state_ == State::closing) return false;
    }
    return true;
}

bool ServerConnection::on_idle_bytes(std::string_view& input) {
    std::string_view piece;
    while (!input.empty() && own_query_ == nullptr && !holder_) {
        const FrameReader::Event event = frames_.next(input, piece);
        if (event == FrameReader::Event::need_more) return true;
        if (event == FrameReader::Event::bad_length) return false;
        if (event == FrameReader::Event::header) idle_message_.clear();
        if (event == FrameReader::Event::body) {
            idle_message_.append(piece);
            if (idle_message_.size() > own_message_bytes_max) return false;
        }
        if (!frames_.body_complete()) continue;
        switch (frames_.type()) {
            case 'S':
                if (const auto status = parse_parameter_status(idle_message_)) {
                    report(status->first, status->second);
                    if (pool_ != nullptr) pool_->doubt_fresh(status->first, status->second);
                }
                break;
            case 'N':
            case 'A': break;       // nobody's
            default: return false;  // an error (shutdown, idle timeout) or a broken server
        }
    }
    return true;
}

bool ServerConnection::on_own_query_bytes(std::string_view& input) {
    std::string_view piece;
    while (!input.empty() && own_query_ != nullptr) {
        const FrameReader::Event event = frames_.next(input, piece);
        if (event == FrameReader::Event::need_more) return true;
        if (event == FrameReader::Event::bad_length) return false;
        if (event == FrameReader::Event::header) own_query_->message.clear();
        if (event == FrameReader::Event::body) {
            own_query_->message.append(piece);
            if (own_query_->message.size() > own_message_bytes_max) return false;
        }
        if (frames_.body_complete()) on_own_query_message(frames_.type(), own_query_->message);
    }
    return true;
}

void ServerConnection::on_own_query_message(char type, std::string_view body) {
    switch (type) {
        case 'T': own_query_->answer.rows.clear(); break;  // only the last result counts
        case 'D': {
            const auto values = parse_data_row(body);
            if (!values) break;
            TextRow row;
            for (const auto& value : *values) row.push_back(value ? std::optional<std::string>(*value) : std::nullopt);
            if (own_query_->answer.rows.size() < 10'000) own_query_->answer.rows.push_back(std::move(row));
            break;
        }
        case 'S':
            if (const auto status = parse_parameter_status(body)) report(status->first, status->second);
            break;
        case 'A':
            // While a context is being established it would be the last holder's.
            if (holder_ && !establishing_) holder_->on_notification(body);
            break;
        case 'E': {
            const ServerError error = parse_error(body);
            own_query_->error = fail(ErrorKind::invalid, error.message, error.detail, error.hint, error.sqlstate);
            break;
        }
        case 'Z': {
            if (--own_query_->readies_owed > 0) break;
            OwnQuery* finished = own_query_;
            own_query_ = nullptr;
            finished->finished = true;
            finished->done.notify();
            break;
        }
        default: break;  // notices, command tags, completions of our own requests
    }
}

Task<Result<QueryAnswer>> ServerConnection::query(std::string sql, Milliseconds ms_max) {
    unnamed_statement = 0;  // a simple Query drops it
    Result<QueryAnswer> answer = co_await run_own_query(message::query(sql), ms_max);
    co_return answer;
}

Task<Result<QueryAnswer>> ServerConnection::query_params(std::string sql, std::vector<std::optional<std::string>> parameters,
                                                         Milliseconds ms_max) {
    unnamed_statement = 0;
    std::string request = message::parse("", sql);
    request += message::bind_text("", "", parameters);
    request += message::describe('P', "");
    request += message::execute("");
    request += message::sync();
    Result<QueryAnswer> answer = co_await run_own_query(std::move(request), ms_max);
    co_return answer;
}

Task<Result<QueryAnswer>> ServerConnection::run_own_query(std::string request, Milliseconds ms_max, int queries) {
    PP_ASSERT(own_query_ == nullptr);
    if (!is_alive()) co_return server_failure(options_, "the server connection is closed");
    const ServerPtr keep = shared_from_this();
    OwnQuery own(thread_->executor());
    own.readies_owed = queries;
    own_query_ = &own;
    deadline_.arm(ms_max, [raw = this] { raw->close(); });
    if (send(request)) {
        // The answer comes through the downlink, which also ends the wait when the connection is lost.
        if (is_send_blocked()) {
            const bool flushed = co_await flush();
            if (!flushed) close();
        }
        if (!own.finished) co_await own.done.wait();
    } else {
        own_query_ = nullptr;
        close();
    }
    deadline_.disarm();
    if (own.error) co_return *own.error;
    if (!own.finished) co_return server_failure(options_, "the server connection was lost");
    co_return std::move(own.answer);
}

void ServerConnection::lend(std::shared_ptr<LeaseHolder> holder) {
    PP_ASSERT(state_ == State::idle && !holder_);
    holder_ = std::move(holder);
    state_ = State::leased;
}

void ServerConnection::take_back() {
    holder_.reset();
    if (state_ == State::leased) state_ = State::idle;
}

void ServerConnection::report(std::string_view name, std::string_view value) {
    const std::string* known = find_setting(*reported_, name);
    if (known != nullptr && *known == value) return;
    Settings changed = *reported_;
    put_setting(changed, name, value);
    reported_ = pool_ != nullptr ? pool_->shared(changed) : std::make_shared<const Settings>(std::move(changed));
}

void ServerConnection::close() {
    if (state_ == State::idle || state_ == State::leased) {
        if (stream_->is_open() && out_.is_empty()) {
            // Politeness only: PostgreSQL would otherwise log a lost connection.
            [[maybe_unused]] const IoResult ignored = stream_->write_some(message::terminate());
        }
    }
    state_ = State::closing;
    stream_->close();
}

void ServerConnection::look_for_silence(SteadyTime now) {
    if (state_ != State::leased || !stream_->is_open()) return;
    if (!silence_.is_silent(stream_->descriptor(), now, options_.silent_ms_max)) return;
    loss_ = Loss::silent;
    close();  // its downlink tells the holder
}

std::unique_ptr<Stream> ServerConnection::release_stream() {
    PP_ASSERT(pool_ == nullptr && !holder_);
    state_ = State::closing;
    return std::move(stream_);
}

void ServerConnection::lost() {
    state_ = State::closing;
    stream_->close();
    deadline_.disarm();
    if (own_query_ != nullptr) {
        OwnQuery* waiting = own_query_;
        own_query_ = nullptr;
        if (!waiting->error) waiting->error = server_failure(options_, "the server connection was lost");
        waiting->done.notify();
    }
    if (const auto holder = std::exchange(holder_, nullptr)) holder->on_server_lost(*this);
    if (Pool* pool = std::exchange(pool_, nullptr)) pool->on_server_closed(*this);
}

}  // namespace pgporter
