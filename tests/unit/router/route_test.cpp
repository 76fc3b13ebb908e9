#include "router/route.hpp"

#include <doctest/doctest.h>

#include "tests/unit/router/catalog_of_test.hpp"

using namespace pgporter;

namespace {

const SnapshotPtr catalog = test::router_catalog();
const HomeConfig home{"main", "postgres"};
const User* const app = catalog->find_user("app");
const User* const narrow = catalog->find_user("narrow");

void check_error(const Result<Route>& result, const char* sqlstate, const std::string& message) {
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().sqlstate == sqlstate);
    CHECK(result.error().message == message);
}

}  // namespace

TEST_CASE("a tenant's session goes where the tenant lives") {
    const auto shared = route(*catalog, home, app, "acme", "");
    REQUIRE(shared.has_value());
    CHECK(shared->kind == RouteKind::tenant);
    CHECK(shared->tenant == catalog->find_tenant("acme"));
    CHECK(shared->cluster == "main");
    CHECK(shared->database == "app");
    const auto dedicated = route(*catalog, std::nullopt, narrow, "moved", "app");
    REQUIRE(dedicated.has_value());
    CHECK(dedicated->database == "moved_db");
}

TEST_CASE("without a tenant a session goes home, if there is one") {
    const auto at_home = route(*catalog, home, app, "", "postgres");
    REQUIRE(at_home.has_value());
    CHECK(at_home->kind == RouteKind::home);
    CHECK(at_home->tenant == nullptr);
    CHECK(at_home->database == "postgres");
    const auto none = route(*catalog, std::nullopt, app, "", "");
    check_error(none, "3D000", "no tenant is named");
    for (const auto* way : {"pgporter.tenant", "<user>.<tenant>", "<database>@<tenant>", "search_path"}) {
        CHECK(none.error().hint.find(way) != std::string::npos);
    }
    check_error(route(*catalog, HomeConfig{"gone", "x"}, app, "", ""), "58000",
                "the catalog has no entry for the cluster of the home database");
}

TEST_CASE("unknown and forbidden tenants can't be told apart") {
    check_error(route(*catalog, home, narrow, "nobody", ""), "3D000",
                "tenant \"nobody\" doesn't exist or user \"narrow\" may not speak for it");
    check_error(route(*catalog, home, narrow, "globex", ""), "3D000",
                "tenant \"globex\" doesn't exist or user \"narrow\" may not speak for it");
    // Nor by another property of the tenant: a suspended one that isn't the user's looks the same.
    check_error(route(*catalog, home, narrow, "asleep", ""), "3D000",
                "tenant \"asleep\" doesn't exist or user \"narrow\" may not speak for it");
    CHECK(route(*catalog, home, narrow, "nobody", "").error().kind ==
          route(*catalog, home, narrow, "globex", "").error().kind);
    CHECK(route(*catalog, home, narrow, "acme", "").has_value());
    CHECK(route(*catalog, home, nullptr, "globex", "").has_value());
    check_error(route(*catalog, home, nullptr, "nobody", ""), "3D000", "tenant \"nobody\" doesn't exist");
}

TEST_CASE("what can't be served is refused with its own code") {
    check_error(route(*catalog, home, app, "asleep", ""), "57P03", "tenant \"asleep\" is suspended");
    check_error(route(*catalog, home, app, "lost", ""), "58000",
                "the catalog has no entry for the cluster of this tenant");
}

TEST_CASE("a database name must exist, whoever is named") {
    for (const auto* database : {"", "app", "reports", "postgres", "moved_db"}) {
        CAPTURE(database);
        CHECK(route(*catalog, home, app, "acme", database).has_value());
        CHECK(route(*catalog, home, app, "", database).has_value());
    }
    check_error(route(*catalog, home, app, "acme", "typo"), "3D000", "database \"typo\" does not exist");
    check_error(route(*catalog, home, app, "", "typo"), "3D000", "database \"typo\" does not exist");
    check_error(route(*catalog, std::nullopt, app, "", "postgres"), "3D000", "database \"postgres\" does not exist");
}
