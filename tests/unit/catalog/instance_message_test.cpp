#include "catalog/instance_message.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

TEST_CASE("what an instance says is read as it was said") {
    InstanceMessage message;
    message.kind = InstanceMessage::Kind::release;
    message.sender = 4'000'000'000U;
    message.to = 7;
    message.hold = 12;
    message.ms = 5'000;
    message.transactions = 3;
    message.pinned = 1;
    message.epoch = Epoch{9};
    message.version = CatalogVersion{1ULL << 60U};
    message.place = {PlacementKind::database, "own 1", "50%\n", ""};
    message.tenant = "acme";
    const auto line = to_line(message);
    CHECK(line.find('\n') == std::string::npos);
    const auto read = message_from(line);
    REQUIRE(read.has_value());
    CHECK(read->kind == message.kind);
    CHECK(read->sender == message.sender);
    CHECK(read->to == 7);
    CHECK(read->hold == 12);
    CHECK(read->ms == 5'000);
    CHECK(read->transactions == 3);
    CHECK(read->pinned == 1);
    CHECK(read->epoch == Epoch{9});
    CHECK(read->version == message.version);
    CHECK(read->place.cluster == "own 1");
    CHECK(read->place.database == "50%\n");
    CHECK(read->place.schema.empty());
    CHECK(read->tenant == "acme");
}

TEST_CASE("what another version or somebody else says is no message") {
    const auto line = to_line({});
    REQUIRE(message_from(line).has_value());
    CHECK_FALSE(message_from("").has_value());
    CHECK_FALSE(message_from("hello").has_value());
    CHECK_FALSE(message_from(line + " more").has_value());
    CHECK_FALSE(message_from("x" + line).has_value());
    CHECK_FALSE(message_from(line.substr(0, line.rfind(' '))).has_value());
    CHECK_FALSE(message_from(line + "%4").has_value());
    CHECK_FALSE(message_from(line + "%zz").has_value());
}
