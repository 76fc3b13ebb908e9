// ReusedTexts: which texts come again and again as the unnamed statement, and the statement that stands for each on the servers (limits.
// unnamed_reuses_max). Owned by a Worker; same thread; pure. Bounded: each text has one place, and the last one to come keeps it.
//
// What PostgreSQL makes of such a text at Parse is used again, so it must be the same whenever it is made: see is_reusable().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "proxy/pool/context.hpp"
#include "proxy/session/prepared_statements.hpp"

namespace pgporter {

// One SELECT, INSERT, UPDATE, DELETE or WITH that does nothing else, with parameters, without a string. What is written as a string is turned into a
// value when the text is parsed, by the settings and the time of that moment ('now', DateStyle, TimeZone). A statement without parameters has
// no plan of its own for each execution.
[[nodiscard]] bool is_reusable(std::string_view sql, const StatementTraits& traits);

class ReusedTexts {
  public:
    static constexpr std::size_t places = 2'048;
    static constexpr std::size_t batch_bytes_max = 4'096;  // from Parse to Sync

    // `definition`: a Parse message's body after the name. `owner`: for whom, and in which state of the session; `owner_hash` is its hash. Null: it is
    // parsed as it comes.
    StatementPtr find(std::string_view owner, std::size_t owner_hash, std::string_view definition, const SessionDialect& spoken,
                      StatementRegistry& registry, const MemoryAccount& account);
    // Objects have been made or changed: what a text means may be another thing now. PostgreSQL itself looks only at those that are used already.
    void forget_all() { ++generation_; }
    [[nodiscard]] std::uint64_t generation() const { return generation_; }

  private:
    struct Known {
        std::size_t hash = 0;
        std::uint64_t generation = 0;  // 0: never seen
        StatementPtr statement;        // null: seen once, or not reusable
        bool is_refused = false;
    };
    std::unique_ptr<std::array<Known, places>> known_;  // with the first text
    std::uint64_t generation_ = 1;
};

// What a session does with it at present.
struct UnnamedReuse {
    StatementNumber number = 0;  // bound in this batch, and not answered yet; 0: none
    bool is_to_replay = false;   // it has failed for what only the reuse may have caused: everything is sent again as it came
    struct Owner {
        std::string text;
        std::size_t hash = 0;
        std::string tenant;  // what it was made of
        ContextPtr context;
        std::uint64_t generation = 0;
    };
    std::unique_ptr<Owner> owner;  // with the first text
};

}  // namespace pgporter
