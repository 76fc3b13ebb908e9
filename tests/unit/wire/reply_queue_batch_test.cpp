// Whether something that was sent is still uncommitted: a session that ends then must not let it be committed by whoever comes next.
#include <doctest/doctest.h>

#include "proxy/wire/reply_queue.hpp"

using namespace pgporter;

TEST_CASE("answered requests without a Sync leave a batch open") {
    ReplyQueue queue;
    queue.sent({Request::parse});
    queue.sent({Request::bind});
    queue.sent({Request::execute});
    queue.on_server('1');
    queue.on_server('2');
    queue.on_server('C');
    CHECK(queue.is_empty());
    CHECK(queue.status() == 'I');
    CHECK(queue.has_open_batch());
    CHECK_FALSE(queue.is_idle());
    queue.sent({Request::sync});
    CHECK_FALSE(queue.has_open_batch());
    queue.on_server('Z', 'I');
    CHECK(queue.is_idle());
}

TEST_CASE("a Query ends an open batch, a simulated reply doesn't begin one") {
    ReplyQueue queue;
    queue.sent({Request::bind});
    queue.sent({Request::query});
    CHECK_FALSE(queue.has_open_batch());
    ReplyQueue other;
    other.sent({Request::close, Handling::simulate, 1});
    CHECK_FALSE(other.has_open_batch());
    CHECK(other.take_simulated());
    CHECK(other.is_idle());
}
