#include "tests/integration/api/api_fixture.hpp"

#include <libpq-fe.h>

#include <boost/asio/write.hpp>
#include <stdexcept>
#include <thread>

namespace pgporter::test {
namespace {

namespace http = boost::beast::http;

constexpr auto bin = "/usr/lib/postgresql/15/bin/";

void execute(const std::string& dsn, const std::string& sql) {
    const std::unique_ptr<PGconn, decltype(&PQfinish)> connection(PQconnectdb(dsn.c_str()), &PQfinish);
    const std::unique_ptr<PGresult, decltype(&PQclear)> result(PQexec(connection.get(), sql.c_str()), &PQclear);
    const auto status = PQresultStatus(result.get());
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) throw std::runtime_error(PQerrorMessage(connection.get()));
}

template <class T>
void must(const Result<T>& result) {
    if (!result) throw std::runtime_error(result.error().message + ": " + result.error().detail);
}

}  // namespace

RawClient::RawClient(std::uint16_t port) {
    socket_.connect({boost::asio::ip::make_address("127.0.0.1"), port});
}

void RawClient::send(std::string_view bytes) { boost::asio::write(socket_, boost::asio::buffer(bytes)); }
void RawClient::close_sending() { socket_.shutdown(boost::asio::ip::tcp::socket::shutdown_send); }

Reply RawClient::read() {
    Reply reply;
    http::read(socket_, buffer_, reply);
    return reply;
}

Reply RawClient::read_head_only() {
    http::response_parser<http::string_body> parser;
    parser.skip(true);
    http::read(socket_, buffer_, parser);
    return parser.release();
}

std::string RawClient::read_until(const std::string& text) {
    while (true) {
        if (const auto found = stream_.find(text); found != std::string::npos) {
            auto out = stream_.substr(0, found + text.size());
            stream_.erase(0, found + text.size());
            return out;
        }
        char bytes[4096];
        stream_.append(bytes, socket_.read_some(boost::asio::buffer(bytes)));
    }
}

std::string RawClient::read_to_end() {
    boost::system::error_code ec;
    char bytes[4096];
    while (!ec) {
        const auto n = socket_.read_some(boost::asio::buffer(bytes), ec);
        stream_.append(bytes, n);
    }
    return std::exchange(stream_, {});
}

std::string request_text(const std::string& method, const std::string& target, const std::string& body, const Headers& headers) {
    std::string out = method + " " + target + " HTTP/1.1\r\n";
    bool has_authorization = false;
    bool has_host = false;
    for (const auto& [name, value] : headers) {
        has_authorization = has_authorization || name == "Authorization";
        has_host = has_host || name == "Host";
        out += name + ": " + value + "\r\n";
    }
    if (!has_host) out += "Host: 127.0.0.1\r\n";
    if (!has_authorization) out += "Authorization: Bearer " + token + "\r\n";
    if (!body.empty() || method == "POST") out += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    return out + "\r\n" + body;
}

ApiFixture& ApiFixture::instance() {
    static ApiFixture fixture;
    return fixture;
}

ApiFixture::ApiFixture() {
    PostgresOptions options;
    options.wal_level = "logical";
    postgres.start(options);
    execute(postgres.dsn(), "CREATE DATABASE catalog");
    execute(postgres.dsn(), "CREATE DATABASE app");
    for (const auto* schema : {"acme", "globex", "initech", "zeta"}) {
        const std::string name = schema;
        execute(postgres.dsn("app"), "CREATE SCHEMA " + name + "; CREATE TABLE " + name + ".t (id int PRIMARY KEY, v text); INSERT INTO " + name +
                                         ".t SELECT i, 'v' || i FROM generate_series(1, 500) i");
    }
    execute(postgres.dsn("app"), "CREATE TABLE initech.keyless (v int)");
    config.admin.port = 0;
    config.admin.token = Secret(token);
    config.catalog.dsn = postgres.dsn("catalog");
    config.mover.user = "postgres";
    config.mover.pg_dump = std::string(bin) + "pg_dump";
    config.mover.pg_restore = std::string(bin) + "pg_restore";
    config.server_logins.push_back({"*", "*", Secret(options.superuser_password)});
    store = std::make_unique<CatalogStore>(config.catalog);
    must(store->open());
    follower = std::make_unique<CatalogFollower>(config.catalog, *store, publisher, registry);
    must(follower->start());
    mover = std::make_unique<Mover>(Mover::Ports{config, *store, gate, publisher, registry});
    server = std::make_unique<HttpServer>(
        ApiPorts{config, *store, *follower, publisher, *mover, registry, [this] { return draining.load(); }});
    must(server->start());
}

ApiFixture::~ApiFixture() {
    server->stop();
    mover->stop();
    follower->stop();
}

Reply ApiFixture::ask(const std::string& method, const std::string& target, const std::string& body, Headers headers) const {
    RawClient client(server->port());
    client.send(request_text(method, target, body, headers));
    return client.read();
}

Reply ApiFixture::post_json(const std::string& target, const std::string& body, Headers headers) const {
    if (!body.empty()) headers.emplace_back("Content-Type", "application/json");
    return ask("POST", target, body, std::move(headers));
}

Reply ApiFixture::apply(const std::string& yaml, const std::string& query) const {
    return ask("POST", "/v1/apply" + query, yaml, {{"Content-Type", "application/yaml"}});
}

std::string ApiFixture::catalog_yaml() const {
    const auto port = std::to_string(postgres.port());
    std::string out = "clusters: [{name: shared, host: 127.0.0.1, port: " + port + "}, {name: big, host: 127.0.0.1, port: " + port + "}]\ntenants:\n";
    for (const auto* name : {"acme", "globex", "initech"}) {
        out += std::string("  - {name: ") + name + ", placement: {kind: schema, cluster: shared, database: app, schema: " + name + "}}\n";
    }
    return out;
}

boost::json::value ApiFixture::wait_for_move(const std::string& id, const std::vector<std::string>& states) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    boost::json::value move;
    while (std::chrono::steady_clock::now() < deadline) {
        move = boost::json::parse(get("/v1/moves/" + id).body());
        for (const auto& state : states) {
            if (move.at("state").as_string() == state) return move;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    throw std::runtime_error("the move didn't get there: " + boost::json::serialize(move));
}

}  // namespace pgporter::test
