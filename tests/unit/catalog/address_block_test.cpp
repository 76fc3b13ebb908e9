#include "catalog/address_block.hpp"

#include <doctest/doctest.h>

#include "catalog/host_name.hpp"
#include "catalog/setting_name.hpp"

using namespace pgporter;

TEST_CASE("blocks hold what is in them") {
    const struct {
        const char* block;
        const char* inside;
        const char* outside;
    } rows[] = {
        {"10.0.0.0/8", "10.255.0.1", "11.0.0.1"},
        {"192.0.2.128/25", "192.0.2.255", "192.0.2.127"},
        {"192.0.2.7", "192.0.2.7", "192.0.2.8"},
        {"192.0.2.7/32", "::ffff:192.0.2.7", "::192.0.2.7"},
        {"0.0.0.0/0", "203.0.113.9", "::1"},
        {"::/0", "2001:db8::1", "10.0.0.1"},
        {"2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"},
        {"fe80::/10", "fe80::1%eth0", "10.0.0.1"},
    };
    for (const auto& row : rows) {
        CAPTURE(row.block);
        const auto block = parse_address_block(row.block);
        REQUIRE(block.has_value());
        CHECK(contains(*block, row.inside));
        CHECK_FALSE(contains(*block, row.outside));
        CHECK_FALSE(contains(*block, ""));
        CHECK_FALSE(contains(*block, "localhost"));
    }
}

TEST_CASE("what is no block") {
    for (const char* text : {"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x", "10.0.0.1/8", "10.0.0", "::1/129", "::1/64", "host",
                             "10.0.0.0/8/8", "010.0.0.0/8"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_address_block(text).has_value());
    }
}

TEST_CASE("host names and parameters' names") {
    for (const char* name : {"a.example", "db-1.acme.example", "localhost", "x_y.example"}) CHECK(is_host_name(name));
    for (const char* name : {"", ".", "a.", ".a", "a..b", "A.example", "-a.example", "a-.example", "10.0.0.1", "a b", "::1"}) {
        CAPTURE(name);
        CHECK_FALSE(is_host_name(name));
    }
    for (const char* name : {"app.tenant", "request.jwt.claims", "App.Tenant_id", "_a._b$1"}) CHECK(is_custom_setting_name(name));
    for (const char* name : {"", "tenant", "search_path", "app.", ".app", "app..x", "app.1", "app tenant.x", "app.\"x"}) {
        CAPTURE(name);
        CHECK_FALSE(is_custom_setting_name(name));
    }
}
