#include "admin/mover/copy_strides.hpp"

#include <algorithm>

namespace pgporter {
namespace {

constexpr std::uint64_t page_bytes = 8'192;
constexpr std::uint64_t few_keys = 1'000;  // at most, to learn how much there is to a key
constexpr double grows_at_most = 4;        // from one stride to the next: keys may lie closer there

}  // namespace

// Rows that a filter selects lie anywhere in their table: reading all of it again for each stride would never end.
CopyStrides::By CopyStrides::way_of(const CopyPart& part) {
    if (!part.table->where().empty()) return By::nothing;
    return part.range.is_all() ? By::page : By::key;
}

void CopyStrides::set_key_span(const std::optional<KeySpan>& span) {
    if (!span) {
        by_ = By::nothing;
        return;
    }
    span_ = span;
    if (span->first > part_.range.above.value_or(INT64_MIN)) part_.range.above = span->first - 1;
}

std::optional<CopyPart> CopyStrides::next(StrideLength length) {
    if (ended_) return std::nullopt;
    if (length == StrideLength::all || by_ == By::nothing) return rest();
    const auto bytes = length == StrideLength::small ? small_bytes : moderate_bytes;
    return by_ == By::page ? next_pages(bytes) : next_keys(bytes);
}

CopyPart CopyStrides::rest() {
    ended_ = true;
    keys_ = 0;
    CopyPart stride = part_;
    stride.first_page = page_;
    return stride;
}

CopyPart CopyStrides::next_pages(std::uint64_t bytes) {
    const auto end = part_.end_page > 0 ? part_.end_page : part_.table->pages;
    // Behind a page of short rows there may be megabytes of TOAST.
    const auto stored = std::max<std::uint64_t>(part_.table->stored_bytes / std::max<std::uint64_t>(part_.table->pages, 1), page_bytes);
    const auto pages = std::max<std::uint64_t>(bytes / stored, 1);
    // The last one reads to wherever the part ends by now.
    if (page_ + pages >= end) return rest();
    CopyPart stride = part_;
    stride.first_page = page_;
    page_ += pages;
    stride.end_page = page_;
    return stride;
}

// As many as there would be if one followed the other.
std::uint64_t CopyStrides::first_keys(std::uint64_t bytes) const {
    const auto row_bytes = part_.table->stored_bytes / std::max<std::uint64_t>(part_.table->rows_estimate, 1);
    return std::clamp<std::uint64_t>(bytes / std::max<std::uint64_t>(row_bytes, 1), 1, few_keys);
}

CopyPart CopyStrides::next_keys(std::uint64_t bytes) {
    if (!span_ || !part_.range.above) return rest();
    const auto above = *part_.range.above;
    const double first = static_cast<double>(first_keys(bytes));
    const double wanted = keys_ > 0 ? static_cast<double>(bytes) / bytes_per_key_ : first;
    const double most = keys_ > 0 ? static_cast<double>(keys_) * grows_at_most : first;
    const auto keys = static_cast<std::uint64_t>(std::clamp(std::min(wanted, most), 1.0, 1e18));
    // Of what may be left, without overflow: keys are anywhere in the type's range.
    const auto last = part_.range.up_to ? std::min(*part_.range.up_to, span_->last) : span_->last;
    if (last <= above || static_cast<std::uint64_t>(last) - static_cast<std::uint64_t>(above) <= keys) return rest();
    CopyPart stride = part_;
    stride.range.up_to = static_cast<std::int64_t>(static_cast<std::uint64_t>(above) + keys);
    part_.range.above = stride.range.up_to;
    keys_ = keys;
    return stride;
}

void CopyStrides::note(std::uint64_t rows, std::uint64_t bytes) {
    if (by_ != By::key || keys_ == 0) return;
    bytes_per_key_ = static_cast<double>(std::max<std::uint64_t>(bytes, 1)) / static_cast<double>(keys_);
    if (rows > 0) return;
    span_.reset();
    keys_ = 0;
}

}  // namespace pgporter
