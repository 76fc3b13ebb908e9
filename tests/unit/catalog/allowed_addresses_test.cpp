#include "catalog/allowed_addresses.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

TEST_CASE("without a list everybody may come") {
    CHECK(is_address_allowed(Tenant{}, parse_ip("10.1.2.3")));
    CHECK(is_address_allowed(Tenant{}, std::nullopt));
}

TEST_CASE("with a list only who is in one of its blocks") {
    Tenant tenant;
    tenant.allowed_addresses = {"10.0.0.0/8", "2001:db8::/32", "192.0.2.7"};
    CHECK(is_address_allowed(tenant, parse_ip("10.9.9.9")));
    CHECK(is_address_allowed(tenant, parse_ip("::ffff:10.9.9.9")));
    CHECK(is_address_allowed(tenant, parse_ip("2001:db8:5::1")));
    CHECK(is_address_allowed(tenant, parse_ip("192.0.2.7")));
    CHECK_FALSE(is_address_allowed(tenant, parse_ip("192.0.2.8")));
    CHECK_FALSE(is_address_allowed(tenant, parse_ip("2001:db9::1")));
    CHECK_FALSE(is_address_allowed(tenant, std::nullopt));  // a Unix-domain socket
}

TEST_CASE("a block that can't be read closes the door") {
    Tenant tenant;
    tenant.allowed_addresses = {"everywhere"};
    CHECK_FALSE(is_address_allowed(tenant, parse_ip("10.9.9.9")));
    CHECK_FALSE(is_address_allowed(tenant, std::nullopt));
}
