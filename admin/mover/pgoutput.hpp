// pgoutput: decodes the messages of PostgreSQL's logical decoding plugin `pgoutput`, protocol version 1. Sans-io and
// pure; any thread. A decoded message borrows the texts of its column values from the bytes it was decoded from.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "admin/mover/lsn.hpp"

namespace pgporter::pgoutput {

using RelationId = std::uint32_t;  // pg_class.oid on the publisher

struct Begin {
    Lsn final_lsn;  // where the commit record of this transaction starts
    std::int64_t commit_time = 0;
    std::uint32_t xid = 0;
};
struct Commit {
    Lsn commit_lsn;  // = Begin::final_lsn
    Lsn end_lsn;     // just after the commit record: what is confirmed when the transaction is applied
    std::int64_t commit_time = 0;
};
struct Origin {
    Lsn commit_lsn;
    std::string name;
};
struct Column {
    bool key = false;
    std::string name;
    std::uint32_t type = 0;
    std::int32_t type_modifier = -1;
    friend bool operator==(const Column&, const Column&) = default;
};
struct Relation {
    RelationId id = 0;
    std::string schema;
    std::string name;
    char replica_identity = 'd';  // as in pg_class.relreplident
    std::vector<Column> columns;
};
struct Type {
    std::uint32_t id = 0;
    std::string schema;
    std::string name;
};

enum class ValueKind : char { null = 'n', unchanged_toast = 'u', text = 't', binary = 'b' };
struct Value {
    ValueKind kind = ValueKind::null;
    std::string_view bytes;
};
using Tuple = std::vector<Value>;

struct Insert {
    RelationId relation = 0;
    Tuple row;
};
// What identifies the old row: nothing (the key didn't change), the key columns ('K'), or all columns ('O', REPLICA
// IDENTITY FULL).
enum class OldRow { none, key, full };
struct Update {
    RelationId relation = 0;
    OldRow old_kind = OldRow::none;
    Tuple old_row;
    Tuple row;
};
struct Delete {
    RelationId relation = 0;
    OldRow old_kind = OldRow::key;
    Tuple old_row;
};
struct Truncate {
    std::vector<RelationId> relations;
    bool cascade = false;
    bool restart_identity = false;
};
struct LogicalMessage {  // pg_logical_emit_message()
    bool transactional = false;
    Lsn lsn;
    std::string prefix;
    std::string_view content;
};

using Message = std::variant<Begin, Commit, Origin, Relation, Type, Insert, Update, Delete, Truncate, LogicalMessage>;

// None: the bytes aren't one whole message of this protocol.
[[nodiscard]] std::optional<Message> decode(std::string_view bytes);

}  // namespace pgporter::pgoutput
