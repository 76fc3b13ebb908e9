// InstanceMessage: what one instance tells the others through the catalog (NOTIFY), as one line of text. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/ids.hpp"
#include "catalog/tenant.hpp"

namespace pgporter {

struct InstanceMessage {
    enum class Kind {
        hold,     // hold this tenant's new transactions, for at most `ms`
        held,     // to the sender of a hold: done; `transactions` still run here
        drained,  // to the sender of a hold: held, and none runs here any more
        release,  // the tenant lives at `place` with `epoch`: let its transactions go on
        warm      // the tenant will live at `place` soon: open server connections to there
    };
    Kind kind = Kind::hold;
    std::uint32_t sender = 0;
    std::uint32_t to = 0;
    std::uint64_t hold = 0;  // the sender's number for it; of an acknowledgement: the number that it answers
    std::uint64_t ms = 0;
    std::uint32_t transactions = 0;
    std::uint32_t pinned = 0;
    Epoch epoch;
    CatalogVersion version;
    Placement place;
    std::string tenant;
};

[[nodiscard]] std::string to_line(const InstanceMessage& message);
[[nodiscard]] std::optional<InstanceMessage> message_from(std::string_view line);  // nullopt: not one of ours

}  // namespace pgporter
