// The scopes of what a session sets: PostgreSQL's rules for SET, SET LOCAL, savepoints and the ends of transactions.
#include "router/scoped_settings.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

namespace {

std::string effective(const ScopedSettings& settings, std::string_view name = "a.b") {
    const std::string* value = find_value(settings.view().effective, name);
    return value == nullptr ? "-" : *value;
}

std::string persistent(const ScopedSettings& settings, std::string_view name = "a.b") {
    const std::string* value = find_value(settings.view().persistent, name);
    return value == nullptr ? "-" : *value;
}

}  // namespace

TEST_CASE("SET lasts if its transaction commits") {
    ScopedSettings settings;
    settings.change("a.b", "before", false);
    CHECK(effective(settings) == "before");
    settings.begin();
    settings.change("a.b", "1", false);
    settings.begin();  // nothing: it is in one
    CHECK(settings.has_uncommitted());
    CHECK(*find_value(settings.committed(), "a.b") == "before");
    settings.rollback();
    CHECK(effective(settings) == "before");
    CHECK_FALSE(settings.has_uncommitted());
    settings.begin();
    settings.change("a.b", "2", false);
    settings.commit();
    CHECK(effective(settings) == "2");
    CHECK_FALSE(settings.in_transaction());
    settings.rollback();  // outside of any: nothing
    CHECK(effective(settings) == "2");
}

TEST_CASE("SET LOCAL lasts until the transaction ends, over SET and under it") {
    ScopedSettings settings;
    settings.begin();
    settings.change("a.b", "set", false);
    settings.change("a.b", "local", true);
    CHECK(effective(settings) == "local");
    CHECK(persistent(settings) == "set");
    settings.commit();
    CHECK(effective(settings) == "set");

    settings.begin();
    settings.change("a.b", "local", true);
    settings.change("a.b", "set again", false);
    CHECK(effective(settings) == "set again");
    settings.commit();
    CHECK(effective(settings) == "set again");

    settings.begin();
    settings.change("a.b", std::nullopt, true);
    CHECK(effective(settings) == "-");
    settings.commit();
    CHECK(effective(settings) == "set again");
    settings.change("a.b", std::nullopt, false);
    CHECK(settings.is_empty());
}

TEST_CASE("savepoints") {
    ScopedSettings settings;
    settings.begin();
    settings.savepoint("s");
    settings.change("a.b", "1", false);
    settings.savepoint("s");
    settings.change("a.b", "2", true);
    SUBCASE("the newest of a name is meant, and stays") {
        CHECK(settings.roll_back_to("s"));
        CHECK(effective(settings) == "1");
        settings.change("a.b", "3", false);
        CHECK(settings.roll_back_to("s"));
        CHECK(effective(settings) == "1");
        CHECK(settings.savepoints() == 2);
        CHECK(settings.release("s"));
        CHECK(settings.roll_back_to("s"));
        CHECK(effective(settings) == "-");
    }
    SUBCASE("RELEASE keeps what was set, and drops those behind") {
        settings.savepoint("t");
        CHECK(settings.release("s"));
        CHECK_FALSE(settings.has_savepoint("t"));
        CHECK(effective(settings) == "2");
        CHECK(settings.roll_back_to("s"));
        CHECK(effective(settings) == "-");
    }
    SUBCASE("who isn't there changes nothing") {
        CHECK_FALSE(settings.release("S"));
        CHECK_FALSE(settings.roll_back_to("x"));
        CHECK(effective(settings) == "2");
    }
    SUBCASE("they end with their transaction") {
        settings.commit();
        CHECK_FALSE(settings.has_savepoint("s"));
        CHECK(effective(settings) == "1");
    }
    SUBCASE("reset") {
        settings.reset({{"a.b", "new"}});
        CHECK_FALSE(settings.in_transaction());
        CHECK(settings.savepoints() == 0);
        CHECK(effective(settings) == "new");
    }
}

TEST_CASE("outside of a transaction there is no savepoint") {
    ScopedSettings settings;
    settings.savepoint("s");
    CHECK_FALSE(settings.has_savepoint("s"));
    settings.begin();
    CHECK_FALSE(settings.has_savepoint("s"));
}
