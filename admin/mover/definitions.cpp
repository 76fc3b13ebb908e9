#include "admin/mover/definitions.hpp"

#include <algorithm>
#include <charconv>
#include <map>

namespace pgporter {
namespace {

constexpr std::uint32_t builds_per_job = 2;           // each build ends with a wait for the disk; another one uses it

std::vector<std::string_view> lines_of(std::string_view text) {
    std::vector<std::string_view> lines;
    while (!text.empty()) {
        const auto end = text.find('\n');
        lines.push_back(text.substr(0, end));
        text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    }
    return lines;
}

// "123; 2606 16402 CONSTRAINT acme orders orders_pkey app" > what follows the two numbers.
std::string_view entry_text(std::string_view line) {
    const auto semicolon = line.find("; ");
    if (line.empty() || line[0] == ';' || semicolon == std::string_view::npos) return {};
    auto rest = line.substr(semicolon + 2);
    for (int numbers = 0; numbers < 2; ++numbers) {
        const auto space = rest.find(' ');
        if (space == std::string_view::npos) return {};
        rest.remove_prefix(space + 1);
    }
    return rest;
}

// The database of a client program as a connection string of its own: a name that looks like one must not be taken for
// one.
std::string database_argument(const LibpqParams& params) {
    for (const auto& [name, value] : params.keywords) {
        if (name != "dbname") continue;
        std::string quoted = "--dbname=dbname='";
        for (const char c : value) {
            if (c == '\'' || c == '\\') quoted += '\\';
            quoted += c;
        }
        // A server that vanishes is noticed, as on our own connections.
        return quoted + "' keepalives_idle=10 keepalives_interval=3 keepalives_count=3 tcp_user_timeout=15000";
    }
    return "--dbname=dbname=''";
}

// PGOPTIONS for those who build indexes.
void add_option(std::vector<std::pair<std::string, std::string>>& environment, const std::string& option) {
    for (auto& [name, value] : environment) {
        if (name == "PGOPTIONS") {
            value += " " + option;
            return;
        }
    }
    environment.emplace_back("PGOPTIONS", option);
}

// `jobs` 0: in one transaction.
Result<void> restore(const MoveServers& servers, const MemoryFile& archive, const std::vector<std::string>* list, std::uint32_t jobs = 0) {
    const auto params = servers.target_params();
    std::vector<std::string> arguments{"--exit-on-error", "--no-password", database_argument(params)};
    ChildProcess child{servers.config().mover.pg_restore, {}, client_environment(params), &archive, nullptr, nullptr};
    if (jobs == 0) {
        arguments.emplace_back("--single-transaction");
    } else {
        // Each job opens the archive by this name and reads it by itself.
        arguments.insert(arguments.end(), {"--jobs=" + std::to_string(jobs), "/dev/fd/0"});
        add_option(child.environment, "-c synchronous_commit=off -c maintenance_work_mem=" + std::to_string(servers.config().mover.index_memory_mib) + "MB");
    }
    auto list_file = MemoryFile::create("pgporter_list");
    if (!list_file) return list_file.error();
    if (list != nullptr) {
        std::string text;
        for (const auto& line : *list) text += line + "\n";
        PP_TRY(list_file->write(text));
        child.list = &*list_file;
        arguments.emplace_back("--use-list=/dev/fd/3");
    }
    child.arguments = std::move(arguments);
    auto witness = servers.target();
    if (!witness) return witness.error();
    auto done = run_child(child, servers.interrupt());
    if (done && jobs > 0) done = (*witness)->flush_log();
    if (done) return {};
    auto error = done.error();
    if (error.kind != ErrorKind::cancelled) error.message = "the definitions couldn't be restored: " + error.message;
    return error;
}

}  // namespace

IndexEntries::IndexEntries(const std::vector<TableIndex>& indexes) {
    for (const auto& index : indexes) {
        texts_.insert("CONSTRAINT " + index.schema + " " + index.table + " " + index.name);
        texts_.insert("INDEX " + index.schema + " " + index.name);
    }
}

bool IndexEntries::makes_one(std::string_view line) const {
    auto text = entry_text(line);
    if (!text.starts_with("CONSTRAINT ") && !text.starts_with("INDEX ")) return false;
    // Its end is the owner's name, and any name may have blanks.
    for (auto blank = text.rfind(' '); blank != std::string_view::npos; blank = text.rfind(' ')) {
        text = text.substr(0, blank);
        if (texts_.contains(std::string(text))) return true;
    }
    return false;
}

bool is_left_out(std::string_view line, const std::vector<std::string>& target_schemas) {
    const auto text = entry_text(line);
    const auto is_there = [&](const std::string& schema) { return text.starts_with("SCHEMA - " + schema + " "); };
    return std::any_of(target_schemas.begin(), target_schemas.end(), is_there) ||
           (text.starts_with("TRIGGER ") && (text.find(" pgporter_fence_") != std::string_view::npos ||
                                             text.find(" pgporter_back_fence_") != std::string_view::npos));
}

std::vector<std::pair<std::string, std::string>> client_environment(const LibpqParams& params) {
    static const std::map<std::string_view, const char*> names{{"host", "PGHOST"},
                                                               {"hostaddr", "PGHOSTADDR"},
                                                               {"port", "PGPORT"},
                                                               {"dbname", "PGDATABASE"},
                                                               {"user", "PGUSER"},
                                                               {"sslmode", "PGSSLMODE"},
                                                               {"sslrootcert", "PGSSLROOTCERT"},
                                                               {"connect_timeout", "PGCONNECT_TIMEOUT"},
                                                               {"application_name", "PGAPPNAME"},
                                                               {"options", "PGOPTIONS"},
                                                               {"target_session_attrs", "PGTARGETSESSIONATTRS"},
                                                               {"sslsni", "PGSSLSNI"},
                                                               {"gssencmode", "PGGSSENCMODE"},
                                                               {"channel_binding", "PGCHANNELBINDING"},
                                                               {"client_encoding", "PGCLIENTENCODING"},
                                                               {"require_auth", "PGREQUIREAUTH"}};
    std::vector<std::pair<std::string, std::string>> environment;
    for (const auto& [keyword, value] : params.keywords) {
        if (const auto found = names.find(keyword); found != names.end())
            environment.emplace_back(found->second, value);
    }
    if (!params.password.empty()) environment.emplace_back("PGPASSWORD", std::string(params.password.reveal()));
    return environment;
}

Result<int> tool_major_version(const std::string& program, const Interrupt& interrupt) {
    auto output = MemoryFile::create("pgporter_version");
    if (!output) return output.error();
    PP_TRY(run_child({program, {"--version"}, {}, nullptr, &*output, nullptr}, interrupt));
    auto text = output->read_all();
    if (!text) return text.error();
    const auto digits = text->find_first_of("0123456789");  // "pg_dump (PostgreSQL) 15.4"
    int version = 0;
    if (digits != std::string::npos) std::from_chars(text->data() + digits, text->data() + text->size(), version);
    if (version == 0) return fail(ErrorKind::internal, program + " didn't say its version");
    return version;
}

Result<std::vector<TableIndex>> read_indexes(ServerSession& session, const SchemaList& schemas) {
    auto rows = session.exec(
        "SELECT n.nspname, c.relname, x.relname, CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END, "
        "i.indisunique OR i.indisexclusion FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY ($1::text[])",
        {schemas.as_array()});
    if (!rows) return rows.error();
    std::vector<TableIndex> indexes;
    for (int row = 0; row < rows->count(); ++row) {
        indexes.push_back({rows->string(row, 0), rows->string(row, 1), rows->string(row, 2), rows->flag(row, 3), rows->flag(row, 4)});
    }
    return indexes;
}

Result<Definitions> Definitions::dump(const MoveServers& servers) {
    auto archive = MemoryFile::create("pgporter_definitions");
    if (!archive) return archive.error();
    std::vector<std::string> arguments{"--format=custom", "--schema-only", "--strict-names", "--no-password", "--no-tablespaces",
                                       "--no-publications", "--no-subscriptions", "--lock-wait-timeout=10000"};
    for (const auto& schema : servers.schemas().names()) arguments.push_back("--schema=" + quote_ident(schema));
    ChildProcess child{servers.config().mover.pg_dump, std::move(arguments), client_environment(servers.source_params()), nullptr, &*archive,
                       nullptr};
    auto done = run_child(child, servers.interrupt());
    if (!done) {
        auto error = done.error();
        if (error.kind != ErrorKind::cancelled) error.message = "the definitions couldn't be read: " + error.message;
        return error;
    }
    return Definitions(std::move(*archive));
}

Result<std::vector<std::string>> Definitions::list(const MoveServers& servers, const char* section) const {
    auto output = MemoryFile::create("pgporter_list");
    if (!output) return output.error();
    PP_TRY(run_child({servers.config().mover.pg_restore, {"--list", section}, {}, &archive_, &*output, nullptr}, servers.interrupt()));
    auto text = output->read_all();
    if (!text) return text.error();
    std::vector<std::string> entries;
    for (const auto line : lines_of(*text)) {
        if (!entry_text(line).empty() && !is_left_out(line, target_schemas_)) entries.emplace_back(line);
    }
    return entries;
}

Result<void> Definitions::restore_before_data(const MoveServers& servers) {
    // Two names of which one begins with the other and a blank are the only ones that could be mistaken: then it fails, loudly.
    auto target = servers.target();
    if (!target) return target.error();
    auto there = (*target)->exec("SELECT nspname FROM pg_namespace WHERE nspname = ANY ($1::text[])", {servers.schemas().as_array()});
    if (!there) return there.error();
    target_schemas_.clear();
    for (int row = 0; row < there->count(); ++row) target_schemas_.push_back(there->string(row, 0));
    auto entries = list(servers, "--section=pre-data");
    if (!entries) return entries.error();
    if (entries->empty()) return {};
    return restore(servers, archive_, &*entries);
}

Result<void> Definitions::restore_indexes(const MoveServers& servers, const std::vector<TableIndex>& indexes, std::uint32_t jobs) {
    auto entries = list(servers, "--section=post-data");
    if (!entries) return entries.error();
    auto target = servers.target();
    if (!target) return target.error();
    auto there = read_indexes(**target, servers.schemas());
    if (!there) return there.error();
    const IndexEntries wanted(indexes);
    const IndexEntries made(*there);
    std::vector<std::string> missing;
    rest_.clear();
    for (auto& line : *entries) {
        if (!wanted.makes_one(line)) {
            rest_.push_back(std::move(line));
        } else if (!made.makes_one(line)) {
            missing.push_back(std::move(line));
        }
    }
    // An earlier attempt has built them, and may have ended before they were on the disk.
    if (missing.empty()) return (*target)->flush_log();
    return restore(servers, archive_, &missing, std::max<std::uint32_t>(jobs, 1) * builds_per_job);
}

Result<void> Definitions::restore_rest(const MoveServers& servers, std::uint32_t jobs) const {
    if (rest_.empty()) return {};
    return restore(servers, archive_, &rest_, std::max<std::uint32_t>(jobs, 1) * builds_per_job);
}

}  // namespace pgporter
