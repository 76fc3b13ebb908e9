#include "admin/mover/row_snapshot.hpp"

#include <algorithm>
#include <charconv>

namespace pgporter {
namespace {

std::optional<std::uint64_t> number_before(std::string_view& text, char end) {
    const auto length = end == '\0' ? text.size() : text.find(end);
    if (length == std::string_view::npos) return std::nullopt;
    std::uint64_t number = 0;
    const auto* last = text.data() + length;
    const auto [at, error] = std::from_chars(text.data(), last, number);
    if (error != std::errc() || at != last) return std::nullopt;
    text.remove_prefix(std::min(length + 1, text.size()));
    return number;
}

}  // namespace

std::optional<RowSnapshot> RowSnapshot::parse(std::string_view text) {
    RowSnapshot snapshot;
    const auto first = number_before(text, ':');
    const auto next = first ? number_before(text, ':') : std::nullopt;
    if (!next) return std::nullopt;
    snapshot.first_running_ = *first;
    // A slot's snapshot may know that the last ones before `first` have ended, but not that they had begun.
    snapshot.next_ = std::max(*first, *next);
    while (!text.empty()) {
        const auto running = number_before(text, text.find(',') == std::string_view::npos ? '\0' : ',');
        if (!running || *running < *first || *running >= snapshot.next_) return std::nullopt;
        snapshot.running_.push_back(*running);
    }
    std::sort(snapshot.running_.begin(), snapshot.running_.end());
    return snapshot;
}

bool RowSnapshot::sees(std::uint64_t transaction) const {
    if (transaction < first_running_) return true;
    return transaction < next_ && !std::binary_search(running_.begin(), running_.end(), transaction);
}

bool RowSnapshot::sees_wire(std::uint32_t transaction) const {
    constexpr std::uint64_t range = std::uint64_t{1} << 32U;
    std::uint64_t whole = (next_ & ~(range - 1)) | transaction;
    if (whole > next_ && whole - next_ > range / 2 && whole >= range) {
        whole -= range;
    } else if (whole < next_ && next_ - whole > range / 2) {
        whole += range;
    }
    return sees(whole);
}

std::optional<std::uint64_t> RowSnapshot::lacks_of(const RowSnapshot& earlier) const {
    // Taken later, it can't have an earlier end: then it isn't of the same server's life.
    if (next_ < earlier.next_) return next_;
    const auto found = std::find_if(running_.begin(), running_.end(), [&](std::uint64_t running) { return earlier.sees(running); });
    if (found == running_.end()) return std::nullopt;
    return *found;
}

}  // namespace pgporter
