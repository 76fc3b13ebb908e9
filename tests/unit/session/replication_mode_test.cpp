#include <doctest/doctest.h>

#include "proxy/session/replication_relay.hpp"

using namespace pgporter;

namespace {

Result<ReplicationMode> mode(const std::string& value) {
    return replication_mode(StartupMessage{3, 0, {{"user", "app"}, {"replication", value}}});
}

}  // namespace

TEST_CASE("the replication parameter is read as PostgreSQL reads it") {
    CHECK(replication_mode(StartupMessage{3, 0, {{"user", "app"}}}).value() == ReplicationMode::none);
    CHECK(mode("database").value() == ReplicationMode::database);
    for (const char* yes : {"true", "t", "TRUE", "tr", "yes", "Y", "on", "ON", "1"}) CHECK(mode(yes).value() == ReplicationMode::physical);
    for (const char* no : {"false", "f", "no", "N", "of", "off", "0"}) CHECK(mode(no).value() == ReplicationMode::none);
    for (const char* bad : {"", "o", "Database", "2", "truex", "logical"}) {
        const auto got = mode(bad);
        REQUIRE_FALSE(got.has_value());
        CHECK(got.error().sqlstate == "22023");
    }
}
