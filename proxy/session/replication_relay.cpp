#include "proxy/session/replication_relay.hpp"

#include "proxy/session/client_errors.hpp"
#include "proxy/session/worker.hpp"

namespace pgporter {
namespace {

constexpr std::size_t chunk_bytes = 32'768;

// PostgreSQL's parse_bool: any beginning of these words that is one of them only; "o" alone says nothing.
std::optional<bool> read_boolean(std::string_view text) {
    const auto begins = [&](std::string_view word, std::size_t letters_min) {
        return text.size() >= letters_min && text.size() <= word.size() && same_name(text, word.substr(0, text.size()));
    };
    if (text == "1" || begins("true", 1) || begins("yes", 1) || begins("on", 2)) return true;
    if (text == "0" || begins("false", 1) || begins("no", 1) || begins("off", 2)) return false;
    return std::nullopt;
}

}  // namespace

Result<ReplicationMode> replication_mode(const StartupMessage& startup) {
    for (const auto& [name, value] : startup.parameters) {
        if (name != "replication") continue;
        if (value == "database") return ReplicationMode::database;
        const auto wanted = read_boolean(value);
        if (!wanted) return client_error::invalid_replication(value);
        return *wanted ? ReplicationMode::physical : ReplicationMode::none;
    }
    return ReplicationMode::none;
}

ReplicationRelay::ReplicationRelay(ServerConnection& opened, std::function<void()> release)
    : address_(opened.address()),
      pid_(opened.pid()),
      cancel_key_(opened.cancel_key()),
      server_(opened.release_stream()),
      release_(std::move(release)) {}

Task<bool> ReplicationRelay::to_server(Stream& client, std::string early) {
    std::string chunk = std::move(early);
    while (true) {
        if (!chunk.empty()) {
            const bool sent = co_await server_->write_all(std::move(chunk));
            if (!sent) co_return false;
        }
        chunk.resize(chunk_bytes);
        const IoResult result = client.read_some(chunk.data(), chunk.size());
        chunk.resize(result.bytes);
        if (result.status == IoStatus::ok) continue;
        if (result.status == IoStatus::closed) co_return true;
        const bool ready = co_await client.ready_for(result.status);
        if (!ready) co_return false;
    }
}

Task<bool> ReplicationRelay::to_client(Stream& client, Deadline& deadline, Milliseconds write_ms_max) {
    while (true) {
        std::string chunk(chunk_bytes, '\0');
        const IoResult result = server_->read_some(chunk.data(), chunk.size());
        chunk.resize(result.bytes);
        if (result.status == IoStatus::closed) co_return true;
        if (result.status != IoStatus::ok) {
            std::string().swap(chunk);  // an idle connection holds no buffer
            const bool ready = co_await server_->ready_for(result.status);
            if (!ready) co_return false;
            continue;
        }
        std::string_view rest = chunk;
        std::string_view piece;
        while (!rest.empty()) {
            if (frames_.next(rest, piece) == FrameReader::Event::bad_length) co_return false;
        }
        writing_ = true;
        deadline.arm(write_ms_max, [&client] { client.close(); });
        const bool sent = co_await client.write_all(std::move(chunk));
        deadline.disarm();
        writing_ = false;
        if (!sent) co_return false;
    }
}

Task<> ReplicationRelay::send_cancel(IoThread& thread, DataPathShared& shared) const {
    return send_cancel_to(thread, shared, address_, pid_, cancel_key_);
}

Task<> ReplicationRelay::send_cancel_to(IoThread& thread, DataPathShared& shared, ServerAddress address, std::uint32_t pid, std::string key) {
    ++shared.cancels_in_flight;
    Result<Socket> socket = co_await connect_socket(thread, std::move(address), shared.config.limits.cancel_ms_max);
    if (socket) {
        Stream stream(std::move(*socket));
        Deadline deadline(thread.wheel());
        deadline.arm(shared.config.limits.cancel_ms_max, [&stream] { stream.close(); });
        bool open = co_await stream.write_all(build_cancel_request(pid, key));
        while (open) {
            char ignored[64];
            const IoResult result = stream.read_some(ignored, sizeof ignored);
            if (result.status != IoStatus::ok) open = co_await stream.ready_for(result.status);
        }
    }
    --shared.cancels_in_flight;
}

void ReplicationRelay::close() {
    server_->close();
    if (const auto release = std::exchange(release_, nullptr)) release();
}

}  // namespace pgporter
