#include "proxy/session/parse_time.hpp"

#include <doctest/doctest.h>

#include <string>

#include "proxy/session/prepared_statements.hpp"

using namespace pgporter;

TEST_CASE("only what stands in a string depends on how values are read") {
    for (const char* sql : {"SELECT 1", "SELECT now(), today FROM t WHERE a = $1", "SELECT \"now\" FROM t", "-- 'now'\nSELECT 1", "SELECT $1, $12"}) {
        INFO(std::string(sql));
        CHECK(parse_time_of(sql) == ParseTime::nothing);
    }
    for (const char* sql : {"SELECT '01/02/2020'::date", "SELECT 'unknown', 'knowing'", "SELECT $$x$$", "SELECT $a$x$a$", "SELECT E'x'"}) {
        INFO(std::string(sql));
        CHECK(parse_time_of(sql) == ParseTime::settings);
    }
    for (const char* sql : {"SELECT 'now'::timestamptz", "SELECT ' Today '", "SELECT 'today12:00'::timestamp", "SELECT '{yesterday,tomorrow}'::date[]", "SELECT $$NOW$$", "SELECT E'\\156ow'",
                            "SELECT U&'\\006eow'", "SELECT 'n'\n'ow'"}) {
        INFO(std::string(sql));
        CHECK(parse_time_of(sql) == ParseTime::moment);
    }
}

TEST_CASE("a reading is the settings that are read by, and no others") {
    const Settings reported{{"TimeZone", "UTC"}, {"DateStyle", "ISO, MDY"}, {"IntervalStyle", "postgres"}, {"application_name", "a"}};
    Settings other = reported;
    other.back().second = "b";
    CHECK(reading_text(&reported, {}) == reading_text(&other, {{"work_mem", "1MB"}}));
    other.front().second = "Asia/Tokyo";
    CHECK(reading_text(&reported, {}) != reading_text(&other, {}));
    CHECK(reading_text(&reported, {}) != reading_text(&reported, {{"array_nulls", "off"}}));
    CHECK(reads_null_otherwise({{"transform_null_equals", "on"}}));
    CHECK_FALSE(reads_null_otherwise({{"array_nulls", "off"}}));
    CHECK(mentions_null("SELECT a = NULL"));
    CHECK_FALSE(mentions_null("SELECT nullif(a, 1)"));
}

TEST_CASE("equal texts that are read otherwise are two statements, and one of its own is nobody else's") {
    StatementRegistry registry;
    const std::string text = "SELECT '1'" + std::string(3, '\0');
    const StatementPtr utc = registry.find_or_create("acme\n", text, {}, {}, {"UTC", false});
    CHECK(registry.find_or_create("acme\n", text, {}, {}, {"UTC", false}) == utc);
    CHECK(registry.find_or_create("acme\n", text, {}, {}, {"Asia/Tokyo", false}) != utc);
    const StatementPtr own = registry.find_or_create("acme\n", text, {}, {}, {"UTC", true});
    CHECK(own != utc);
    CHECK(own->server_name != utc->server_name);
    CHECK(registry.find_or_create("acme\n", text, {}, {}, {"UTC", true}) != own);
    CHECK(registry.find("acme\n", text, {}, {"UTC", true}) == nullptr);
    CHECK(registry.find("acme\n", text, {}, {"UTC", false}) == utc);
}
