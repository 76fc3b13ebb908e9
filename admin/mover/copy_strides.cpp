#include "admin/mover/copy_strides.hpp"

#include <algorithm>

namespace pgporter {
namespace {

constexpr std::uint64_t page_bytes = 8'192;
constexpr std::uint64_t grows_at_most = 4;  // from one stride to the next: rows may be larger there

}  // namespace

// Rows that a filter selects lie anywhere in their table: reading all of it again for each stride would never end.
CopyStrides::By CopyStrides::way_of(const CopyPart& part) {
    if (!part.table->where().empty()) return By::nothing;
    return part.range.is_all() ? By::page : By::key;
}

std::uint64_t CopyStrides::bytes_of(StrideLength length) {
    return length == StrideLength::small ? small_bytes : moderate_bytes;
}

std::optional<std::uint64_t> CopyStrides::rows_wanted(StrideLength length) const {
    if (ended_ || length == StrideLength::all || by_ != By::key) return std::nullopt;
    const auto usual_bytes = part_.table->stored_bytes / std::max<std::uint64_t>(part_.table->rows_estimate, 1);
    const auto wanted = bytes_of(length) / std::max<std::uint64_t>(rows_ > 0 ? row_bytes_ : usual_bytes, 1);
    // How large the first rows are isn't known yet.
    const auto most = rows_ > 0 ? rows_ * grows_at_most : small_bytes / 100;
    return std::clamp<std::uint64_t>(wanted, 1, most);
}

std::optional<CopyPart> CopyStrides::next(StrideLength length, std::optional<std::int64_t> last_key) {
    if (ended_) return std::nullopt;
    if (length == StrideLength::all || by_ == By::nothing) return rest();
    return by_ == By::page ? next_pages(bytes_of(length)) : next_keys(last_key);
}

CopyPart CopyStrides::rest() {
    ended_ = true;
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

CopyPart CopyStrides::next_keys(std::optional<std::int64_t> last_key) {
    if (!last_key || last_key == part_.range.up_to) return rest();
    CopyPart stride = part_;
    stride.range.up_to = last_key;
    part_.range.above = last_key;
    return stride;
}

void CopyStrides::note(std::uint64_t rows, std::uint64_t bytes) {
    if (rows == 0) return;
    rows_ = rows;
    row_bytes_ = bytes / rows;
}

}  // namespace pgporter
