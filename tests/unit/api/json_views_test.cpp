#include "admin/api/json_views.hpp"

#include <doctest/doctest.h>

#include "admin/api/next_steps.hpp"

using namespace pgporter;

namespace {

ApiRequest with_body(std::string body) {
    ApiRequest request;
    request.body = std::move(body);
    return request;
}

Result<PromoteBody> promote(std::string body) {
    const auto parsed = parse_body(with_body(std::move(body)));
    if (!parsed) return parsed.error();
    return parse_promote(MoveKind::promote, "acme", *parsed);
}

Result<PromoteBody> demote(std::string body) {
    const auto parsed = parse_body(with_body(std::move(body)));
    if (!parsed) return parsed.error();
    return parse_promote(MoveKind::demote, "acme", *parsed);
}

MoveRecord a_move(MoveState state) {
    MoveRecord move;
    move.id = MoveId(17);
    move.request = {"acme", "big", "acme_db", 0, true};
    move.source = {PlacementKind::schema, "shared", "app", "acme"};
    move.target = {PlacementKind::database, "big", "acme_db", "acme"};
    move.epoch = Epoch(4);
    move.state = state;
    move.created_at = move.updated_at = "2026-01-02T03:04:05Z";
    return move;
}

std::string commands_of(const MoveRecord& move) {
    std::string out;
    for (const auto& step : next_steps_of(move)) out += step.command + "\n";
    return out;
}

}  // namespace

TEST_CASE("a tenant's view has its placement and no surprise") {
    Tenant tenant;
    tenant.name = "acme";
    tenant.placement = {PlacementKind::schema, "shared", "app", "acme"};
    tenant.epoch = Epoch(3);
    tenant.settings = {{"work_mem", "8MB"}};
    const auto view = view_of(tenant);
    CHECK(view.at("name").as_string() == "acme");
    CHECK(view.at("state").as_string() == "active");
    CHECK(view.at("role").is_null());
    CHECK(view.at("key").as_string() == "acme");
    CHECK(view.at("domains").as_array().empty());
    CHECK(view.at("allowed_addresses").as_array().empty());
    CHECK(view.at("epoch").as_uint64() == 3);
    CHECK(view.at("placement").as_object().at("kind").as_string() == "schema");
    CHECK(view.at("placement").as_object().at("schema").as_string() == "acme");
    CHECK(view.at("shared_schemas").as_array().at(0).as_string() == "public");
    CHECK(view.at("settings").as_object().at("work_mem").as_string() == "8MB");
}

TEST_CASE("a move's view says where it stands and what comes next") {
    auto move = a_move(MoveState::copy);
    move.progress.rows_copied = 12;
    move.progress.pause_ms = 1.5;
    const auto view = view_of(move);
    CHECK(view.at("id").as_uint64() == 17);
    CHECK(view.at("state").as_string() == "copy");
    CHECK(view.at("finished").as_bool() == false);
    CHECK(view.at("before_flip").as_bool() == true);
    CHECK(view.at("error").is_null());
    CHECK(view.at("finished_at").is_null());
    CHECK(view.at("progress").as_object().at("rows_copied").as_uint64() == 12);
    CHECK(view.at("target").as_object().at("database").as_string() == "acme_db");
    CHECK(view.at("next_steps").as_array().size() == 2);
}

TEST_CASE("a demote names the database to share") {
    CHECK(demote(R"({"to": {"cluster": "main"}})").error().kind == ErrorKind::invalid);
    const auto body = demote(R"({"to": {"cluster": "main", "database": "app"}})");
    REQUIRE(body.has_value());
    CHECK(body->move.kind == MoveKind::demote);
    CHECK(body->move.database == "app");
}

TEST_CASE("next steps fit the state") {
    CHECK(commands_of(a_move(MoveState::copy)) == "pgporter move 17 --watch\npgporter cancel 17\n");
    CHECK(commands_of(a_move(MoveState::opened)) == "pgporter complete 17\n");
    CHECK(commands_of(a_move(MoveState::reversing)) == "pgporter rollback 17\npgporter complete 17\n");
    CHECK(commands_of(a_move(MoveState::rolling_back)) == "pgporter move 17 --watch\n");
    CHECK(commands_of(a_move(MoveState::rolled_back)).empty());
    CHECK(commands_of(a_move(MoveState::completed)).empty());
    CHECK(commands_of(a_move(MoveState::flipped)) == "pgporter move 17 --watch\n");
    auto relocated = a_move(MoveState::aborted);
    relocated.request.kind = MoveKind::relocate;
    CHECK(commands_of(relocated) == "pgporter relocate acme --to big/acme_db --dry-run\n");
    CHECK(commands_of(a_move(MoveState::aborting)) == "pgporter move 17 --watch\n");
    CHECK(commands_of(a_move(MoveState::aborted)) == "pgporter promote acme --to big/acme_db --dry-run\n");
    auto waiting = a_move(MoveState::verify);
    CHECK(commands_of(waiting).find("cutover") == std::string::npos);
    waiting.request.cutover = false;
    CHECK(commands_of(waiting) == "pgporter move 17 --watch\npgporter cutover 17\npgporter cancel 17\n");
    waiting.request.cutover = true;
    waiting.progress.cutover_attempts = 3;
    CHECK(commands_of(waiting).find("pgporter cutover 17") != std::string::npos);
}

TEST_CASE("a preflight's view is ok only without blockers") {
    PreflightReport report;
    const MoveRequest request{"acme", "big", "acme", 0, true};
    CHECK(view_of(report, request).at("ok").as_bool());
    report.blockers.push_back({"table_without_key", "acme.audit", "no key", "add one"});
    const auto view = view_of(report, request);
    CHECK_FALSE(view.at("ok").as_bool());
    CHECK(view.at("blockers").as_array().at(0).as_object().at("remedy").as_string() == "add one");
    CHECK(boost::json::serialize(view.at("next_steps")).find("--dry-run") != std::string::npos);
}

TEST_CASE("an apply report's view lists the changes") {
    ApplyReport report;
    report.changes = {{"create", "tenant", "acme", ""}, {"change", "cluster", "big", "port"}};
    report.created = report.changed = 1;
    const auto view = view_of(report, true);
    CHECK(view.at("dry_run").as_bool());
    CHECK(view.at("changes").as_array().size() == 2);
    CHECK_FALSE(view.at("changes").as_array().at(0).as_object().contains("what"));
    CHECK(view.at("changes").as_array().at(1).as_object().at("what").as_string() == "port");
}

TEST_CASE("bad JSON is refused with its position") {
    const auto bad = parse_body(with_body("{\n  \"a\": tru\n}"));
    REQUIRE_FALSE(bad.has_value());
    CHECK(bad.error().kind == ErrorKind::invalid);
    CHECK(bad.error().message.find("line 2, column 8") != std::string::npos);
    CHECK_FALSE(parse_body(with_body("{")).has_value());
    CHECK_FALSE(parse_body(with_body("[]")).has_value());
    CHECK_FALSE(parse_body(with_body("{} x")).has_value());
    CHECK_FALSE(parse_body(with_body(std::string(100, '['))).has_value());
    CHECK(parse_body(with_body("")).value().empty());
    CHECK(parse_body(with_body(" \n")).value().empty());
    CHECK(parse_body(with_body(" {\"a\":1}\n")).value().size() == 1);
}

TEST_CASE("a promote's target may be nested or flat, and the database defaults to the tenant") {
    auto body = promote(R"({"to": {"cluster": "big", "database": "d"}, "cutover": false, "copy_jobs": 3})");
    REQUIRE(body.has_value());
    CHECK(body->move.tenant == "acme");
    CHECK(body->move.cluster == "big");
    CHECK(body->move.database == "d");
    CHECK(body->move.cutover == false);
    CHECK(body->move.copy_jobs == 3);
    CHECK(body->dry_run == false);
    body = promote(R"({"cluster": "big", "dry_run": true})");
    REQUIRE(body.has_value());
    CHECK(body->move.database == "acme");
    CHECK(body->dry_run);
}

TEST_CASE("a promote's body is checked to the last field") {
    for (const auto* text :
         {R"({})", R"({"to": "big"})", R"({"to": {}})", R"({"to": {"cluster": "b"}, "cluster": "b"})", R"({"cluster": 1})", R"({"cluster": ""})",
          R"({"cluster": "b", "database": ""})", R"({"cluster": "b", "database": "a\nb"})", R"({"cluster": "b", "what": 1})",
          R"({"to": {"cluster": "b", "what": 1}})", R"({"cluster": "b", "copy_jobs": 0})", R"({"cluster": "b", "copy_jobs": 65})",
          R"({"cluster": "b", "copy_jobs": "2"})", R"({"cluster": "b", "cutover": 1})", R"({"cluster": "b", "dry_run": "yes"})"}) {
        CAPTURE(text);
        const auto body = promote(text);
        REQUIRE_FALSE(body.has_value());
        CHECK(body.error().kind == ErrorKind::invalid);
    }
    CHECK_FALSE(promote(R"({"cluster": "b", "database": ")" + std::string(64, 'x') + "\"}").has_value());
}
