// A copy that was read in strides arrives as one copy, whatever its rows look like.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "admin/mover/binary_copy_frame.hpp"

using namespace pgporter;

namespace {

const std::string header = std::string("PGCOPY\n\xff\r\n\0", 11) + std::string(8, '\0');
const std::string trailer = "\xff\xff";
// id int4, code text, note null: as long as a header and a trailer, and it ends like them.
const std::string row = std::string("\0\3\0\0\0\4\0\0\0\1\0\0\0\3abc", 17) + "\xff\xff\xff\xff";

std::string framed(const std::vector<std::vector<std::string>>& strides) {
    BinaryCopyFrame frame(true);
    std::string all;
    for (const auto& messages : strides) {
        frame.begin_stride();
        for (const auto& message : messages) all += frame.rows_in(message);
        frame.end_stride();
    }
    return all += frame.end();
}

}  // namespace

TEST_CASE("strides of a binary copy are one copy: one header, every row as it is, one trailer") {
    REQUIRE(row.size() == header.size() + trailer.size());
    CHECK(framed({{header + row, row, trailer}}) == header + row + row + trailer);
    CHECK(framed({{header + row, row, trailer}, {header + row, trailer}, {header + trailer}}) == header + row + row + row + trailer);
    CHECK(framed({{header + trailer}, {header + row, row, trailer}}) == header + row + row + trailer);
    CHECK(framed({{header, row, trailer}, {header, trailer}, {header, row, row, trailer}}) == header + row + row + row + trailer);
    BinaryCopyFrame text(false);
    text.begin_stride();
    CHECK(text.rows_in(trailer) == trailer);
    CHECK(text.end().empty());
}
