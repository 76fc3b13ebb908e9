#include "admin/mover/child_process.hpp"

#include <doctest/doctest.h>

#include <thread>

using namespace pgporter;

TEST_CASE("a program reads and writes memory, its list by a path, and sees no inherited PG variables") {
    ::setenv("PGHOST", "wrong", 1);
    const Interrupt interrupt;
    auto input = MemoryFile::create("in");
    auto output = MemoryFile::create("out");
    auto list = MemoryFile::create("list");
    REQUIRE(input.has_value());
    REQUIRE(input->write("from stdin\n").has_value());
    REQUIRE(list->write("from list\n").has_value());
    const auto done = run_child({"/bin/sh",
                                 {"-c", "cat; cat /dev/fd/3; echo \"$PGHOST|$PGUSER\""},
                                 {{"PGUSER", "me"}},
                                 &*input,
                                 &*output,
                                 &*list},
                                interrupt);
    REQUIRE(done.has_value());
    CHECK(output->read_all().value() == "from stdin\nfrom list\n|me\n");
    ::unsetenv("PGHOST");
}

TEST_CASE("a program that fails says why") {
    const Interrupt interrupt;
    const auto done = run_child(
        {"/bin/sh", {"-c", "echo first >&2; echo last >&2; exit 3"}, {}, nullptr, nullptr, nullptr}, interrupt);
    REQUIRE_FALSE(done.has_value());
    CHECK(done.error().message == "/bin/sh failed with status 3");
    CHECK(done.error().detail == "first\nlast");
    const auto missing = run_child({"/nowhere/pg_dump", {}, {}, nullptr, nullptr, nullptr}, interrupt);
    REQUIRE_FALSE(missing.has_value());
    CHECK(missing.error().message.find("cannot start /nowhere/pg_dump") != std::string::npos);
}

TEST_CASE("a program that says very much is remembered by its end") {
    const Interrupt interrupt;
    const auto done = run_child({"/bin/sh",
                                 {"-c", "i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1"},
                                 {},
                                 nullptr,
                                 nullptr,
                                 nullptr},
                                interrupt);
    REQUIRE_FALSE(done.has_value());
    CHECK(done.error().detail.size() <= 4096);
    CHECK(done.error().detail.ends_with("line 2999"));
}

TEST_CASE("cancelling ends the program") {
    Interrupt interrupt;
    std::jthread canceller([&] { interrupt.cancel(); });
    const auto began = std::chrono::steady_clock::now();
    const auto done = run_child({"/bin/sleep", {"60"}, {}, nullptr, nullptr, nullptr}, interrupt);
    REQUIRE_FALSE(done.has_value());
    CHECK(done.error().kind == ErrorKind::cancelled);
    CHECK(std::chrono::steady_clock::now() - began < std::chrono::seconds(10));
}

TEST_CASE("what is shielded isn't heard") {
    Interrupt interrupt;
    interrupt.cancel();
    CHECK(interrupt.heard());
    interrupt.shield(Shield::cancel);
    CHECK_FALSE(interrupt.heard());
    CHECK(interrupt.sleep(std::chrono::milliseconds(1)));
    interrupt.stop();
    CHECK(interrupt.heard());
    interrupt.shield(Shield::all);
    CHECK_FALSE(interrupt.heard());
    interrupt.shield(Shield::none);
    CHECK_FALSE(interrupt.sleep(std::chrono::milliseconds(60'000)));
}
