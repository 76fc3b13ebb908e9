// The saved snapshot: JSON, so that an operator can read it; one line for each tenant. Written to a temporary file of
// mode 0600, synced and renamed, so that a reader finds the old or the new one and never a part. Declared in
// catalog/follower.hpp.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "catalog/follower.hpp"

namespace pgporter {
namespace {

namespace json = boost::json;

// Format 1 had no keys, domains, addresses and isolation modes: it is still read.
constexpr std::int64_t format_version = 3;
constexpr std::int64_t oldest_format_version = 1;
constexpr std::size_t flush_bytes = 1U << 20;

// ---- writing

json::array texts(const std::vector<std::string>& items) {
    json::array array;
    for (const auto& item : items) array.emplace_back(item);
    return array;
}

json::value to_json(const Tenant& t) {
    json::array settings;
    for (const auto& [name, value] : t.settings) settings.push_back(json::array{name, value});
    json::object limits;
    for (const auto& field : tenant_limit_fields) {
        if (t.limits.*field.value != 0) limits[field.name] = t.limits.*field.value;
    }
    return json::object{{"id", t.id.value},
                        {"name", t.name},
                        {"kind", to_text(t.placement.kind)},
                        {"cluster", t.placement.cluster},
                        {"database", t.placement.database},
                        {"schema", t.placement.schema},
                        {"state", to_text(t.state)},
                        {"pool_mode", to_text(t.pool_mode)},
                        {"epoch", t.epoch.value},
                        {"role", t.role},
                        {"shared_schemas", texts(t.shared_schemas)},
                        {"server_connections_max", t.server_connections_max},
                        {"sessions_max", t.sessions_max},
                        {"settings", std::move(settings)},
                        {"key", t.key},
                        {"domains", texts(t.domains)},
                        {"allowed_addresses", texts(t.allowed_addresses)},
                        {"limits", std::move(limits)}};
}

json::value to_json(const Cluster& c) {
    return json::object{{"name", c.name},
                        {"host", c.host},
                        {"port", c.port},
                        {"tls", to_text(c.tls)},
                        {"tls_ca_file", c.tls_ca_file},
                        {"server_connections_max", c.server_connections_max}};
}

json::value to_json(const Database& d) {
    return json::object{{"cluster", d.cluster},
                        {"name", d.name},
                        {"server_connections_max", d.server_connections_max},
                        {"isolation", to_text(d.isolation)},
                        {"tenant_setting", d.tenant_setting},
                        {"tenant_column", d.tenant_column},
                        {"server_connections_min", d.server_connections_min}};
}

json::value to_json(const User& u) {
    return json::object{{"name", u.name},
                        {"scram_verifier", u.scram_verifier},
                        {"all_tenants", u.all_tenants},
                        {"tenants", texts(u.tenants)}};
}

// A file that is removed again unless it was put in place.
class TemporaryFile {
  public:
    explicit TemporaryFile(std::string path) : path_(std::move(path)) {
        (void)::unlink(path_.c_str());  // left by a process that was killed
        fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    ~TemporaryFile() {
        if (fd_ < 0) return;
        ::close(fd_);
        if (!placed_) (void)::unlink(path_.c_str());
    }
    [[nodiscard]] bool write(std::string_view bytes) const {
        if (fd_ < 0) return false;
        while (!bytes.empty()) {
            const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
            if (written < 0 && errno == EINTR) continue;
            if (written <= 0) return false;
            bytes.remove_prefix(static_cast<std::size_t>(written));
        }
        return true;
    }
    [[nodiscard]] bool place(const std::string& target) {
        placed_ = fd_ >= 0 && ::fsync(fd_) == 0 && ::rename(path_.c_str(), target.c_str()) == 0;
        return placed_;
    }

  private:
    std::string path_;
    int fd_ = -1;
    bool placed_ = false;
};

// A list of the document, an item a line, handed on in pieces so that no second copy of a large catalog is in memory.
class Writer {
  public:
    explicit Writer(const TemporaryFile& file) : file_(file) {}
    void text(std::string_view piece) {
        buffer_ += piece;
        if (buffer_.size() >= flush_bytes) (void)flush();
    }
    void begin_list(std::string_view name) {
        text(",\n\"" + std::string(name) + "\":[");
        first_ = true;
    }
    template <class T>
    void item(const T& value) {
        text(first_ ? "\n" : ",\n");
        text(json::serialize(to_json(value)));
        first_ = false;
    }
    [[nodiscard]] bool flush() {
        ok_ = ok_ && file_.write(buffer_);
        buffer_.clear();
        return ok_;
    }

  private:
    const TemporaryFile& file_;
    std::string buffer_;
    bool first_ = true;
    bool ok_ = true;
};

Error cannot_write(const std::string& path) {
    return fail(ErrorKind::unavailable, "the snapshot file " + path + " can't be written", std::strerror(errno));
}

// ---- reading: boost.json's at() and as_...() throw on anything unexpected; load_snapshot_file() catches.

struct Unexpected : std::runtime_error {
    using std::runtime_error::runtime_error;
};

std::string text_of(const json::object& object, std::string_view key) {
    const auto& text = object.at(key).as_string();
    return {text.data(), text.size()};
}

template <class Number>
Number number_of(const json::object& object, std::string_view key) {
    const auto value = object.at(key).to_number<std::uint64_t>();
    if (value > std::numeric_limits<Number>::max()) throw Unexpected(std::string(key) + " is out of range");
    return static_cast<Number>(value);
}

std::vector<std::string> texts_of(const json::object& object, std::string_view key) {
    std::vector<std::string> items;
    for (const auto& item : object.at(key).as_array())
        items.emplace_back(item.as_string().c_str(), item.as_string().size());
    return items;
}

template <class E>
E choice_of(const json::object& object, std::string_view key, std::optional<E> (*from)(std::string_view)) {
    const auto value = from(text_of(object, key));
    if (!value) throw Unexpected("unknown " + std::string(key));
    return *value;
}

Tenant tenant_from(const json::object& object, std::int64_t format) {
    Tenant t;
    t.id = TenantId{number_of<std::uint64_t>(object, "id")};
    t.name = text_of(object, "name");
    if (!is_tenant_name(t.name)) throw Unexpected("a tenant's name is none");
    t.placement = {choice_of(object, "kind", &placement_kind_from), text_of(object, "cluster"),
                   text_of(object, "database"), text_of(object, "schema")};
    t.state = choice_of(object, "state", &tenant_state_from);
    t.pool_mode = choice_of(object, "pool_mode", &pool_mode_from);
    t.epoch = Epoch{number_of<std::uint64_t>(object, "epoch")};
    t.role = text_of(object, "role");
    t.shared_schemas = texts_of(object, "shared_schemas");
    t.server_connections_max = number_of<std::uint32_t>(object, "server_connections_max");
    t.sessions_max = number_of<std::uint32_t>(object, "sessions_max");
    for (const auto& item : object.at("settings").as_array()) {
        const auto& pair = item.as_array();
        t.settings.emplace_back(pair.at(0).as_string().c_str(), pair.at(1).as_string().c_str());
    }
    if (format < 2) return t;
    t.key = text_of(object, "key");
    t.domains = texts_of(object, "domains");
    t.allowed_addresses = texts_of(object, "allowed_addresses");
    if (format < 3) return t;
    const auto& limits = object.at("limits").as_object();
    for (const auto& field : tenant_limit_fields) {
        if (limits.contains(field.name)) t.limits.*field.value = number_of<std::uint32_t>(limits, field.name);
    }
    return t;
}

Database database_from(const json::object& object, std::int64_t format) {
    Database d{text_of(object, "cluster"), text_of(object, "name"), number_of<std::uint32_t>(object, "server_connections_max")};
    if (format < 2) return d;
    d.isolation = choice_of(object, "isolation", &isolation_from);
    d.tenant_setting = text_of(object, "tenant_setting");
    d.tenant_column = text_of(object, "tenant_column");
    if (object.contains("server_connections_min")) d.server_connections_min = number_of<std::uint32_t>(object, "server_connections_min");
    return d;
}

// Snapshot::build() relies on names that are there once, and nobody may be taken for another by key or domain: in a file
// that a bug or an editor made they might.
void check_unique(const std::vector<Tenant>& tenants) {
    ByName<bool> names;
    ByName<bool> keys;
    ByName<bool> domains;
    for (const auto& tenant : tenants) {
        if (!names.emplace(tenant.name, true).second) throw Unexpected("tenant " + tenant.name + " is there twice");
        if (!keys.emplace(tenant_key(tenant), true).second) throw Unexpected("two tenants have the same key");
        for (const auto& domain : tenant.domains) {
            if (!domains.emplace(domain, true).second) throw Unexpected("domain " + domain + " is there twice");
        }
    }
}

SnapshotContent content_from(const json::object& root) {
    const auto format = root.at("format").to_number<std::int64_t>();
    if (format < oldest_format_version || format > format_version) throw Unexpected("another format");
    SnapshotContent content;
    content.version = CatalogVersion{number_of<std::uint64_t>(root, "version")};
    for (const auto& item : root.at("clusters").as_array()) {
        const auto& c = item.as_object();
        content.clusters.push_back({text_of(c, "name"), text_of(c, "host"), number_of<std::uint16_t>(c, "port"),
                                    choice_of(c, "tls", &server_tls_from), text_of(c, "tls_ca_file"),
                                    number_of<std::uint32_t>(c, "server_connections_max")});
    }
    for (const auto& item : root.at("databases").as_array()) {
        content.databases.push_back(database_from(item.as_object(), format));
    }
    for (const auto& item : root.at("users").as_array()) {
        const auto& u = item.as_object();
        content.users.push_back(
            {text_of(u, "name"), text_of(u, "scram_verifier"), u.at("all_tenants").as_bool(), texts_of(u, "tenants")});
    }
    const auto& tenants = root.at("tenants").as_array();
    content.tenants.reserve(tenants.size());
    for (const auto& item : tenants) content.tenants.push_back(tenant_from(item.as_object(), format));
    check_unique(content.tenants);
    return content;
}

Error is_damaged(const std::string& path, const std::string& why) {
    return fail(ErrorKind::invalid, "the snapshot file " + path + " is damaged or not a snapshot", why,
                "remove the file; it is written again once the catalog can be reached");
}

}  // namespace

Result<void> save_snapshot_file(const Snapshot& snapshot, const std::string& path) {
    TemporaryFile file(path + ".tmp");
    Writer writer(file);
    writer.text("{\"format\":" + std::to_string(format_version) +
                ",\n\"version\":" + std::to_string(snapshot.version().value));
    writer.begin_list("clusters");
    for (const auto& cluster : snapshot.clusters()) writer.item(cluster);
    writer.text("]");
    writer.begin_list("databases");
    for (const auto& database : snapshot.databases()) writer.item(database);
    writer.text("]");
    writer.begin_list("users");
    for (const auto& [name, user] : snapshot.users()) writer.item(user);
    writer.text("]");
    writer.begin_list("tenants");
    snapshot.for_each_tenant([&](const TenantPtr& tenant) { writer.item(*tenant); });
    writer.text("]}\n");
    if (!writer.flush() || !file.place(path)) return cannot_write(path);
    // The rename itself must survive a power failure too.
    const auto folder = std::filesystem::absolute(path).parent_path();
    const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool synced = fd >= 0 && ::fsync(fd) == 0;
    if (fd >= 0) ::close(fd);
    return synced ? Result<void>() : Result<void>(cannot_write(path));
}

Result<SnapshotContent> load_snapshot_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return fail(ErrorKind::not_found, "the snapshot file " + path + " can't be read");
    std::ostringstream text;
    text << file.rdbuf();
    try {
        json::monotonic_resource memory;
        const json::value root = json::parse(text.view(), &memory);
        return content_from(root.as_object());
    } catch (const std::exception& e) {
        return is_damaged(path, e.what());
    }
}

}  // namespace pgporter
