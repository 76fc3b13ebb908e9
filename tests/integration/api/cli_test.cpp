// The command line without a pgporter: arguments, exit codes, texts; a made-up server says what the real one may say.
#include <doctest/doctest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <boost/json.hpp>
#include <fstream>
#include <functional>
#include <mutex>
#include <thread>

#include "admin/cli/commands.hpp"
#include "admin/cli/completion.hpp"
#include "admin/cli/move_watch.hpp"
#include "admin/cli/scram_verifier.hpp"
#include "admin/cli/sse_parser.hpp"
#include "admin/cli/text_output.hpp"
#include "tests/integration/api/cli_run.hpp"

using namespace pgporter;
using namespace pgporter::test;
using boost::asio::ip::tcp;

namespace {

// Answers each connection with what `answer` makes of the request's head; then closes it.
class MadeUpServer {
  public:
    using Answer = std::function<std::string(const std::string& request)>;
    explicit MadeUpServer(Answer answer) : answer_(std::move(answer)), thread_([this] { serve(); }) {}
    ~MadeUpServer() {
        stopping_ = true;
        boost::system::error_code ignored;
        tcp::socket wake(io_);
        wake.connect(acceptor_.local_endpoint(), ignored);
        thread_.join();
    }
    [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()); }
    [[nodiscard]] std::string requests() {
        const std::lock_guard lock(mutex_);
        return requests_;
    }

  private:
    void serve() {
        while (true) {
            boost::system::error_code ec;
            tcp::socket socket(io_);
            acceptor_.accept(socket, ec);
            if (ec || stopping_) return;
            std::string head;
            boost::asio::read_until(socket, boost::asio::dynamic_buffer(head), "\r\n\r\n", ec);
            {
                const std::lock_guard lock(mutex_);
                requests_ += head;
            }
            boost::asio::write(socket, boost::asio::buffer(answer_(head)), ec);
            socket.shutdown(tcp::socket::shutdown_send, ec);
            char rest[1024];
            while (!ec) socket.read_some(boost::asio::buffer(rest), ec);
        }
    }

    Answer answer_;
    boost::asio::io_context io_;
    tcp::acceptor acceptor_{io_, tcp::endpoint(boost::asio::ip::make_address("127.0.0.1"), 0)};
    std::atomic<bool> stopping_ = false;
    std::mutex mutex_;
    std::string requests_;
    std::thread thread_;
};

std::string reply(int status, const std::string& body, const std::string& type = "application/json") {
    return "HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Type: " + type + "\r\nContent-Length: " + std::to_string(body.size()) +
           "\r\nConnection: close\r\n\r\n" + body;
}

std::string move_json(const std::string& state, const std::string& error = "null", bool request_failed = false) {
    const bool finished = state == "completed" || state == "rolled_back" || state == "aborted";
    return R"({"id":17,"tenant":"acme","state":")" + state + R"(","finished":)" + (finished ? "true" : "false") +
           R"(,"source":{"cluster":"shared","database":"app","schema":"acme"},"target":{"cluster":"big","database":"acme","schema":"acme"},)"
           R"("progress":{"rows_copied":5,"rows_total_estimate":10,"bytes_copied":2048,"pause_ms":12.5,)"
           R"("bytes_per_second":2048.5,"seconds_left":200.25,"throttled":0.34,"throttled_by":"neighbours"},"request_failed":)" +
           (request_failed ? "true" : "false") + R"(,"error":)" + error + R"(,"next_steps":[{"why":"w","command":"pgporter complete 17","request":"r"}]})";
}

std::string event(int id, const std::string& data) { return "id: " + std::to_string(id) + "\nevent: state\ndata: " + data + "\n\n"; }
std::string stream(const std::string& events) { return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + events; }

}  // namespace

TEST_CASE("wrong arguments are usage errors and say so") {
    for (const auto& arguments : std::vector<std::vector<std::string>>{{},
                                                                       {"fly"},
                                                                       {"tenant"},
                                                                       {"promote", "acme"},
                                                                       {"promote", "--to", "big"},
                                                                       {"apply"},
                                                                       {"tenants", "--what"},
                                                                       {"tenants", "--token", "secret"},
                                                                       {"completion", "tcsh"},
                                                                       {"verifier", "--iterations", "1"},
                                                                       {"tenants", "--url", "https://127.0.0.1"},
                                                                       {"tenants", "--token-file", "no/such/file"},
                                                                       {"apply", "-f", "no/such/file"}}) {
        const auto result = run(arguments);
        CAPTURE(result.err);
        CHECK(result.exit == exit_usage);
        CHECK_FALSE(result.err.empty());
    }
}

TEST_CASE("help and version succeed; the help names every command") {
    auto result = run({"--help"});
    CHECK(result.exit == exit_ok);
    for (const auto* command : {"serve", "doctor", "apply", "tenants", "promote", "demote", "relocate", "moves", "cutover", "cancel", "rollback", "complete", "status", "verifier", "completion"}) {
        CHECK(has(result.out, command));
    }
    CHECK(run({"promote", "--help"}).exit == exit_ok);
    result = run({"--version"});
    CHECK(result.exit == exit_ok);
    CHECK(has(result.out, PGPORTER_VERSION));
}

TEST_CASE("a server that isn't there is exit code 3 with a hint") {
    boost::asio::io_context io;
    tcp::acceptor placeholder(io, tcp::endpoint(boost::asio::ip::make_address("127.0.0.1"), 0));
    const auto port = placeholder.local_endpoint().port();
    placeholder.close();
    const auto result = run({"tenants", "--url", "http://127.0.0.1:" + std::to_string(port)});
    CHECK(result.exit == exit_unreachable);
    CHECK(has(result.err, "hint:"));
}

TEST_CASE("a problem is printed and a conflict has its own exit code") {
    MadeUpServer server([](const std::string& request) {
        const bool conflict = request.starts_with("POST /v1/moves/17:complete ");
        return reply(conflict ? 409 : 404, R"({"title":"T","detail":"D","hint":"H\u001b[2J","next_steps":["N"]})", "application/problem+json");
    });
    auto result = run({"complete", "17", "--url", server.url()});
    CHECK(result.exit == exit_conflict);
    CHECK(has(result.err, "T (409)\ndetail: D\nhint: H?[2J\nnext: N\n"));
    CHECK(result.out.empty());
    result = run({"--json", "tenant", "x/../y", "--url", server.url()});
    CHECK(result.exit == exit_failed);
    CHECK(has(result.out, "\"title\""));
    CHECK(has(server.requests(), "GET /v1/tenants/x%2F..%2Fy HTTP/1.1"));
}

TEST_CASE("the token comes from a file or the environment and is sent as a bearer token") {
    MadeUpServer server([](const std::string&) { return reply(200, R"({"clusters":[]})"); });
    ::setenv("PGPORTER_TOKEN", "token-of-the-environment", 1);
    CHECK(run({"clusters", "--url", server.url()}).exit == exit_ok);
    CHECK(has(server.requests(), "Authorization: Bearer token-of-the-environment\r\n"));
    char path[] = "/tmp/pgporter-cli-test-XXXXXX";
    const int fd = ::mkstemp(path);
    REQUIRE(fd >= 0);
    ::close(fd);
    std::ofstream(path) << "token-of-the-file\nsecond line\n";
    ::setenv("PGPORTER_TOKEN_FILE", path, 1);
    CHECK(run({"clusters", "--url", server.url()}).exit == exit_ok);
    CHECK(has(server.requests(), "Authorization: Bearer token-of-the-file\r\n"));
    ::unsetenv("PGPORTER_TOKEN");
    ::unsetenv("PGPORTER_TOKEN_FILE");
    ::unlink(path);
}

TEST_CASE("tenants are listed over all pages") {
    MadeUpServer server([](const std::string& request) {
        const bool first = has(request, "after= ");
        return reply(200, first ? R"({"tenants":[{"name":"a","state":"active","epoch":1,"placement":{"kind":"schema","cluster":"c","database":"d","schema":"a"}}],"next_after":"a"})"
                                : R"({"tenants":[{"name":"b","state":"suspended","epoch":2,"placement":{"kind":"database","cluster":"c","database":"b","schema":null}}],"next_after":null})");
    });
    auto result = run({"tenants", "--url", server.url()});
    CHECK(result.exit == exit_ok);
    CHECK(has(result.out, "a     active     schema    c/d schema a  1\n"));
    CHECK(has(result.out, "b     suspended  database  c/b           2\n"));
    result = run({"tenants", "--json", "--url", server.url()});
    CHECK(boost::json::parse(result.out).at("tenants").as_array().size() == 2);
}

TEST_CASE("promote --wait ends with a move that stays opened, as there is no way back") {
    auto move = move_json("opened");
    move.insert(move.size() - 1, R"(,"rollback":{"possible":false,"refused":"no role for it"})");
    MadeUpServer server([&](const std::string& request) {
        return request.starts_with("POST") ? reply(202, move_json("planned")) : stream(event(4, move) + event(5, move_json("completed")));
    });
    const auto result = run({"promote", "acme", "--to", "big/acme", "--wait", "--url", server.url()});
    CHECK(result.exit == exit_ok);
    CHECK(has(result.out, "move 17 of tenant acme: opened\n"));
}

TEST_CASE("promote --wait follows the events until clients work in the target and could go back, over a broken connection") {
    std::atomic<int> streams = 0;
    MadeUpServer server([&](const std::string& request) {
        if (request.starts_with("POST")) return reply(202, move_json("planned"));
        ++streams;
        if (streams == 1) return stream(": hello\n\n" + event(4, move_json("copy")));
        return stream(event(5, move_json("verify")) + event(6, move_json("opened")) + event(7, move_json("reversing")) + event(8, move_json("completed")));
    });
    const auto result = run({"promote", "acme", "--to", "big/acme", "--wait", "--url", server.url()});
    CHECK(result.exit == exit_ok);
    CHECK(has(result.out, "move 17  copy  [##########..........] 50%  5 rows  2.0 kB  2.0 kB/s  throttled by neighbours: 34 %  about 3 min left\n"));
    CHECK(has(result.out, "move 17 of tenant acme: reversing\n"));
    CHECK(has(result.out, "pause     12.5 ms\n"));
    CHECK(has(result.out, "throttled by neighbours: 34 %\n"));
    CHECK(has(result.out, "left      about 3 min\n"));
    CHECK(has(result.out, "pgporter complete 17"));
    CHECK(has(server.requests(), "Last-Event-ID: 4\r\n"));
    CHECK(streams == 2);
}

TEST_CASE("an aborted move fails and says why; --json gives the last state alone") {
    MadeUpServer server([](const std::string& request) {
        if (request.starts_with("POST")) return reply(202, move_json("planned"));
        return stream(event(1, move_json("copy")) + event(2, move_json("aborted", R"("no space")")));
    });
    auto result = run({"promote", "acme", "--to", "big", "--wait", "--url", server.url()});
    CHECK(result.exit == exit_failed);
    CHECK(has(result.out, "error     no space\n"));
    result = run({"promote", "acme", "--to", "big", "--wait", "--json", "--url", server.url()});
    CHECK(result.exit == exit_failed);
    CHECK(boost::json::parse(result.out).at("state").as_string() == "aborted");
    result = run({"move", "17", "--watch", "--json", "--url", server.url()});
    CHECK(std::count(result.out.begin(), result.out.end(), '\n') == 2);
}

TEST_CASE("what is asked of a move waits until it is done, and fails if it ended otherwise") {
    struct Case {
        const char* verb;
        const char* before;
        const char* end;
        int exit;
    };
    for (const auto& one : {Case{"cutover", "verify", "reversing", exit_ok}, Case{"cutover", "verify", "aborted", exit_failed},
                            Case{"cancel", "aborting", "aborted", exit_ok}, Case{"cancel", "opened", "completed", exit_failed},
                            Case{"rollback", "reversing", "rolled_back", exit_ok}, Case{"rollback", "rolling_back", "completed", exit_failed},
                            Case{"complete", "opened", "completed", exit_ok}}) {
        MadeUpServer server([&](const std::string& request) {
            if (request.starts_with("POST")) return reply(200, move_json(one.before));
            return stream(event(1, move_json(one.before)) + event(2, move_json(one.end)));
        });
        CAPTURE(one.verb);
        const auto result = run({one.verb, "17", "--wait", "--url", server.url()});
        CHECK(result.exit == one.exit);
        CHECK(has(server.requests(), "POST /v1/moves/17:" + std::string(one.verb) + " "));
        CHECK(has(result.out, "move 17 of tenant acme: " + std::string(one.end) + "\n"));
    }
}

TEST_CASE("a rollback or a completion that comes to nothing isn't waited for any longer") {
    for (const std::string verb : {"rollback", "complete"}) {
        MadeUpServer server([&](const std::string& request) {
            if (request.starts_with("POST")) return reply(200, move_json("reversing"));
            return stream(event(1, move_json("reversing")) + event(2, move_json("reversing", "null", true)) + event(3, move_json("completed")));
        });
        const auto result = run({verb, "17", "--wait", "--url", server.url()});
        CHECK(result.exit == exit_failed);
        CHECK(has(result.out, "move 17 of tenant acme: reversing\n"));
    }
}

TEST_CASE("a dry run with blockers fails and shows the remedies") {
    MadeUpServer server([](const std::string&) {
        return reply(200, R"({"tenant":"acme","ok":false,"blockers":[{"code":"c","object":"o","message":"m","remedy":"r"}],"warnings":[],"tables":3,"rows_estimate":1234567,"bytes":1500000,"seconds_estimate":4.4})");
    });
    const auto result = run({"promote", "acme", "--to", "big", "--dry-run", "--url", server.url()});
    CHECK(result.exit == exit_failed);
    CHECK(has(result.out, "BLOCKED c o: m\n    remedy: r\n"));
    CHECK(has(result.out, "3 tables, about 1,234,567 rows, 1.5 MB, about 4 s\n"));
}

TEST_CASE("what isn't pgporter is no success") {
    MadeUpServer server([](const std::string&) { return reply(200, "<html>hello</html>", "text/html"); });
    CHECK(run({"clusters", "--url", server.url()}).exit == exit_failed);
    CHECK(run({"status", "--url", server.url()}).exit == exit_failed);
}

TEST_CASE("the verifier is PostgreSQL's for the example of RFC 7677") {
    const std::string salt("\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81", 16);
    CHECK(make_scram_verifier(Secret("pencil"), salt, 4096).value() ==
          "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
          "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=");
    CHECK_FALSE(make_scram_verifier(Secret(""), salt, 4096).has_value());
    CHECK_FALSE(make_scram_verifier(Secret("p\xc3\xa4"), salt, 4096).has_value());
    CHECK(random_salt().value() != random_salt().value());
}

TEST_CASE("verifier reads the password from standard input and never shows it") {
    const auto result = run({"verifier", "--iterations", "5000"}, "s3cret-password\ns3cret-password\n");
    CHECK(result.exit == exit_ok);
    CHECK(result.out.starts_with("SCRAM-SHA-256$5000:"));
    CHECK_FALSE(has(result.out + result.err, "s3cret"));
    CHECK(run({"verifier"}, "").exit == exit_failed);
}

TEST_CASE("server-sent events are the same in any pieces") {
    const std::string text = ": comment\nretry: 5\n\nid: 1\nevent: state\ndata: {\"a\":1}\n\nid:2\r\ndata:x\r\ndata: y\r\n\r\nevent: lost\n\nid: 3\rdata\r\r";
    const auto parse = [&](std::size_t cut) {
        std::string out;
        SseParser parser([&](const SseEvent& e) { out += e.id + "|" + e.type + "|" + e.data + ";"; });
        CHECK(parser.feed(std::string_view(text).substr(0, cut)));
        CHECK(parser.feed(std::string_view(text).substr(cut)));
        return out;
    };
    for (std::size_t cut = 0; cut <= text.size(); ++cut) CHECK(parse(cut) == "1|state|{\"a\":1};2|message|x\ny;3|message|;");
    SseParser endless([](const SseEvent&) {});
    CHECK_FALSE(endless.feed(std::string(SseParser::event_bytes_max + 1, 'x')));
}

TEST_CASE("server URLs") {
    auto url = parse_server_url("http://[::1]:6480/");
    REQUIRE(url.has_value());
    CHECK(url->host == "::1");
    CHECK(url->port == 6480);
    CHECK(url->host_header == "[::1]:6480");
    CHECK(parse_server_url("http://localhost")->port == 80);
    for (const auto* bad : {"", "localhost", "http://", "http://x:0", "http://x:99999", "http://x:1/path", "http://u@x", "https://x"}) {
        CAPTURE(bad);
        CHECK_FALSE(parse_server_url(bad).has_value());
    }
}

TEST_CASE("amounts and tables for people") {
    CHECK(bytes_text(0) == "0 B");
    CHECK(bytes_text(999) == "999 B");
    CHECK(bytes_text(1500) == "1.5 kB");
    CHECK(bytes_text(999'999) == "1.0 MB");
    CHECK(bytes_text(3'000'000'000) == "3.0 GB");
    CHECK(number_text(0) == "0");
    CHECK(number_text(100) == "100");
    CHECK(number_text(1000) == "1,000");
    CHECK(number_text(1234567) == "1,234,567");
    CHECK(table_text({{"A", "BB"}, {"aaa", ""}}) == "A    BB\naaa\n");
}

TEST_CASE("completion scripts are valid shell and know the commands") {
    for (const auto* shell : {"bash", "zsh", "fish"}) {
        const auto result = run({"completion", shell});
        CHECK(result.exit == exit_ok);
        CHECK(has(result.out, "promote"));
        CHECK(has(result.out, "dry-run"));
    }
    const auto script = run({"completion", "bash"}).out;
    const auto check = script + "COMP_WORDS=(pgporter promote acme --d); COMP_CWORD=3; _pgporter; [[ ${COMPREPLY[0]} == --dry-run ]]\n"
                                "COMP_WORDS=(pgporter cut); COMP_CWORD=1; _pgporter; [[ ${COMPREPLY[0]} == cutover ]]\n";
    char path[] = "/tmp/pgporter-completion-XXXXXX";
    const int fd = ::mkstemp(path);
    REQUIRE(fd >= 0);
    ::close(fd);
    std::ofstream(path) << "set -e\n" << check;
    CHECK(std::system((std::string("bash ") + path).c_str()) == 0);
    ::unlink(path);
}
