#include "proxy/wire/statement_description.hpp"

#include "proxy/wire/auth_crypto.hpp"
#include "proxy/wire/reader.hpp"
#include "proxy/wire/writer.hpp"

namespace pgporter {
namespace {

constexpr std::uint32_t first_own_oid = 16'384;

}  // namespace

std::optional<std::string> results_of(std::string_view row_description, bool with_own_types) {
    Reader reader(row_description);
    const auto count = reader.u16();
    if (!count) return std::nullopt;
    std::string columns;
    for (std::uint16_t i = 0; i < *count; ++i) {
        const auto name = reader.cstring();
        const auto source = reader.bytes(6);
        const auto type = reader.u32();
        const auto size = reader.u16();
        const auto modifier = reader.u32();
        const auto format = reader.u16();
        if (!name || !source || !type || !size || !modifier || !format) return std::nullopt;
        put_cstring(columns, *name);
        put_u32(columns, *type < first_own_oid || with_own_types ? *type : 0);
        put_u32(columns, *modifier);
    }
    if (!reader.empty()) return std::nullopt;
    return "T" + std::string(as_text(sha256(columns)));
}

bool is_as_told(const StatementDescription& told, const StatementDescription& now, bool knows_parameters) {
    if (knows_parameters && told.parameters != now.parameters) return false;
    return told.place == now.place ? told.results == now.results : told.results_elsewhere == now.results_elsewhere;
}

bool is_parameter_description(std::string_view body) {
    Reader reader(body);
    const auto count = reader.u16();
    return count && reader.rest().size() == std::size_t{*count} * 4;
}

std::string with_parameters(std::string_view definition, std::string_view parameter_description) {
    Reader was(definition);
    std::string changed(was.cstring().value_or(std::string_view()));
    changed += '\0';
    const auto declared_count = was.u16().value_or(0);
    Reader told(parameter_description);
    const auto count = told.u16().value_or(0);
    put_u16(changed, count);
    for (std::uint16_t i = 0; i < count; ++i) {
        const std::uint32_t declared = i < declared_count ? was.u32().value_or(0) : 0;
        const std::uint32_t type = told.u32().value_or(0);
        put_u32(changed, type < first_own_oid ? type : declared);
    }
    return changed;
}

}  // namespace pgporter
