#include <doctest/doctest.h>

#include <filesystem>
#include <unistd.h>

#include "tests/support/traffic/check.hpp"
#include "tests/support/traffic/database.hpp"
#include "tests/support/traffic/run.hpp"

using namespace pgporter::traffic;

namespace {

Record told(std::int64_t client, std::int64_t seq, Outcome outcome) {
    Record record;
    record.kind = Kind::write_single;
    record.client = client;
    record.seq = seq;
    record.outcome = outcome;
    return record;
}

LedgerEntry entry(std::int64_t client, std::int64_t seq, std::int64_t number) { return {client, seq, number, "acme"}; }

const std::vector<Record> kThreeAcknowledged = {told(1, 1, Outcome::acknowledged), told(1, 2, Outcome::acknowledged),
                                                told(2, 1, Outcome::acknowledged)};

}  // namespace

TEST_CASE("a ledger that holds what clients were told is clean") {
    const auto verdict = judge("acme", kThreeAcknowledged, {entry(1, 1, 10), entry(1, 2, 12), entry(2, 1, 11)});
    CHECK(verdict.confirmed == 3);
    CHECK(verdict.lost + verdict.doubled + verdict.phantom + verdict.disordered + verdict.wrong_tenant == 0);
}

TEST_CASE("an acknowledged write that is missing is lost") {
    const auto verdict = judge("acme", kThreeAcknowledged, {entry(1, 1, 10), entry(2, 1, 11)});
    CHECK(verdict.lost == 1);
    CHECK(verdict.confirmed == 2);
}

TEST_CASE("an entry that is there twice is doubled") {
    const auto verdict = judge("acme", kThreeAcknowledged, {entry(1, 1, 10), entry(1, 2, 12), entry(1, 2, 13), entry(2, 1, 11)});
    CHECK(verdict.doubled == 1);
    CHECK(verdict.lost == 0);
}

TEST_CASE("a refused, a rolled back and a never sent write must not be there") {
    const std::vector<Record> records = {told(1, 1, Outcome::failed), told(1, 2, Outcome::rolled_back)};
    CHECK(judge("acme", records, {}).phantom == 0);
    CHECK(judge("acme", records, {entry(1, 1, 10)}).phantom == 1);
    CHECK(judge("acme", records, {entry(1, 1, 10), entry(1, 2, 11), entry(1, 3, 12)}).phantom == 3);
}

TEST_CASE("a write lost while it committed may be there or not") {
    const std::vector<Record> records = {told(1, 1, Outcome::unknown), told(1, 2, Outcome::unknown)};
    const auto verdict = judge("acme", records, {entry(1, 2, 10)});
    CHECK(verdict.unknown_present == 1);
    CHECK(verdict.lost + verdict.doubled + verdict.phantom == 0);
}

TEST_CASE("a later write with an earlier entry is out of order") {
    const auto verdict = judge("acme", kThreeAcknowledged, {entry(1, 1, 12), entry(1, 2, 10), entry(2, 1, 11)});
    CHECK(verdict.disordered == 1);
}

TEST_CASE("another tenant's entry is noticed") {
    auto stranger = entry(1, 1, 10);
    stranger.tenant = "globex";
    CHECK(judge("acme", {told(1, 1, Outcome::acknowledged)}, {stranger}).wrong_tenant == 1);
}

TEST_CASE("a history survives its file") {
    const auto path = std::filesystem::temp_directory_path() / ("pgporter-history-" + std::to_string(::getpid()));
    History history;
    history.tenants = {"acme", "globex"};
    history.records = {told(7, 1, Outcome::acknowledged), told(7, 2, Outcome::unknown)};
    history.records[1].tenant = 1;
    history.records[1].latency_us = 123;
    REQUIRE(write_history(path.string(), history).has_value());
    auto read = read_history(path.string());
    std::filesystem::remove(path);
    REQUIRE(read.has_value());
    REQUIRE(read->records.size() == 2);
    CHECK(read->tenants == history.tenants);
    CHECK(read->records[1].tenant == 1);
    CHECK(read->records[1].outcome == Outcome::unknown);
    CHECK(read->records[1].latency_us == 123);
    CHECK(read->records[0].client == 7);
}

TEST_CASE("the DSN template takes the tenant's name everywhere") {
    CHECK(dsn_for("dbname=app", "acme") == "dbname=app");
    CHECK(dsn_for("user=app.{tenant} options='-c pgporter.tenant={tenant}'", "acme") ==
          "user=app.acme options='-c pgporter.tenant=acme'");
}
