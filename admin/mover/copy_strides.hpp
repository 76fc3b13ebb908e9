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

class CopyStrides {
  public:
    static constexpr std::uint64_t small_bytes = 128 * 1'024;
    static constexpr std::uint64_t moderate_bytes = 16 * 1'024 * 1'024;

    explicit CopyStrides(const CopyPart& part) : part_(part), page_(part.first_page) {}

    // By a key: how many rows the next stride shall have. Who asks finds the key of the last of them in left(): how far keys lie apart, and how many
    // rows have the same, nothing but the index tells.
    [[nodiscard]] std::optional<std::uint64_t> rows_wanted(StrideLength length) const;
    [[nodiscard]] const CopyPart& left() const { return part_; }

    // What to read next; none: everything was. All strides together are the part, each row once. By a key: up to this one, which is in left();
    // none: it has fewer rows than were wanted.
    [[nodiscard]] std::optional<CopyPart> next(StrideLength length, std::optional<std::int64_t> last_key = std::nullopt);
    // How much the last one was.
    void note(std::uint64_t rows, std::uint64_t bytes);

  private:
    enum class By { page, key, nothing };
    [[nodiscard]] static std::uint64_t bytes_of(StrideLength length);
    [[nodiscard]] static By way_of(const CopyPart& part);
    [[nodiscard]] CopyPart next_pages(std::uint64_t bytes);
    [[nodiscard]] CopyPart next_keys(std::optional<std::int64_t> last_key);
    [[nodiscard]] CopyPart rest();

    CopyPart part_;
    By by_ = way_of(part_);
    std::uint64_t page_;  // the next one to be read
    std::uint64_t rows_ = 0;       // of the last stride; 0: there was none
    std::uint64_t row_bytes_ = 0;  // as there
    bool ended_ = false;
};

}  // namespace pgporter
