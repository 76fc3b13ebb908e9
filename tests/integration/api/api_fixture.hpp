// An admin API on a real catalog, follower and mover, all in this process, with one private PostgreSQL for the catalog and the tenants.
// One for all tests of the executable: starting a server takes seconds. Main thread.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/json.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "admin/api/http_server.hpp"
#include "catalog/gate.hpp"
#include "tests/support/postgres_server.hpp"

namespace pgporter::test {

// Nobody works for the tenants here, so every hold is drained at once.
class IdleGate final : public TenantGate {
  public:
    Result<HoldId> hold(std::string_view, std::chrono::milliseconds) override { return HoldId(++last_); }
    DrainStatus wait_drained(HoldId, std::chrono::milliseconds) override { return {.drained = true}; }
    bool release(HoldId) override { return true; }
    std::uint32_t warm(std::string_view, const Placement&, std::chrono::milliseconds) override { return 0; }

  private:
    std::atomic<std::uint64_t> last_ = 0;
};

using Reply = boost::beast::http::response<boost::beast::http::string_body>;
using Headers = std::vector<std::pair<std::string, std::string>>;

inline const std::string token = "token-of-the-api-test-0123456789";

// One connection, raw bytes in, answers out.
class RawClient {
  public:
    explicit RawClient(std::uint16_t port);
    void send(std::string_view bytes);
    Reply read();                                          // one answer
    Reply read_head_only();                                // of HEAD
    std::string read_until(const std::string& text);       // of a stream; throws at its end
    std::string read_to_end();
    void close_sending();

  private:
    boost::asio::io_context io_;
    boost::asio::ip::tcp::socket socket_{io_};
    boost::beast::flat_buffer buffer_;
    std::string stream_;
};

class ApiFixture {
  public:
    static ApiFixture& instance();
    ApiFixture();
    ~ApiFixture();

    Reply ask(const std::string& method, const std::string& target, const std::string& body = {}, Headers headers = {}) const;
    Reply get(const std::string& target) const { return ask("GET", target); }
    Reply post_json(const std::string& target, const std::string& body = {}, Headers headers = {}) const;
    Reply apply(const std::string& yaml, const std::string& query = {}) const;
    [[nodiscard]] std::string catalog_yaml() const;  // clusters shared and big, tenants acme, globex, initech
    // Asks for a move until it is in one of the states; fails after a minute.
    boost::json::value wait_for_move(const std::string& id, const std::vector<std::string>& states) const;

    PostgresServer postgres;
    std::string folder;
    Config config;
    metrics::Registry registry;
    SnapshotPublisher publisher;
    IdleGate gate;
    std::atomic<bool> draining = false;
    std::unique_ptr<CatalogStore> store;
    std::unique_ptr<CatalogFollower> follower;
    std::unique_ptr<Mover> mover;
    std::unique_ptr<HttpServer> server;
};

// The request as text; adds Host, and the token unless the headers have an Authorization.
[[nodiscard]] std::string request_text(const std::string& method, const std::string& target, const std::string& body, const Headers& headers);

}  // namespace pgporter::test
