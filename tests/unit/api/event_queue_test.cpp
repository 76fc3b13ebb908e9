#include "admin/api/event_queue.hpp"

#include <doctest/doctest.h>

using namespace pgporter;

namespace {

MoveEvent event(std::uint64_t sequence, const char* type, MoveState state) {
    MoveEvent out;
    out.sequence = sequence;
    out.type = type;
    out.record.id = MoveId(7);
    out.record.state = state;
    return out;
}

MoveRecord present(MoveState state) { return event(0, "state", state).record; }

std::string id_of(const std::optional<std::string>& text) {
    REQUIRE(text);
    return text->substr(0, text->find('\n'));
}

}  // namespace

TEST_CASE("an event is three lines and an empty one") {
    const auto text = event_text(event(5, "progress", MoveState::copy));
    CHECK(text.starts_with("id: 5\nevent: progress\ndata: {"));
    CHECK(text.ends_with("}\n\n"));
    CHECK(text.find('\n', text.find("data: ")) == text.size() - 2);
}

TEST_CASE("nothing is sent before the present state is known, which goes first when nothing was heard") {
    EventQueue queue;
    CHECK_FALSE(queue.pop());
    queue.begin(present(MoveState::copy));
    CHECK(queue.push(event(9, "state", MoveState::index)));
    CHECK(id_of(queue.pop()) == "id: 0");
    CHECK(id_of(queue.pop()) == "id: 9");
    CHECK_FALSE(queue.pop());
}

TEST_CASE("events that came before the present state replace it: a state never goes back") {
    EventQueue queue;
    CHECK(queue.push(event(3, "state", MoveState::copy)));
    CHECK_FALSE(queue.pop());
    queue.begin(present(MoveState::slot));
    CHECK(id_of(queue.pop()) == "id: 3");
    CHECK_FALSE(queue.pop());
}

TEST_CASE("the journal's state is told when nobody told it") {
    EventQueue queue;
    CHECK(queue.refresh(present(MoveState::slot)));
    CHECK_FALSE(queue.pop());
    queue.begin(present(MoveState::copy));
    CHECK(queue.pop());
    CHECK(queue.refresh(present(MoveState::copy)));
    CHECK_FALSE(queue.pop());
    CHECK(queue.refresh(present(MoveState::aborted)));
    CHECK(queue.pop());
    CHECK(queue.finished());
}

TEST_CASE("waiting progress is replaced by newer progress, states are kept") {
    EventQueue queue;
    queue.begin(present(MoveState::copy));
    CHECK(queue.push(event(1, "progress", MoveState::copy)));
    CHECK(queue.push(event(2, "progress", MoveState::copy)));
    CHECK(queue.push(event(3, "state", MoveState::index)));
    CHECK(queue.push(event(4, "progress", MoveState::index)));
    CHECK(id_of(queue.pop()) == "id: 0");
    CHECK(id_of(queue.pop()) == "id: 2");
    CHECK(id_of(queue.pop()) == "id: 3");
    CHECK(id_of(queue.pop()) == "id: 4");
}

TEST_CASE("the stream is finished after a finished move's event, not before") {
    EventQueue queue;
    queue.begin(present(MoveState::opened));
    CHECK(queue.push(event(1, "state", MoveState::completed)));
    CHECK(queue.pop());
    CHECK_FALSE(queue.finished());
    CHECK(queue.pop());
    CHECK(queue.finished());
    CHECK_FALSE(queue.pop());
}

TEST_CASE("a reader that doesn't read ends at the bound") {
    EventQueue queue;
    queue.begin(present(MoveState::copy));
    std::uint64_t sequence = 0;
    bool fits = true;
    while (fits && sequence < 1000) fits = queue.push(event(++sequence, "state", MoveState::verify));
    CHECK(sequence == EventQueue::events_max);
}
