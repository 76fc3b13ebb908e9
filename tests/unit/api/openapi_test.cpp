#include "admin/api/openapi.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <set>
#include <string>

#include "admin/api/routes.hpp"
#include "catalog/move.hpp"

using namespace pgporter;
namespace json = boost::json;

namespace {

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return out;
}

// Every {"$ref": "#/..."} below `value`.
void collect_refs(const json::value& value, std::set<std::string>& refs) {
    if (const auto* object = value.if_object()) {
        for (const auto& member : *object) {
            if (member.key() == "$ref") refs.insert(std::string(member.value().as_string()));
            collect_refs(member.value(), refs);
        }
    } else if (const auto* array = value.if_array()) {
        for (const auto& item : *array) collect_refs(item, refs);
    }
}

}  // namespace

TEST_CASE("the description and the route table name the same operations") {
    const auto document = json::parse(openapi_document()).as_object();
    CHECK(document.at("openapi").as_string() == "3.1.0");
    CHECK(document.at("info").as_object().at("version").as_string() == PGPORTER_VERSION);
    std::set<std::string> described;
    for (const auto& path : document.at("paths").as_object()) {
        for (const auto& operation : path.value().as_object()) {
            if (operation.key() != "parameters") described.insert(std::string(operation.key()) + " " + std::string(path.key()));
        }
    }
    std::set<std::string> routed;
    for (const auto& route : route_table()) routed.insert(lower(route.method) + " " + std::string(route.pattern));
    CHECK(described == routed);
}

TEST_CASE("every operation has an id of its own, a summary, answers, and says when no token is needed") {
    const auto document = json::parse(openapi_document()).as_object();
    std::set<std::string> ids;
    for (const auto& route : route_table()) {
        CAPTURE(route.pattern);
        const auto& operation = document.at("paths").as_object().at(route.pattern).as_object().at(lower(route.method)).as_object();
        CHECK(ids.insert(std::string(operation.at("operationId").as_string())).second);
        CHECK_FALSE(operation.at("summary").as_string().empty());
        CHECK_FALSE(operation.at("responses").as_object().empty());
        CHECK(operation.contains("security") == (route.access != Access::token));
    }
}

TEST_CASE("every reference leads somewhere") {
    const auto document = json::parse(openapi_document());
    std::set<std::string> refs;
    collect_refs(document, refs);
    CHECK(refs.size() > 10);
    for (const auto& ref : refs) {
        CAPTURE(ref);
        REQUIRE(ref.starts_with("#/"));
        boost::system::error_code ec;
        CHECK(document.find_pointer(ref.substr(1), ec) != nullptr);
    }
}

TEST_CASE("the description knows every state of a move") {
    const auto document = json::parse(openapi_document());
    const auto& states = document.at_pointer("/components/schemas/Move/properties/state/enum").as_array();
    for (int i = 0; i <= static_cast<int>(MoveState::aborted); ++i) {
        const auto name = to_text(static_cast<MoveState>(i));
        CHECK(std::count(states.begin(), states.end(), json::value(json::string(name.data(), name.size()))) == 1);
    }
    CHECK(states.size() == static_cast<std::size_t>(MoveState::aborted) + 1);
}
