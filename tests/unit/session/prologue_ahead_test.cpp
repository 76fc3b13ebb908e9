#include "proxy/session/prologue_ahead.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "proxy/wire/frame_reader.hpp"

using namespace pgporter;
using Wipe = ServerConnection::Wipe;

namespace {

// Types in their order, and the texts of all Parse messages.
struct Said {
    std::string types;
    std::vector<std::string> parsed;
};

Said said_of(const Context& context, Wipe wipe) {
    std::string out;
    append_prologue_ahead(SettingMessages(context), wipe, out);
    Said said;
    FrameReader reader;
    std::string_view input = out;
    std::string_view piece;
    while (!input.empty()) {
        const FrameReader::Event event = reader.next(input, piece);
        if (event == FrameReader::Event::header) said.types += reader.type();
        if (event == FrameReader::Event::body && reader.type() == 'P') {
            const std::string_view sql = piece.substr(piece.find('\0') + 1);
            said.parsed.emplace_back(sql.substr(0, sql.find('\0')));
        }
    }
    CHECK(reader.at_boundary());
    return said;
}

}  // namespace

TEST_CASE("a prologue ahead holds no Sync, ends with its only Close, and its settings stand in a transaction") {
    Context context;
    context.role = "it's";
    context.search_path = "acme, \"Up per\"";
    context.settings = {{"application_name", "o'neill"}, {"app.tenant", "acme"}, {"work_mem", "1MB"}};
    const Said said = said_of(context, Wipe::discard_all);
    CHECK(said.types.find_first_of("SQH") == std::string::npos);
    CHECK(said.types.find('C') == said.types.size() - 1);
    CHECK(said.parsed == std::vector<std::string>{"DISCARD ALL", "BEGIN", "SET SESSION ROLE \"it's\"", "SET SESSION search_path TO 'acme', 'Up per'",
                                                  "SET SESSION application_name TO 'o''neill'", "SET SESSION \"app\".\"tenant\" TO 'acme'",
                                                  "SELECT pg_catalog.set_config('work_mem', '1MB', false)", "COMMIT"});
}

TEST_CASE("what wipes in parts is parsed once, and each time begins with BEGIN") {
    const Said first = said_of({}, Wipe::parts);
    const Said later = said_of({}, Wipe::prepared_parts);
    CHECK(first.parsed.front() == "BEGIN");
    CHECK(first.parsed.back() == "COMMIT");
    CHECK(later.parsed == std::vector<std::string>{"COMMIT"});
    CHECK(first.types == std::string(first.parsed.size() - 1, 'P') + later.types);
    for (const std::string& sql : first.parsed) CHECK(sql.find("DEALLOCATE") == std::string::npos);
}

TEST_CASE("an empty search_path is set, the server's default isn't") {
    Context context;
    context.has_empty_path = true;
    CHECK(said_of(context, Wipe::discard_all).parsed.at(2) == "SELECT pg_catalog.set_config('search_path', '', false)");
    CHECK(said_of({}, Wipe::discard_all).parsed.size() == 3);
}
