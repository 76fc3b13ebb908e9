// ScopedSettings: what a session has set by SQL, with PostgreSQL's rules of scope: SET lasts if its transaction commits, SET LOCAL until it
// ends, ROLLBACK and ROLLBACK TO undo both. Holds only the settings that are put into it. Owned by a session; pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pgporter {

class ScopedSettings {
  public:
    using Values = std::vector<std::pair<std::string, std::string>>;  // name in lower case, value; one entry a name
    struct View {
        Values persistent;  // what stays if everything commits
        Values effective;   // what holds now
        friend bool operator==(const View&, const View&) = default;
    };

    // Nullopt: back to the default, so that the session no longer has set it.
    void change(std::string_view name, const std::optional<std::string>& value, bool is_local);

    void begin();  // a transaction, explicit or implicit; in one already: nothing
    void commit();
    void rollback();
    void savepoint(std::string name);  // outside of a transaction: nothing
    // False: there is no such savepoint, and nothing happened.
    bool release(std::string_view name);
    bool roll_back_to(std::string_view name);
    [[nodiscard]] bool has_savepoint(std::string_view name) const;
    [[nodiscard]] std::size_t savepoints() const { return savepoints_.size(); }

    // Everything is forgotten, whatever transaction there was: these hold now, outside of any.
    void reset(Values values = {});

    [[nodiscard]] bool in_transaction() const { return in_transaction_; }
    [[nodiscard]] const View& view() const { return now_; }
    // What was persistent before the open transaction, if there is one.
    [[nodiscard]] const Values& committed() const { return in_transaction_ ? at_begin_.persistent : now_.persistent; }
    [[nodiscard]] bool is_empty() const { return now_.persistent.empty() && now_.effective.empty(); }
    // The open transaction has set something that would stay.
    [[nodiscard]] bool has_uncommitted() const { return in_transaction_ && now_.persistent != at_begin_.persistent; }

  private:
    struct Savepoint {
        std::string name;
        View view;
    };
    [[nodiscard]] std::optional<std::size_t> find(std::string_view name) const;

    View now_;
    View at_begin_;
    std::vector<Savepoint> savepoints_;
    bool in_transaction_ = false;
};

[[nodiscard]] const std::string* find_value(const ScopedSettings::Values& values, std::string_view name);

}  // namespace pgporter
