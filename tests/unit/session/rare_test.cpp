#include "proxy/session/rare.hpp"

#include <doctest/doctest.h>

#include <string>
#include <unordered_map>

using namespace pgporter;

TEST_CASE("what is rare is there or not, and a copy is a value of its own") {
    Rare<std::string> one;
    CHECK(!one);
    CHECK(std::optional<std::string>(one) == std::nullopt);
    one = std::string("a");
    Rare<std::string> other = one;
    *other += "b";
    CHECK(*one == "a");
    one = other;
    other.reset();
    CHECK(*one == "ab");
    CHECK(!other.has_value());
    CHECK(other.made().empty());
    one = std::optional<std::string>();
    CHECK(!one);
}

TEST_CASE("a rare map that isn't there is empty, and stays so for everybody else") {
    RareMap<std::unordered_map<std::string, int>> map;
    RareMap<std::unordered_map<std::string, int>> other;
    CHECK(map.empty());
    CHECK(map.find("a") == map.end());
    map.erase("a");
    map["a"] = 1;
    map["b"] = 2;
    CHECK(map.size() == 2);
    CHECK(map.find("a")->second == 1);
    CHECK(other.find("a") == other.end());
    other = map;
    map.erase(map.find("a"));
    other.erase_if([](const auto& entry) { return entry.first == "b"; });
    CHECK((!map.contains("a") && map.contains("b") && other.contains("a") && other.size() == 1));
    map.clear();
    CHECK((map.empty() && map.begin() == map.end() && !other.empty()));
}
