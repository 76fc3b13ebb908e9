#include "proxy/session/prepared_statements.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace pgporter;

namespace {

std::string definition(int number, std::size_t bytes) {
    return "SELECT '" + std::to_string(number) + std::string(bytes, 'x') + "'" + std::string("\0\0\0", 3);
}

}  // namespace

TEST_CASE("what nobody has any more is forgotten") {
    StatementRegistry registry;
    for (int i = 0; i < 10'000; ++i) {
        CHECK(registry.find_or_create("acme\n", definition(i, 100)) != nullptr);
        CHECK(registry.size() <= 256);
    }
}

TEST_CASE("those that somebody has stay, and sweeping for them is rare") {
    StatementRegistry registry;
    std::vector<StatementPtr> kept;
    for (int i = 0; i < 500; ++i) kept.push_back(registry.find_or_create("acme\n", definition(i, 100)));
    for (int i = 0; i < 5'000; ++i) CHECK(registry.find_or_create("acme\n", definition(1000 + i, 100)) != nullptr);
    CHECK(registry.size() <= 2 * kept.size());
    for (int i = 0; i < 500; ++i) CHECK(registry.find_or_create("acme\n", definition(i, 100)) == kept[static_cast<std::size_t>(i)]);
    CHECK(registry.find_or_create("globex\n", definition(1, 100)) != kept[1]);
}

TEST_CASE("a statement is found as long as somebody has it, and not by its tenant's tables of before") {
    StatementRegistry registry;
    const std::string text = definition(1, 10);
    CHECK(registry.find("acme\n", text) == nullptr);
    StatementPtr made = registry.find_or_create("acme\n", text);
    CHECK(registry.find("acme\n", text) == made);
    CHECK(registry.find("globex\n", text) == nullptr);
    registry.renew("acme");
    CHECK(registry.find("acme\n", text) == nullptr);
    made = registry.find_or_create("acme\n", text);
    CHECK(registry.find("acme\n", text) == made);
    made.reset();
    CHECK(registry.find("acme\n", text) == nullptr);
}
