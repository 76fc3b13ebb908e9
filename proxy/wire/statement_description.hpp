// StatementDescription: what a server says of a prepared statement to whoever describes it: the types of its parameters, and its result's columns.
// Pure values, made from message bodies; any thread. Two that are equal can be used by one client in the same way: it sends and reads
// binary values by them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace pgporter {

struct StatementDescription {
    std::string parameters;  // a ParameterDescription's body
    std::string results;     // see results_of(); no_results
    friend bool operator==(const StatementDescription&, const StatementDescription&) = default;
};
using DescriptionPtr = std::shared_ptr<const StatementDescription>;

inline constexpr std::string_view no_results = "n";

// Short, and the same for results with the same columns as PostgreSQL compares them: names, types, type modifiers, in order. Where they
// come from (table, column number) and in which format they are sent doesn't count. Nullopt: malformed.
[[nodiscard]] std::optional<std::string> results_of(std::string_view row_description);

[[nodiscard]] bool is_parameter_description(std::string_view body);

// A Parse message's body after the name, with the types that a ParameterDescription told instead of its own. Types that aren't built in have
// other OIDs in other databases: those are left to the server to find out.
[[nodiscard]] std::string with_parameters(std::string_view definition, std::string_view parameter_description);

}  // namespace pgporter
