#include "proxy/wire/frame_reader.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

using namespace pgporter;
using Event = FrameReader::Event;

namespace {

using Message = std::pair<char, std::string>;

std::string encode(const std::vector<Message>& messages) {
    std::string out;
    for (const auto& [type, body] : messages) {
        const auto header = frame_header(type, static_cast<std::uint32_t>(body.size()));
        out.append(header.data(), header.size()).append(body);
    }
    return out;
}

// Everything a reader says about some input, put together to messages again.
struct Collector {
    std::vector<Message> messages;
    bool open = false;

    Event feed(FrameReader& reader, std::string_view input) {
        for (;;) {
            std::string_view piece;
            const Event event = reader.next(input, piece);
            if (event == Event::header) {
                REQUIRE_FALSE(open);
                messages.emplace_back(reader.type(), "");
                open = reader.body_length() > 0;
                CHECK(reader.body_complete() == !open);
                CHECK(reader.at_boundary() == !open);
            } else if (event == Event::body) {
                REQUIRE(open);
                REQUIRE_FALSE(piece.empty());
                messages.back().second.append(piece);
                open = !reader.body_complete();
                CHECK((messages.back().second.size() == reader.body_length()) == !open);
            } else {
                if (event == Event::need_more) CHECK(input.empty());
                return event;
            }
        }
    }
};

const std::vector<Message> sample = {{'Q', std::string("SELECT 1\0", 9)},
                                     {'S', ""},
                                     {'d', std::string(300, 'x')},
                                     {'\xff', "any type is framed"},
                                     {'X', ""}};

}  // namespace

TEST_CASE("messages come out whole, wherever the input is split") {
    const std::string bytes = encode(sample);
    for (std::size_t split = 0; split <= bytes.size(); ++split) {
        FrameReader reader;
        Collector collector;
        CHECK(collector.feed(reader, std::string_view(bytes).substr(0, split)) == Event::need_more);
        CHECK(collector.feed(reader, std::string_view(bytes).substr(split)) == Event::need_more);
        CHECK(collector.messages == sample);
        CHECK(reader.at_boundary());
    }
}

TEST_CASE("messages come out whole, byte by byte") {
    FrameReader reader;
    Collector collector;
    CHECK(reader.at_boundary());
    const std::string bytes = encode(sample);
    for (const char byte : bytes) CHECK(collector.feed(reader, {&byte, 1}) == Event::need_more);
    CHECK(collector.messages == sample);
}

TEST_CASE("a begun header is no boundary") {
    FrameReader reader;
    Collector collector;
    const std::string bytes = encode({{'S', ""}});
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        CHECK(reader.at_boundary() == (i == 0));
        CHECK(collector.feed(reader, std::string_view(bytes).substr(i, 1)) == Event::need_more);
    }
    CHECK(reader.at_boundary());
}

TEST_CASE("a length that can't be is refused for good") {
    const std::vector<std::string> bad = {std::string("Q\0\0\0\0", 5), std::string("Q\0\0\0\3", 5), "Q\xff\xff\xff\xff",
                                          std::string("Q\x80\0\0\0", 5), std::string("Q\0\0\0\x66", 5)};
    for (const std::string& bytes : bad) {
        for (std::size_t split = 0; split < bytes.size(); ++split) {
            FrameReader reader(101);
            Collector collector;
            CHECK(collector.feed(reader, std::string_view(bytes).substr(0, split)) == Event::need_more);
            CHECK(collector.feed(reader, std::string_view(bytes).substr(split)) == Event::bad_length);
            CHECK(collector.feed(reader, encode({{'S', ""}})) == Event::bad_length);
            CHECK(collector.feed(reader, "") == Event::bad_length);
            CHECK_FALSE(reader.at_boundary());
            CHECK(collector.messages.empty());
        }
    }
}

TEST_CASE("the longest message that is allowed is allowed") {
    FrameReader reader(104);
    Collector collector;
    CHECK(collector.feed(reader, encode({{'Q', std::string(100, 'a')}})) == Event::need_more);
    CHECK(collector.messages.size() == 1);
    CHECK(collector.feed(reader, encode({{'Q', std::string(101, 'a')}})) == Event::bad_length);
}

TEST_CASE("a body is a slice of the input, not a copy") {
    FrameReader reader;
    const std::string bytes = encode({{'Q', "body"}});
    std::string_view input = bytes;
    std::string_view piece;
    REQUIRE(reader.next(input, piece) == Event::header);
    REQUIRE(reader.next(input, piece) == Event::body);
    CHECK(piece.data() == bytes.data() + 5);
    CHECK(input.empty());
}

TEST_CASE("a header's bytes") {
    const auto header = frame_header('D', 0x01020300);
    CHECK(std::string_view(header.data(), header.size()) == std::string_view("D\x01\x02\x03\x04", 5));
}

TEST_CASE("whole messages of a type are taken together, up to another type, a part, or what can't be one") {
    const std::string row("D\0\0\0\6ab", 7);
    const std::string other("C\0\0\0\4", 5);
    CHECK(whole_messages(row + row + other, 'D') == row + row);
    CHECK(whole_messages(row + row + row.substr(0, 6), 'D') == row + row);
    CHECK(whole_messages(row + row.substr(0, 3), 'D') == row);
    CHECK(whole_messages(row + std::string("D\0\0\0\3", 5), 'D') == row);
    CHECK(whole_messages(row + row, 'D') == row + row);
    CHECK(whole_messages(other + row, 'D').empty());
    CHECK(whole_messages({}, 'D').empty());
}
