#include "proxy/wire/statement_description.hpp"

#include <algorithm>
#include <limits>

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

std::optional<std::size_t> described_parameters(std::string_view body) {
    Reader reader(body);
    const auto count = reader.u16();
    const std::size_t types = reader.rest().size() / 4;
    if (!count || types * 4 != reader.rest().size() || static_cast<std::uint16_t>(types) != *count) return std::nullopt;
    return types;
}

std::string with_parameters(std::string_view definition, std::string_view parameter_description) {
    Reader was(definition);
    std::string changed(was.cstring().value_or(std::string_view()));
    changed += '\0';
    const auto declared_count = was.u16().value_or(0);
    Reader told(parameter_description);
    (void)told.u16();
    const auto count = std::min<std::size_t>(described_parameters(parameter_description).value_or(0), std::numeric_limits<std::uint16_t>::max());
    put_u16(changed, static_cast<std::uint16_t>(count));
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t declared = i < declared_count ? was.u32().value_or(0) : 0;
        const std::uint32_t type = told.u32().value_or(0);
        put_u32(changed, type < first_own_oid ? type : declared);
    }
    return changed;
}

}  // namespace pgporter
