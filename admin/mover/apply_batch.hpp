// Batches: changes of one table, of one kind and form, that become one statement of many rows, because a row costs the
// target a fifth of a statement. Collected in the order of the stream. No I/O; owned by the Applier.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "admin/mover/pgoutput.hpp"
#include "admin/mover/schema_tables.hpp"

namespace pgporter {

enum class BatchKind { insert, update, removal };

// What a statement's text depends on, besides the table and the number of rows.
struct BatchForm {
    BatchKind kind = BatchKind::insert;
    std::vector<std::size_t> columns;  // whose values each row has: of an update the key's, then those it sets
    friend bool operator==(const BatchForm&, const BatchForm&) = default;
};

struct BatchRow {
    BatchForm form;
    std::vector<std::optional<std::string_view>> values;  // borrowed from the change; none: NULL
    std::string key;                                      // of an update: it must be the row's only one in its batch
};

// None: this change goes alone. An update of a table with another unique index does, for there the order of the rows counts;
// and changes of tables so small that the target may plan to read all of it for each batch.
[[nodiscard]] std::optional<BatchRow> batch_row(const SourceTable& table, const pgoutput::Message& change);
[[nodiscard]] std::string batch_statement(const SourceTable& table, const BatchForm& form, std::size_t rows);
// Into how many rows at once a rest of so many is taken apart: few sizes, so that few statements are prepared.
[[nodiscard]] std::size_t batch_size(std::size_t rows, std::size_t values_each);

class Batch {
  public:
    static constexpr std::size_t rows_max = 64;
    static constexpr std::size_t bytes_max = 512 * 1'024;

    [[nodiscard]] bool takes(const BatchRow& row) const;
    void add(BatchRow row);
    [[nodiscard]] bool empty() const { return rows_ == 0; }
    [[nodiscard]] bool full() const { return rows_ >= rows_max || bytes_.size() >= bytes_max; }
    [[nodiscard]] std::size_t rows() const { return rows_; }
    [[nodiscard]] const BatchForm& form() const { return form_; }
    // Zero-ended values of all rows, one after the other; null: NULL. Valid until the next add() or clear().
    [[nodiscard]] std::vector<const char*> values() const;
    void clear();

  private:
    BatchForm form_;
    std::size_t rows_ = 0;
    std::string bytes_;
    std::vector<std::optional<std::size_t>> starts_;  // in bytes_
    std::unordered_set<std::string> keys_;
};

}  // namespace pgporter
