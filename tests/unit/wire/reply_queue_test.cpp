// Each case is a conversation: "P B E S" sends requests, "<1 2 C ZI" hears replies (ReadyForQuery with its status), "?..." states what must hold.
#include "proxy/wire/reply_queue.hpp"

#include <doctest/doctest.h>

#include <sstream>
#include <string>

using namespace pgporter;

namespace {

Request request_of(char type) {
    switch (type) {
        case 'Q': return Request::query;
        case 'P': return Request::parse;
        case 'B': return Request::bind;
        case 'D': return Request::describe;
        case 'C': return Request::close;
        case 'E': return Request::execute;
        case 'F': return Request::function_call;
        case 'S': return Request::sync;
        default: return Request::copy_end;
    }
}

void send(ReplyQueue& queue, const std::string& requests) {
    std::istringstream words(requests);
    for (std::string word; words >> word;) queue.sent({request_of(word[0])});
}

// Every reply must be expected; returns how many were to be passed on.
int hear(ReplyQueue& queue, const std::string& replies) {
    std::istringstream words(replies);
    int forwarded = 0;
    for (std::string word; words >> word;) {
        const auto outcome = queue.on_server(word[0], word.size() > 1 ? word[1] : '\0');
        CAPTURE(word);
        CHECK_FALSE(outcome.unexpected);
        forwarded += outcome.handling == Handling::forward ? 1 : 0;
    }
    return forwarded;
}

}  // namespace

TEST_CASE("a simple query owes everything up to its ReadyForQuery") {
    ReplyQueue queue;
    send(queue, "Q");
    CHECK_FALSE(queue.is_idle());
    hear(queue, "T D D C T D C");
    CHECK_FALSE(queue.is_empty());
    hear(queue, "ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("an open transaction is not idle though nothing is owed") {
    ReplyQueue queue;
    send(queue, "Q");
    hear(queue, "C ZT");
    CHECK(queue.is_empty());
    CHECK_FALSE(queue.is_idle());
    send(queue, "Q");
    hear(queue, "E ZE");
    CHECK_FALSE(queue.is_idle());
    send(queue, "Q");
    hear(queue, "C ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("the lease does not end at the first ReadyForQuery of a pipeline") {
    ReplyQueue queue;
    send(queue, "P B E S P B E S");
    hear(queue, "1 2 D C ZI");
    CHECK_FALSE(queue.is_idle());
    hear(queue, "1 2 D C ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("requests without Sync keep the lease after all their replies") {
    ReplyQueue queue;
    send(queue, "Q");
    hear(queue, "C ZT");
    send(queue, "P B E");
    hear(queue, "1 2 D s");
    CHECK(queue.is_empty());
    CHECK_FALSE(queue.is_idle());
}

TEST_CASE("describe ends with RowDescription or NoData") {
    ReplyQueue queue;
    send(queue, "P D D B D E S");
    hear(queue, "1 t T t n 2 T D C ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("an extended-protocol error voids everything up to the Sync") {
    ReplyQueue queue;
    send(queue, "P B E P B E S P B E S");
    hear(queue, "1 2 E");
    CHECK_FALSE(queue.is_skipping());
    hear(queue, "ZI 1 2 C ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("a Query inside the skipped region owes no ReadyForQuery") {
    ReplyQueue queue;
    send(queue, "P B E Q S");
    hear(queue, "E ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("after an error without Sync nothing is owed until the Sync is sent") {
    ReplyQueue queue;
    send(queue, "P B");
    hear(queue, "E");
    CHECK(queue.is_skipping());
    CHECK_FALSE(queue.sent({Request::execute}));
    CHECK_FALSE(queue.sent({Request::query}));
    CHECK(queue.is_empty());
    CHECK(queue.sent({Request::sync}));
    hear(queue, "ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("an error of a Query skips nothing") {
    ReplyQueue queue;
    send(queue, "Q Q");
    hear(queue, "E ZI");
    CHECK_FALSE(queue.is_empty());
    hear(queue, "T D C ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("an error at Sync, as a deferred constraint makes one, leaves its ReadyForQuery owed") {
    ReplyQueue queue;
    send(queue, "P B E S");
    hear(queue, "1 2 C E");
    CHECK_FALSE(queue.is_empty());
    hear(queue, "ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("a function call ends with ReadyForQuery") {
    ReplyQueue queue;
    send(queue, "F");
    hear(queue, "V ZI");
    CHECK(queue.is_idle());
    send(queue, "F");
    hear(queue, "E ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("Sync sent while the server reads COPY data is ignored, before and after CopyInResponse is heard") {
    ReplyQueue queue;
    send(queue, "P B E S");  // psycopg style: the Sync goes out with the COPY
    hear(queue, "1 2 G");
    CHECK(queue.is_copying_in());
    send(queue, "S");  // a stray one
    send(queue, "c S");
    CHECK_FALSE(queue.is_copying_in());
    hear(queue, "C ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("COPY whose data was sent before the server answered") {
    ReplyQueue queue;
    send(queue, "B E c S");
    hear(queue, "2 G C ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("COPY in a simple query: done, failed by the client, failed by the server") {
    for (const char* end : {"c", "f"}) {
        ReplyQueue queue;
        send(queue, "Q");
        hear(queue, "G");
        send(queue, end);
        hear(queue, *end == 'c' ? "C ZI" : "E ZI");
        CHECK(queue.is_idle());
    }
    ReplyQueue queue;
    send(queue, "Q");
    hear(queue, "G E ZI");
    CHECK(queue.is_idle());
    send(queue, "c");  // the client had not heard of the error yet: the server ignores it
    CHECK(queue.is_idle());
}

TEST_CASE("a COPY that fails before it starts leaves no stale CopyDone behind") {
    ReplyQueue queue;
    send(queue, "Q c");
    hear(queue, "E ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("two COPYs in one query") {
    ReplyQueue queue;
    send(queue, "Q");
    hear(queue, "G");
    send(queue, "c");
    hear(queue, "C G");
    CHECK(queue.is_copying_in());
    send(queue, "c");
    hear(queue, "C ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("COPY out") {
    ReplyQueue queue;
    send(queue, "Q");
    hear(queue, "H d d c C ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("a failed COPY in the extended protocol skips to the Sync behind CopyDone") {
    ReplyQueue queue;
    send(queue, "P B E S");
    hear(queue, "1 2 G");
    hear(queue, "E");
    CHECK(queue.is_skipping());
    CHECK_FALSE(queue.sent({Request::copy_end}));
    send(queue, "S");
    hear(queue, "ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("swallowed replies are ours, their failure is the client's") {
    ReplyQueue queue;
    queue.sent({Request::parse, Handling::swallow, 7});
    send(queue, "B E S");
    CHECK(hear(queue, "1") == 0);
    CHECK(hear(queue, "2 C ZI") == 3);

    queue.sent({Request::parse, Handling::swallow, 8});
    send(queue, "B E S");
    CHECK(hear(queue, "E") == 1);
    REQUIRE(queue.trimmed().size() == 3);
    CHECK(queue.trimmed().back().tag == 8);  // newest first
    hear(queue, "ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("simulated replies come out in their turn, and vanish where the server would have skipped them") {
    ReplyQueue queue;
    send(queue, "B E");
    queue.sent({Request::close, Handling::simulate, 3});
    send(queue, "S");
    CHECK_FALSE(queue.take_simulated());
    hear(queue, "2 C");
    const auto closed = queue.take_simulated();
    REQUIRE(closed);
    CHECK(closed->tag == 3);
    hear(queue, "ZI");
    CHECK(queue.is_idle());

    send(queue, "B E");
    queue.sent({Request::close, Handling::simulate, 4});
    send(queue, "S");
    hear(queue, "E");
    CHECK(queue.trimmed().size() == 3);
    CHECK_FALSE(queue.take_simulated());
    hear(queue, "ZI");
    CHECK(queue.is_idle());
}

TEST_CASE("a reply to nothing is a broken server, an unsolicited error is not") {
    ReplyQueue queue;
    CHECK(queue.on_server('D').unexpected);
    CHECK(queue.on_server('Z', 'I').unexpected);
    CHECK_FALSE(queue.on_server('E').unexpected);
    send(queue, "P");
    CHECK(queue.on_server('2').unexpected);
}

TEST_CASE("many requests in flight keep their order") {
    ReplyQueue queue;
    for (int i = 0; i < 10'000; ++i) send(queue, "B E S");
    CHECK(queue.size() == 30'000);
    for (int i = 0; i < 10'000; ++i) hear(queue, "2 C ZI");
    CHECK(queue.is_idle());
}
