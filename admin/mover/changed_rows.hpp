// ChangedRows: which rows the stream has changed since a barrier, so that only these need be compared again. Bounded: a
// table with too many is remembered as changed altogether. A value without I/O; owned by whoever follows the stream.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "admin/mover/pgoutput.hpp"
#include "admin/mover/schema_tables.hpp"

namespace pgporter {

class ChangedRows {
  public:
    static constexpr std::size_t keys_max = 200'000;  // in all tables together

    struct Table {
        bool whole = false;
        bool truncated = false;                // TRUNCATE isn't transactional for readers: older snapshots find nothing
        std::unordered_set<std::string> keys;  // see decode_key
    };

    void add(const SourceTable& table, const pgoutput::Tuple& row);
    void add_key(const SourceTable& table, std::string key);  // see encode_key()
    void add_whole(const SourceTable& table);
    void add_truncated(const SourceTable& table);
    void add_all(const ChangedRows& others);
    [[nodiscard]] bool truncated(const SourceTable& table) const;
    // A row identified by its old key, when it was sent, and by its new one.
    void add_change(const SourceTable& table, const pgoutput::Message& change);

    // Of these, the tables that only the tenant writes to.
    [[nodiscard]] ChangedRows of_fenced_tables() const;
    [[nodiscard]] bool empty() const { return tables_.empty(); }
    [[nodiscard]] std::uint64_t keyed_rows() const { return keyed_rows_; }
    [[nodiscard]] const std::map<const SourceTable*, Table>& tables() const { return tables_; }

  private:
    std::map<const SourceTable*, Table> tables_;
    std::size_t keyed_rows_ = 0;
};

[[nodiscard]] std::string encode_key(const SourceTable& table, const pgoutput::Tuple& row);
[[nodiscard]] std::vector<std::string> decode_key(std::string_view key);  // one text per key column

}  // namespace pgporter
