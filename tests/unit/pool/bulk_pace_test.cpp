#include "proxy/pool/bulk_pace.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace pgporter;

namespace {

const std::string chunk(8'192, 'x');
const std::string ready("Z\0\0\0\5I", 6);

// As many chunks as make a result long.
void make_long(BulkPace& pace) {
    for (int i = 0; i < 31; ++i) CHECK_FALSE(pace.should_pause(chunk));
}

}  // namespace

TEST_CASE("a long result that comes in small pieces is let gather, from a quarter of a megabyte on") {
    BulkPace pace;
    make_long(pace);
    CHECK(pace.should_pause(chunk));
    CHECK(pace.should_pause(chunk));
}

TEST_CASE("pieces that are large anyway are passed on as they come") {
    BulkPace pace;
    make_long(pace);
    CHECK_FALSE(pace.should_pause(std::string(65'536, 'x')));
    CHECK(pace.should_pause(chunk));
}

TEST_CASE("a result that trickles, or has ended, isn't waited for") {
    for (const std::string& last : {std::string(100, 'x'), chunk + ready}) {
        BulkPace pace;
        make_long(pace);
        CHECK_FALSE(pace.should_pause(last));
        CHECK_FALSE(pace.should_pause(chunk));  // the next one is short until it isn't
    }
}
