// The resources against a real catalog and a real mover, over HTTP and through the command line.
#include <doctest/doctest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>

#include "tests/integration/api/api_fixture.hpp"
#include "tests/integration/api/cli_run.hpp"

using namespace pgporter;
using namespace pgporter::test;
namespace json = boost::json;

namespace {

ApiFixture& api() { return ApiFixture::instance(); }
json::value body_of(const Reply& reply) { return json::parse(reply.body()); }

void start_over() { REQUIRE(api().apply(api().catalog_yaml()).result_int() == 200); }

std::string id_of(const Reply& reply) { return std::to_string(body_of(reply).at("id").as_int64()); }

CliRun cli(std::vector<std::string> arguments) {
    ::setenv("PGPORTER_TOKEN", token.c_str(), 1);
    arguments.insert(arguments.end(), {"--url", "http://127.0.0.1:" + std::to_string(api().server->port())});
    return run(std::move(arguments));
}

}  // namespace

TEST_CASE("apply reports, is routed at once, and does nothing the second time") {
    auto reply = api().apply(api().catalog_yaml(), "?dry_run=true");
    CHECK(reply.result_int() == 200);
    CHECK(body_of(reply).at("dry_run").as_bool());
    start_over();
    reply = api().apply(api().catalog_yaml());
    CHECK(body_of(reply).at("created").as_int64() == 0);
    CHECK(body_of(reply).at("changed").as_int64() == 0);
    CHECK(body_of(reply).at("routed").as_bool());
    reply = api().apply("tenants: [{name: umbrella, placement: {kind: schema, cluster: shared, database: app, schema: umbrella}}]");
    CHECK(body_of(reply).at("created").as_int64() == 1);
    CHECK(api().get("/v1/tenants/umbrella").result_int() == 200);
    CHECK(api().ask("DELETE", "/v1/tenants/umbrella").result_int() == 200);
    CHECK(api().get("/v1/tenants/umbrella").result_int() == 404);
    CHECK(api().ask("DELETE", "/v1/tenants/umbrella").result_int() == 404);
}

TEST_CASE("a bad document is refused with its name and line") {
    const auto reply = api().apply("clusters:\n  - {name: x}\n", "?name=my.yaml");
    CHECK(reply.result_int() == 400);
    CHECK(has(reply.body(), "my.yaml:2"));
    CHECK(api().apply("a: [").result_int() == 400);
    CHECK(api().apply("").result_int() != 500);
    CHECK(api().ask("POST", "/v1/apply", "x", {{"Content-Type", "text/plain"}}).result_int() == 415);
    CHECK(api().apply(api().catalog_yaml(), "?dry_run=perhaps").result_int() == 400);
}

TEST_CASE("tenants are paged in order; one has an ETag") {
    start_over();
    auto page = body_of(api().get("/v1/tenants?limit=2"));
    CHECK(page.at("total").as_int64() == 3);
    REQUIRE(page.at("tenants").as_array().size() == 2);
    CHECK(page.at("tenants").at(0).at("name").as_string() == "acme");
    CHECK(page.at("next_after").as_string() == "globex");
    page = body_of(api().get("/v1/tenants?limit=2&after=globex"));
    REQUIRE(page.at("tenants").as_array().size() == 1);
    CHECK(page.at("next_after").is_null());
    for (const auto* limit : {"0", "1001", "x", "-1", ""}) CHECK(api().get(std::string("/v1/tenants?limit=") + limit).result_int() == 400);
    const auto one = api().get("/v1/tenants/acme");
    const std::string etag(one["ETag"]);
    CHECK_FALSE(etag.empty());
    const auto same = api().ask("GET", "/v1/tenants/acme", {}, {{"If-None-Match", etag}});
    CHECK(same.result_int() == 304);
    CHECK(same.body().empty());
    CHECK(api().post_json("/v1/tenants/acme:suspend").result_int() == 200);
    CHECK(api().ask("GET", "/v1/tenants/acme", {}, {{"If-None-Match", etag}}).result_int() == 200);
    CHECK(api().post_json("/v1/tenants/acme:resume").result_int() == 200);
    CHECK(api().post_json("/v1/tenants/nobody:resume").result_int() == 404);
}

TEST_CASE("an Idempotency-Key is answered once and refused for another request") {
    start_over();
    const Headers key{{"Idempotency-Key", "key-1"}};
    const auto first = api().post_json("/v1/tenants/acme:suspend", {}, key);
    CHECK(first.result_int() == 200);
    CHECK(api().post_json("/v1/tenants/acme:resume").result_int() == 200);
    const auto again = api().post_json("/v1/tenants/acme:suspend", {}, key);
    CHECK(again.body() == first.body());
    CHECK(again["Idempotency-Replayed"] == "true");
    CHECK(body_of(api().get("/v1/tenants/acme")).at("state").as_string() == "active");
    CHECK(api().post_json("/v1/tenants/globex:suspend", {}, key).result_int() == 422);
    CHECK(api().post_json("/v1/tenants/acme:suspend", {}, {{"Idempotency-Key", std::string(256, 'k')}}).result_int() == 400);
}

TEST_CASE("a promote is checked before anything begins") {
    start_over();
    const std::string target = "/v1/tenants/acme:promote";
    CHECK(api().post_json(target, "{").result_int() == 400);
    CHECK(api().post_json(target, "{}").result_int() == 400);
    CHECK(api().ask("POST", target, "x=1", {{"Content-Type", "application/x-www-form-urlencoded"}}).result_int() == 415);
    CHECK(api().post_json(target, R"({"cluster": "nowhere"})").result_int() == 404);
    CHECK(api().post_json("/v1/tenants/nobody:promote", R"({"cluster": "big"})").result_int() == 404);
    CHECK(api().post_json(target, R"({"cluster": "shared", "database": "app"})").result_int() == 400);
    auto report = body_of(api().post_json(target + "?dry_run=true", R"({"to": {"cluster": "big", "database": "acme"}})"));
    CHECK(report.at("ok").as_bool());
    CHECK(report.at("tables").as_int64() == 1);
    report = body_of(api().post_json("/v1/tenants/initech:promote", R"({"cluster": "big", "dry_run": true})"));
    CHECK_FALSE(report.at("ok").as_bool());
    CHECK(has(json::serialize(report.at("blockers")), "table_without_key"));
    for (const auto* id : {"999999", "x", "-1", "99999999999999999999"}) {
        CHECK(api().get(std::string("/v1/moves/") + id).result_int() == 404);
        CHECK(api().get(std::string("/v1/moves/") + id + "/events").result_int() == 404);
        CHECK(api().post_json(std::string("/v1/moves/") + id + ":cancel").result_int() == 404);
    }
}

TEST_CASE("a move that waits is watched, refuses a second one, and is cancelled") {
    start_over();
    const auto begun = api().post_json("/v1/tenants/globex:promote", R"({"cluster": "big", "cutover": false})");
    REQUIRE(begun.result_int() == 202);
    const auto id = id_of(begun);
    CHECK(begun["Location"] == "/v1/moves/" + id);
    RawClient watcher(api().server->port());
    watcher.send(request_text("GET", "/v1/moves/" + id + "/events", {}, {}));
    const auto head = watcher.read_until("\r\n\r\n");
    CHECK(head.starts_with("HTTP/1.1 200 OK\r\n"));
    CHECK(has(head, "Content-Type: text/event-stream\r\n"));
    watcher.read_until("\"state\":\"verify\"");
    RawClient second_watcher(api().server->port());  // comes late: sees the present state, then what follows
    second_watcher.send(request_text("GET", "/v1/moves/" + id + "/events", {}, {}));
    CHECK(has(second_watcher.read_until("\"state\":"), "event: "));
    const auto second = api().post_json("/v1/tenants/globex:promote", R"({"cluster": "big"})");
    CHECK(second.result_int() == 409);
    CHECK(has(second.body(), "pgporter moves"));
    CHECK(cli({"promote", "globex", "--to", "big"}).exit == exit_conflict);
    CHECK(api().ask("DELETE", "/v1/tenants/globex").result_int() == 409);
    CHECK(body_of(api().get("/v1/moves?unfinished=true")).at("moves").as_array().size() == 1);
    CHECK(api().post_json("/v1/moves/" + id + ":complete").result_int() == 409);
    CHECK(api().post_json("/v1/moves/" + id + ":cancel").result_int() == 202);
    const auto rest = watcher.read_to_end();  // the server ends the stream after the last event
    CHECK(has(rest, "event: state\ndata: "));
    CHECK(has(rest, "\"state\":\"aborted\""));
    CHECK(has(second_watcher.read_to_end(), "\"state\":\"aborted\""));
    CHECK(body_of(api().get("/v1/moves?unfinished=true")).at("moves").as_array().empty());
    RawClient late(api().server->port());
    late.send(request_text("GET", "/v1/moves/" + id + "/events", {}, {{"Last-Event-ID", "3"}}));
    const auto all = late.read_to_end();
    CHECK(has(all, "\"state\":\"aborted\""));
    CHECK(all.find("data: ") == all.rfind("data: "));
}

TEST_CASE("the command line promotes, shows and completes") {
    start_over();
    REQUIRE(api().apply("tenants: [{name: zeta, placement: {kind: schema, cluster: shared, database: app, schema: zeta}}]").result_int() == 200);
    auto result = cli({"promote", "zeta", "--to", "big/zeta_own", "--wait"});
    CAPTURE(result.err);
    CAPTURE(result.out);
    REQUIRE(result.exit == exit_ok);
    CHECK(has(result.out, ": reversing\n"));
    CHECK(has(result.out, "pgporter rollback "));
    CHECK(has(result.out, "to        big/zeta_own schema zeta\n"));
    const auto moves = json::parse(cli({"moves", "--json"}).out);
    const auto id = std::to_string(moves.at("moves").at(0).at("id").as_int64());
    CHECK(has(result.out, "pgporter complete " + id));
    CHECK(has(cli({"tenant", "zeta"}).out, "big/zeta_own schema zeta"));
    CHECK(cli({"cancel", id}).exit == exit_conflict);
    result = cli({"complete", id, "--wait"});
    CHECK(result.exit == exit_ok);
    CHECK(has(result.out, "move " + id + " of tenant zeta: completed\n"));
    CHECK(has(cli({"move", id, "--watch"}).out, "completed"));
    result = cli({"promote", "zeta", "--to", "big/another", "--dry-run"});
    CHECK(result.exit == exit_failed);
    CHECK(cli({"forget", "zeta"}).exit == exit_ok);
}

TEST_CASE("a move with blockers aborts itself and the command line says so") {
    start_over();
    const auto result = cli({"promote", "initech", "--to", "big", "--wait"});
    CHECK(result.exit == exit_failed);
    CHECK(has(result.out, "table_without_key"));
    CHECK(has(result.out, "pgporter promote initech --to big/initech --dry-run"));
}

TEST_CASE("the command line applies, lists, suspends and tells the status") {
    char path[] = "/tmp/pgporter-apply-test-XXXXXX";
    const int fd = ::mkstemp(path);
    REQUIRE(fd >= 0);
    ::close(fd);
    std::ofstream(path) << "tenants: [{name: hooli, placement: {kind: schema, cluster: shared, database: app, schema: hooli}}]\n";
    CHECK(has(cli({"apply", "-f", path, "--dry-run"}).out, "nothing was changed"));
    auto result = cli({"apply", "-f", path});
    CHECK(result.exit == exit_ok);
    CHECK(has(result.out, "create tenant hooli\n1 created, 0 changed"));
    ::unlink(path);
    CHECK(has(cli({"tenants"}).out, "hooli"));
    CHECK(has(cli({"clusters"}).out, "shared"));
    CHECK(cli({"suspend", "hooli"}).out == "tenant hooli is suspended\n");
    CHECK(cli({"resume", "hooli"}).out == "tenant hooli is active\n");
    CHECK(cli({"forget", "hooli"}).exit == exit_ok);
    CHECK(cli({"tenant", "hooli"}).exit == exit_failed);
    result = cli({"status"});
    CHECK(result.exit == exit_ok);
    CHECK(has(result.out, "pgporter is ready\ncatalog: connected"));
    ::setenv("PGPORTER_TOKEN", "wrong-token-wrong-token", 1);
    CHECK(run({"tenants", "--url", "http://127.0.0.1:" + std::to_string(api().server->port())}).exit == exit_failed);
}
