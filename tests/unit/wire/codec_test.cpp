// writer.hpp and reader.hpp: what one writes, the other reads, and nothing behind it.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "proxy/wire/reader.hpp"
#include "proxy/wire/writer.hpp"

using namespace pgporter;

TEST_CASE("values go through, in network byte order") {
    std::string out;
    const std::size_t mark = begin_message(out, 'T');
    put_u8(out, 0xfe);
    put_u16(out, 0x0102);
    put_u32(out, 0xfffefdfc);
    put_cstring(out, "name");
    end_message(out, mark);
    CHECK(out == std::string("T\0\0\0\x10\xfe\x01\x02\xff\xfe\xfd\xfcname\0", 17));

    Reader reader(std::string_view(out).substr(5));
    CHECK(reader.u8() == 0xfe);
    CHECK(reader.u16() == 0x0102);
    CHECK(reader.u32() == 0xfffefdfc);
    CHECK(reader.cstring() == "name");
    CHECK(reader.empty());
    CHECK(reader.rest().empty());
}

TEST_CASE("several messages in one buffer each get their own length") {
    std::string out = "before";
    for (int i = 0; i < 2; ++i) {
        const std::size_t mark = begin_message(out, 'Q');
        put_cstring(out, "x");
        end_message(out, mark);
    }
    CHECK(out == std::string("beforeQ\0\0\0\6x\0Q\0\0\0\6x\0", 20));
}

TEST_CASE("a zero byte inside a text ends it") {
    std::string out;
    put_cstring(out, std::string_view("a\0b", 3));
    CHECK(out == std::string("a\0", 2));
}

TEST_CASE("a reader never goes past the end, and stays where it was") {
    const std::vector<char> bytes = {'a', 'b', 'c'};
    Reader reader({bytes.data(), bytes.size()});
    CHECK_FALSE(reader.u32());
    CHECK_FALSE(reader.cstring());
    CHECK_FALSE(reader.bytes(4));
    CHECK_FALSE(reader.bytes(static_cast<std::size_t>(-1)));
    CHECK(reader.rest() == "abc");
    CHECK(reader.bytes(0) == "");
    CHECK(reader.u16() == 0x6162);
    CHECK_FALSE(reader.u16());
    CHECK(reader.bytes(1) == "c");
    CHECK_FALSE(reader.u8());
    CHECK(reader.empty());
}
