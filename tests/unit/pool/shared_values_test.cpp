#include "proxy/pool/shared_values.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace pgporter;

TEST_CASE("equal values are one object as long as somebody has it") {
    SharedValues<Settings> values;
    const auto first = values.find_or_make({{"a", "1"}, {"b", "2"}});
    CHECK(values.find_or_make({{"a", "1"}, {"b", "2"}}) == first);
    CHECK(values.find_or_make({{"b", "2"}, {"a", "1"}}) != first);  // later entries win: the order counts
    CHECK(values.find_or_make({{"a", "1"}}) != first);
}

TEST_CASE("what nobody has any more is forgotten") {
    SharedValues<Settings> values;
    const auto kept = values.find_or_make({{"kept", ""}});
    for (int i = 0; i < 10'000; ++i) static_cast<void>(values.find_or_make({{"n", std::to_string(i)}}));
    CHECK(values.size() <= 65);
    CHECK(values.find_or_make({{"kept", ""}}) == kept);
}

TEST_CASE("every part of a context makes it another one") {
    SharedValues<Context> values;
    Context context;
    std::vector<std::shared_ptr<const Context>> all{values.find_or_make(context)};
    context.has_empty_path = true;
    all.push_back(values.find_or_make(context));
    context.role = "r";
    all.push_back(values.find_or_make(context));
    context.search_path = "r";
    all.push_back(values.find_or_make(context));
    context.settings.emplace_back("r", "r");
    all.push_back(values.find_or_make(context));
    CHECK(values.size() == all.size());
    CHECK(values.find_or_make(context) == all.back());
}
