// CopyStrides: a slowed copy reads a part of a table in short strides instead of at once. Whoever reads it slowly isn't enough: the source
// would still fill its buffers in one go, a megabyte and more, and keep a processor from the neighbours for that long. Pure; one thread.
#pragma once

#include <cstdint>
#include <optional>

#include "admin/mover/copy_pieces.hpp"

namespace pgporter {

// How much at a time.
enum class StrideLength {
    all,       // whatever is left
    moderate,  // not slowed now, but somebody is there to be disturbed: the copy can be slowed soon
    small,     // slowed
};

// A table that is read by ranges of its key: the first and the last key of what is left of the part.
struct KeySpan {
    std::int64_t first = 0;
    std::int64_t last = 0;
};

class CopyStrides {
  public:
    static constexpr std::uint64_t small_bytes = 128 * 1'024;
    static constexpr std::uint64_t moderate_bytes = 16 * 1'024 * 1'024;

    explicit CopyStrides(const CopyPart& part) : part_(part), page_(part.first_page) {}

    // A part by ranges of a key needs to know it before its first stride that isn't all, and again behind a stride without rows: how wide the
    // gap is, and how close the keys lie behind it, nothing else tells.
    [[nodiscard]] bool wants_key_span() const { return by_ == By::key && !span_; }
    void set_key_span(const std::optional<KeySpan>& span);  // none: there are no more rows
    [[nodiscard]] const CopyPart& left() const { return part_; }

    // What to read next; none: everything was. All strides together are the part, each row once.
    [[nodiscard]] std::optional<CopyPart> next(StrideLength length);
    // How much the last one was.
    void note(std::uint64_t rows, std::uint64_t bytes);

  private:
    enum class By { page, key, nothing };
    [[nodiscard]] static By way_of(const CopyPart& part);
    [[nodiscard]] CopyPart next_pages(std::uint64_t bytes);
    [[nodiscard]] CopyPart next_keys(std::uint64_t bytes);
    [[nodiscard]] std::uint64_t first_keys(std::uint64_t bytes) const;
    [[nodiscard]] CopyPart rest();

    CopyPart part_;
    By by_ = way_of(part_);
    std::uint64_t page_;  // the next one to be read
    std::optional<KeySpan> span_;
    std::uint64_t keys_ = 0;         // of the last stride; 0: none was by keys
    double bytes_per_key_ = 0;       // as the last strides were; 0: not known
    bool ended_ = false;
};

}  // namespace pgporter
