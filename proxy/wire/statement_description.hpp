// StatementDescription: what a server says of a prepared statement to whoever describes it: the types of its parameters, and its result's columns.
// Pure values, made from message bodies; any thread. Two that are equal can be used by one client in the same way: it sends and reads
// binary values by them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace pgporter {

struct StatementDescription {
    std::string parameters;         // a ParameterDescription's body
    std::string results;            // see results_of(); no_results
    std::string results_elsewhere;  // the same, as another database may have it
    std::string place;              // which database
    friend bool operator==(const StatementDescription&, const StatementDescription&) = default;
};
using DescriptionPtr = std::shared_ptr<const StatementDescription>;

inline constexpr std::string_view no_results = "n";

// Short, and the same for results with the same columns as PostgreSQL compares them: names, types, type modifiers, in order. Where they
// come from (table, column number) and in which format they are sent doesn't count. Nullopt: malformed. Types that aren't built in have other
// OIDs in other databases: without them they are all one.
[[nodiscard]] std::optional<std::string> results_of(std::string_view row_description, bool with_own_types = true);

// A client that was told the one can use the other. Who has seen types that aren't built in doesn't get to another database.
[[nodiscard]] bool is_as_told(const StatementDescription& told, const StatementDescription& now, bool knows_parameters);

// How many types a ParameterDescription's body tells; nullopt: malformed. Its count has 16 bits, and PostgreSQL describes statements with more
// parameters than that (which nobody can bind): the length decides.
[[nodiscard]] std::optional<std::size_t> described_parameters(std::string_view body);

// A Parse message's body after the name, with the built-in types that a ParameterDescription told, so that they can't become others. Those
// that aren't built in stay as they were declared, or left to the server to find out.
[[nodiscard]] std::string with_parameters(std::string_view definition, std::string_view parameter_description);

}  // namespace pgporter
