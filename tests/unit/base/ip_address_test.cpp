#include "base/ip_address.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

namespace {

bool contains(const char* block, const char* address) {
    const auto parsed = parse_cidr(block);
    REQUIRE_MESSAGE(parsed.has_value(), block);
    const auto ip = parse_ip(address);
    REQUIRE_MESSAGE(ip.has_value(), address);
    return parsed->contains(*ip);
}

}  // namespace

TEST_CASE("addresses are read and written") {
    for (const char* text : {"0.0.0.0", "10.1.2.3", "255.255.255.255", "::", "::1", "2001:db8::1", "fe80::1:2"}) {
        const auto ip = parse_ip(text);
        REQUIRE(ip.has_value());
        CHECK(to_text(*ip) == text);
    }
    for (const char* text : {"", "localhost", "10.1.2", "10.1.2.256", " 10.1.2.3", "10.1.2.3/32", "2001:db8::1%eth0", ":", "1"}) {
        CHECK_FALSE(parse_ip(text).has_value());
    }
    CHECK_FALSE(parse_ip(std::string_view("10.1.2.3\0x", 10)).has_value());
}

TEST_CASE("an IPv4 address is the same however a socket spells it") {
    CHECK(*parse_ip("::ffff:10.1.2.3") == *parse_ip("10.1.2.3"));
    CHECK(to_text(*parse_ip("::ffff:10.1.2.3")) == "10.1.2.3");
    CHECK(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
    CHECK(contains("::ffff:10.0.0.0/104", "10.1.2.3"));
}

TEST_CASE("blocks contain what they say, at every edge") {
    CHECK(contains("10.0.0.0/8", "10.255.255.255"));
    CHECK_FALSE(contains("10.0.0.0/8", "11.0.0.0"));
    CHECK(contains("192.168.1.128/25", "192.168.1.128"));
    CHECK_FALSE(contains("192.168.1.128/25", "192.168.1.127"));
    CHECK(contains("10.1.2.3", "10.1.2.3"));
    CHECK_FALSE(contains("10.1.2.3", "10.1.2.2"));
    CHECK(contains("10.1.2.2/31", "10.1.2.3"));
    CHECK(contains("2001:db8::/33", "2001:db8:7fff::1"));
    CHECK_FALSE(contains("2001:db8::/33", "2001:db8:8000::1"));
    CHECK(contains("::1", "::1"));
}

TEST_CASE("everything of one family is not everything") {
    CHECK(contains("0.0.0.0/0", "8.8.8.8"));
    CHECK_FALSE(contains("0.0.0.0/0", "2001:db8::1"));
    CHECK(contains("::/0", "2001:db8::1"));
    CHECK_FALSE(contains("::/0", "8.8.8.8"));
}

TEST_CASE("what is no block is refused, and bits behind the prefix too") {
    for (const char* text : {"", "/", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x", "10.0.0.0/ 8", "10.0.0.1/8",
                             "2001:db8::1/32", "::/129", "all", "10.0.0.0/8/8"}) {
        CHECK_MESSAGE(!parse_cidr(text).has_value(), text);
    }
}

TEST_CASE("a network of an address") {
    CHECK(to_text(masked(*parse_ip("2001:db8:1:2:3:4:5:6"), 64)) == "2001:db8:1:2::");
    CHECK(to_text(masked(*parse_ip("10.1.2.3"), 24)) == "10.1.2.0");
    CHECK(to_text(masked(*parse_ip("10.1.2.3"), 32)) == "10.1.2.3");
}
