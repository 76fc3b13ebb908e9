#include "proxy/wire/messages.hpp"

#include <limits>

#include "base/assert.hpp"
#include "proxy/wire/message_type.hpp"
#include "proxy/wire/reader.hpp"
#include "proxy/wire/startup.hpp"
#include "proxy/wire/writer.hpp"

namespace pgporter {

namespace message {
namespace {

constexpr std::uint32_t null_length = 0xffffffff;

std::string start(char type, std::size_t body_bytes) {
    std::string out;
    out.reserve(body_bytes + 5);
    const std::size_t mark = begin_message(out, type);
    PP_ASSERT(mark == 1);
    return out;
}

std::string finish(std::string out) {
    end_message(out, 1);
    return out;
}

std::string without_body(char type) {
    return finish(start(type, 0));
}

std::string with_text(char type, std::string_view text) {
    std::string out = start(type, text.size() + 1);
    put_cstring(out, text);
    return finish(std::move(out));
}

std::string with_name(char type, char kind, std::string_view name) {
    PP_ASSERT(kind == 'S' || kind == 'P');
    std::string out = start(type, name.size() + 2);
    out.push_back(kind);
    put_cstring(out, name);
    return finish(std::move(out));
}

std::string authentication(std::uint32_t request, std::string_view data) {
    std::string out = start(code(BackendType::authentication), data.size() + 4);
    put_u32(out, request);
    out.append(data);
    return finish(std::move(out));
}

void put_count(std::string& out, std::size_t count) {
    PP_ASSERT(count <= std::numeric_limits<std::uint16_t>::max());
    put_u16(out, static_cast<std::uint16_t>(count));
}

// Also for what precedes a value that has a length: NULL is a length of -1.
void put_values(std::string& out, const std::vector<std::optional<std::string>>& values) {
    put_count(out, values.size());
    for (const auto& value : values) {
        if (!value) {
            put_u32(out, null_length);
            continue;
        }
        PP_ASSERT(value->size() < std::numeric_limits<std::int32_t>::max());
        put_u32(out, static_cast<std::uint32_t>(value->size()));
        out.append(*value);
    }
}

std::size_t bytes_of(const std::vector<std::optional<std::string>>& values) {
    std::size_t sum = 2;
    for (const auto& value : values) sum += 4 + (value ? value->size() : 0);
    return sum;
}

}  // namespace

std::string ready_for_query(char status) {
    std::string out = start(code(BackendType::ready_for_query), 1);
    out.push_back(status);
    return finish(std::move(out));
}

std::string parameter_status(std::string_view name, std::string_view value) {
    std::string out = start(code(BackendType::parameter_status), name.size() + value.size() + 2);
    put_cstring(out, name);
    put_cstring(out, value);
    return finish(std::move(out));
}

std::string backend_key_data(std::uint32_t pid, std::string_view key) {
    PP_ASSERT(key.size() >= cancel_key_bytes_min && key.size() <= cancel_key_bytes_max);
    std::string out = start(code(BackendType::backend_key_data), key.size() + 4);
    put_u32(out, pid);
    out.append(key);
    return finish(std::move(out));
}

std::string authentication_ok() {
    return authentication(0, {});
}

std::string authentication_sasl(const std::vector<std::string>& mechanisms) {
    std::string data;
    for (const std::string& mechanism : mechanisms) put_cstring(data, mechanism);
    data.push_back('\0');
    return authentication(10, data);
}

std::string authentication_sasl_continue(std::string_view data) {
    return authentication(11, data);
}

std::string authentication_sasl_final(std::string_view data) {
    return authentication(12, data);
}

std::string command_complete(std::string_view tag) {
    return with_text(code(BackendType::command_complete), tag);
}

std::string parse_complete() {
    return without_body(code(BackendType::parse_complete));
}

std::string bind_complete() {
    return without_body(code(BackendType::bind_complete));
}

std::string close_complete() {
    return without_body(code(BackendType::close_complete));
}

std::string no_data() {
    return without_body(code(BackendType::no_data));
}

std::string empty_query_response() {
    return without_body(code(BackendType::empty_query));
}

std::string parameter_description(const std::vector<std::uint32_t>& type_oids) {
    std::string out = start(code(BackendType::parameter_description), 2 + 4 * type_oids.size());
    put_count(out, type_oids.size());
    for (const std::uint32_t oid : type_oids) put_u32(out, oid);
    return finish(std::move(out));
}

std::string row_description(const std::vector<TextColumn>& columns) {
    std::string out = start(code(BackendType::row_description), 2 + 32 * columns.size());
    put_count(out, columns.size());
    for (const TextColumn& column : columns) {
        put_cstring(out, column.name);
        put_u32(out, 0);  // of no table
        put_u16(out, 0);  // of no table's column
        put_u32(out, column.type_oid);
        put_u16(out, 0xffff);      // -1: of varying length
        put_u32(out, 0xffffffff);  // -1: no type modifier
        put_u16(out, 0);           // text
    }
    return finish(std::move(out));
}

std::string data_row(const std::vector<std::optional<std::string>>& values) {
    std::string out = start(code(BackendType::data_row), bytes_of(values));
    put_values(out, values);
    return finish(std::move(out));
}

std::string query(std::string_view sql) {
    return with_text(code(FrontendType::query), sql);
}

std::string parse(std::string_view name, std::string_view sql, const std::vector<std::uint32_t>& oids) {
    std::string out = start(code(FrontendType::parse), name.size() + sql.size() + 4 + 4 * oids.size());
    put_cstring(out, name);
    put_cstring(out, sql);
    put_count(out, oids.size());
    for (const std::uint32_t oid : oids) put_u32(out, oid);
    return finish(std::move(out));
}

std::string bind_text(std::string_view portal, std::string_view statement,
                      const std::vector<std::optional<std::string>>& parameters) {
    std::string out = start(code(FrontendType::bind), portal.size() + statement.size() + 6 + bytes_of(parameters));
    put_cstring(out, portal);
    put_cstring(out, statement);
    put_u16(out, 0);  // no format codes: every parameter is text
    put_values(out, parameters);
    put_u16(out, 0);  // no format codes: every result is text
    return finish(std::move(out));
}

std::string describe(char kind, std::string_view name) {
    return with_name(code(FrontendType::describe), kind, name);
}

std::string execute(std::string_view portal, std::uint32_t rows_max) {
    std::string out = start(code(FrontendType::execute), portal.size() + 5);
    put_cstring(out, portal);
    put_u32(out, rows_max);
    return finish(std::move(out));
}

std::string close(char kind, std::string_view name) {
    return with_name(code(FrontendType::close), kind, name);
}

std::string sync() {
    return without_body(code(FrontendType::sync));
}

std::string flush() {
    return without_body(code(FrontendType::flush));
}

std::string terminate() {
    return without_body(code(FrontendType::terminate));
}

std::string copy_fail(std::string_view reason) {
    return with_text(code(FrontendType::copy_fail), reason);
}

std::string sasl_initial_response(std::string_view mechanism, std::string_view data) {
    std::string out = start(code(FrontendType::password), mechanism.size() + data.size() + 5);
    put_cstring(out, mechanism);
    put_u32(out, static_cast<std::uint32_t>(data.size()));
    out.append(data);
    return finish(std::move(out));
}

std::string sasl_response(std::string_view data) {
    std::string out = start(code(FrontendType::password), data.size());
    out.append(data);
    return finish(std::move(out));
}

std::string password_message(std::string_view password) {
    return with_text(code(FrontendType::password), password);
}

}  // namespace message

std::optional<std::vector<std::optional<std::string_view>>> parse_data_row(std::string_view body) {
    Reader reader(body);
    const auto count = reader.u16();
    // Every column takes at least its length: a count that can't be true must not make us reserve for it.
    if (!count || reader.rest().size() < std::size_t{4} * *count) return std::nullopt;
    std::vector<std::optional<std::string_view>> values;
    values.reserve(*count);
    for (std::uint16_t i = 0; i < *count; ++i) {
        const auto length = reader.u32();
        if (!length) return std::nullopt;
        if (*length == message::null_length) {
            values.emplace_back(std::nullopt);
            continue;
        }
        const auto value = reader.bytes(*length);
        if (!value) return std::nullopt;
        values.emplace_back(*value);
    }
    if (!reader.empty()) return std::nullopt;
    return values;
}

std::optional<std::pair<std::string_view, std::string_view>> parse_parameter_status(std::string_view body) {
    Reader reader(body);
    const auto name = reader.cstring();
    const auto value = name ? reader.cstring() : std::nullopt;
    if (!value || !reader.empty()) return std::nullopt;
    return std::pair(*name, *value);
}

std::optional<BackendKeyData> parse_backend_key_data(std::string_view body) {
    Reader reader(body);
    const auto pid = reader.u32();
    const std::string_view key = reader.rest();
    if (!pid || key.size() < cancel_key_bytes_min || key.size() > cancel_key_bytes_max) return std::nullopt;
    return BackendKeyData{*pid, key};
}

std::optional<std::string_view> parse_command_tag(std::string_view body) {
    Reader reader(body);
    const auto tag = reader.cstring();
    if (!tag || !reader.empty()) return std::nullopt;
    return tag;
}

std::optional<SaslInitialResponse> parse_sasl_initial_response(std::string_view body) {
    Reader reader(body);
    const auto mechanism = reader.cstring();
    const auto length = mechanism ? reader.u32() : std::nullopt;
    if (!length) return std::nullopt;
    if (*length == message::null_length) {
        if (!reader.empty()) return std::nullopt;
        return SaslInitialResponse{*mechanism, std::nullopt};
    }
    const auto data = reader.bytes(*length);
    if (!data || !reader.empty()) return std::nullopt;
    return SaslInitialResponse{*mechanism, data};
}

}  // namespace pgporter
