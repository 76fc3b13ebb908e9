// What a session has to take back when PostgreSQL never did it: one Operation for each request with a tag in the reply queue. Plain values; the
// session knows what they mean.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "proxy/session/prepared_statements.hpp"

namespace pgporter {

// The unnamed statement, put aside.
struct UnnamedStatement {
    std::shared_ptr<const StatementTraits> traits;
    std::shared_ptr<const SessionStatement> session;
    std::string definition;
    std::uint64_t serial = 0;
    std::uint64_t serial_on_server = 0;
    std::string spelling = {};
    UnnamedTold told = {};
    std::uint64_t state = 0;
};
// What is undone when the server never did it.
struct Operation {
    enum class Kind {
        name_statement, parse_again, prepare_on_server, close_name, evict_from_server, unnamed_parse, drop_unnamed, describe, local_query,
        local_answer, rename_tag, refusal
    } kind;
    std::string name;
    StatementPtr statement;
    StatementNumber number = 0;
    std::string reply;                         // local_query, local_answer, rename_tag, refusal
    std::optional<UnnamedStatement> replaced;  // unnamed_parse, drop_unnamed: what comes back if PostgreSQL skips this
    ParseSerial serial = 0;                    // describe: of what this Parse has made; unnamed_parse, drop_unnamed: the state it leads to
    Told told = {};                            // close_name: of that name
};

}  // namespace pgporter
