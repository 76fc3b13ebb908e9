#include "admin/mover/pgoutput.hpp"

#include <utility>

namespace pgporter::pgoutput {
namespace {

// Reads big-endian numbers and texts; once it ran over the end, everything it gives is empty and ok() is false.
class Reader {
  public:
    explicit Reader(std::string_view bytes) : bytes_(bytes) {}

    [[nodiscard]] bool ok() const { return ok_; }
    [[nodiscard]] bool done() const { return ok_ && bytes_.empty(); }
    [[nodiscard]] std::size_t left() const { return bytes_.size(); }

    std::string_view take(std::size_t length) {
        if (!ok_ || length > bytes_.size()) {
            ok_ = false;
            bytes_ = {};
            return {};
        }
        const auto taken = bytes_.substr(0, length);
        bytes_.remove_prefix(length);
        return taken;
    }
    std::uint64_t number(std::size_t length) {
        std::uint64_t value = 0;
        for (const char c : take(length)) value = (value << 8) | static_cast<unsigned char>(c);
        return value;
    }
    std::uint8_t u8() { return static_cast<std::uint8_t>(number(1)); }
    char letter() { return static_cast<char>(u8()); }
    std::uint16_t u16() { return static_cast<std::uint16_t>(number(2)); }
    std::uint32_t u32() { return static_cast<std::uint32_t>(number(4)); }
    std::uint64_t u64() { return number(8); }
    Lsn lsn() { return Lsn{u64()}; }
    std::string text() {  // ends with a zero byte
        const auto end = bytes_.find('\0');
        if (end == std::string_view::npos) {
            take(bytes_.size() + 1);
            return {};
        }
        std::string value(take(end));
        take(1);
        return value;
    }

  private:
    std::string_view bytes_;
    bool ok_ = true;
};

bool read_tuple(Reader& reader, Tuple& tuple) {
    const auto columns = reader.u16();
    // Each value takes at least a byte: a length that lies can't make us allocate.
    if (columns > reader.left()) return false;
    tuple.reserve(columns);
    for (std::uint16_t i = 0; i < columns; ++i) {
        Value value;
        switch (reader.letter()) {
            case 'n':
                value.kind = ValueKind::null;
                break;
            case 'u':
                value.kind = ValueKind::unchanged_toast;
                break;
            case 't':
                value = {ValueKind::text, reader.take(reader.u32())};
                break;
            case 'b':
                value = {ValueKind::binary, reader.take(reader.u32())};
                break;
            default:
                return false;
        }
        tuple.push_back(value);
    }
    return reader.ok();
}

std::optional<OldRow> old_row_kind(char letter) {
    if (letter == 'K') return OldRow::key;
    if (letter == 'O') return OldRow::full;
    return std::nullopt;
}

std::optional<Message> read_relation(Reader& reader) {
    Relation relation;
    relation.id = reader.u32();
    relation.schema = reader.text();
    relation.name = reader.text();
    relation.replica_identity = reader.letter();
    const auto columns = reader.u16();
    if (columns > reader.left()) return std::nullopt;
    relation.columns.reserve(columns);
    for (std::uint16_t i = 0; i < columns; ++i) {
        Column column;
        column.key = (reader.u8() & 1U) != 0;
        column.name = reader.text();
        column.type = reader.u32();
        column.type_modifier = static_cast<std::int32_t>(reader.u32());
        relation.columns.push_back(std::move(column));
    }
    return relation;
}

std::optional<Message> read_insert(Reader& reader) {
    Insert insert;
    insert.relation = reader.u32();
    if (reader.letter() != 'N' || !read_tuple(reader, insert.row)) return std::nullopt;
    return insert;
}

std::optional<Message> read_update(Reader& reader) {
    Update update;
    update.relation = reader.u32();
    char letter = reader.letter();
    if (const auto kind = old_row_kind(letter)) {
        update.old_kind = *kind;
        if (!read_tuple(reader, update.old_row)) return std::nullopt;
        letter = reader.letter();
    }
    if (letter != 'N' || !read_tuple(reader, update.row)) return std::nullopt;
    return update;
}

std::optional<Message> read_delete(Reader& reader) {
    Delete deletion;
    deletion.relation = reader.u32();
    const auto kind = old_row_kind(reader.letter());
    if (!kind || !read_tuple(reader, deletion.old_row)) return std::nullopt;
    deletion.old_kind = *kind;
    return deletion;
}

std::optional<Message> read_truncate(Reader& reader) {
    Truncate truncate;
    const auto count = reader.u32();
    const auto options = reader.u8();
    truncate.cascade = (options & 1U) != 0;
    truncate.restart_identity = (options & 2U) != 0;
    if (count > reader.left() / 4) return std::nullopt;
    for (std::uint32_t i = 0; i < count; ++i) truncate.relations.push_back(reader.u32());
    return truncate;
}

std::optional<Message> read_logical_message(Reader& reader) {
    LogicalMessage message;
    message.transactional = (reader.u8() & 1U) != 0;
    message.lsn = reader.lsn();
    message.prefix = reader.text();
    message.content = reader.take(reader.u32());
    return message;
}

std::optional<Message> read_commit(Reader& reader) {
    Commit commit;
    reader.u8();  // flags, unused by the protocol
    commit.commit_lsn = reader.lsn();
    commit.end_lsn = reader.lsn();
    commit.commit_time = static_cast<std::int64_t>(reader.u64());
    return commit;
}

std::optional<Message> read_any(Reader& reader) {
    switch (reader.letter()) {
        case 'B': {
            Begin begin;
            begin.final_lsn = reader.lsn();
            begin.commit_time = static_cast<std::int64_t>(reader.u64());
            begin.xid = reader.u32();
            return begin;
        }
        case 'C':
            return read_commit(reader);
        case 'O': {
            Origin origin;
            origin.commit_lsn = reader.lsn();
            origin.name = reader.text();
            return origin;
        }
        case 'R':
            return read_relation(reader);
        case 'Y': {
            Type type;
            type.id = reader.u32();
            type.schema = reader.text();
            type.name = reader.text();
            return type;
        }
        case 'I':
            return read_insert(reader);
        case 'U':
            return read_update(reader);
        case 'D':
            return read_delete(reader);
        case 'T':
            return read_truncate(reader);
        case 'M':
            return read_logical_message(reader);
        default:
            return std::nullopt;
    }
}

}  // namespace

std::optional<Message> decode(std::string_view bytes) {
    Reader reader(bytes);
    auto message = read_any(reader);
    if (!reader.done()) return std::nullopt;
    return message;
}

}  // namespace pgporter::pgoutput
