#include "admin/api/event_queue.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

namespace {

MoveEvent event(std::uint64_t sequence, const char* type, MoveState state, const char* at) {
    MoveEvent out;
    out.sequence = sequence;
    out.type = type;
    out.record.id = MoveId(7);
    out.record.state = state;
    out.record.updated_at = at;
    return out;
}

MoveRecord present(MoveState state, const char* at) { return event(0, "state", state, at).record; }

std::string id_of(const std::optional<std::string>& text) {
    REQUIRE(text);
    return text->substr(0, text->find('\n'));
}

}  // namespace

TEST_CASE("an event is three lines and an empty one") {
    const auto text = event_text(event(5, "progress", MoveState::copy, "t"));
    CHECK(text.starts_with("id: 5\nevent: progress\ndata: {"));
    CHECK(text.ends_with("}\n\n"));
    CHECK(text.find('\n', text.find("data: ")) == text.size() - 2);
}

TEST_CASE("nothing is sent before the present state, which goes first") {
    EventQueue queue;
    CHECK(queue.push(event(9, "state", MoveState::index, "t3")));
    CHECK_FALSE(queue.pop());
    queue.begin(present(MoveState::copy, "t2"));
    CHECK(id_of(queue.pop()) == "id: 8");
    CHECK(id_of(queue.pop()) == "id: 9");
    CHECK_FALSE(queue.pop());
}

TEST_CASE("what is older than the present state is dropped") {
    EventQueue queue;
    CHECK(queue.push(event(3, "state", MoveState::slot, "t1")));
    queue.begin(present(MoveState::copy, "t2"));
    CHECK(queue.push(event(4, "state", MoveState::slot, "t1")));
    CHECK(id_of(queue.pop()) == "id: 0");
    CHECK_FALSE(queue.pop());
}

TEST_CASE("waiting progress is replaced by newer progress, states are kept") {
    EventQueue queue;
    queue.begin(present(MoveState::copy, "t0"));
    CHECK(queue.push(event(1, "progress", MoveState::copy, "t1")));
    CHECK(queue.push(event(2, "progress", MoveState::copy, "t2")));
    CHECK(queue.push(event(3, "state", MoveState::index, "t3")));
    CHECK(queue.push(event(4, "progress", MoveState::index, "t4")));
    CHECK(id_of(queue.pop()) == "id: 0");
    CHECK(id_of(queue.pop()) == "id: 2");
    CHECK(id_of(queue.pop()) == "id: 3");
    CHECK(id_of(queue.pop()) == "id: 4");
}

TEST_CASE("the stream is finished after a finished move's event, not before") {
    EventQueue queue;
    queue.begin(present(MoveState::opened, "t0"));
    CHECK(queue.push(event(1, "state", MoveState::completed, "t1")));
    CHECK(queue.pop());
    CHECK_FALSE(queue.finished());
    CHECK(queue.pop());
    CHECK(queue.finished());
    CHECK_FALSE(queue.pop());
}

TEST_CASE("a reader that doesn't read ends at the bound") {
    EventQueue queue;
    queue.begin(present(MoveState::copy, "t0"));
    std::uint64_t sequence = 0;
    bool fits = true;
    while (fits && sequence < 1000) fits = queue.push(event(++sequence, "state", MoveState::verify, "t1"));
    CHECK(sequence == EventQueue::events_max);
}
