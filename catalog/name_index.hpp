// NameIndex: which tenants a text may stand for (a schema, a key, a domain). It keeps hashes alone, 16 bytes for each tenant; whoever finds one asks
// the tenant itself. In 256 buckets that snapshots share: a changed copy costs the buckets that changed. Part of a Snapshot; immutable
// once the snapshot is built, then any thread.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace pgporter {

struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
};

// Of tenants and of indexes alike. Inside a bucket what is in it stands in the order of the whole hash.
inline constexpr std::size_t name_bucket_count = 256;
[[nodiscard]] inline std::size_t name_bucket_of(std::size_t hash) { return (hash >> 40) % name_bucket_count; }

class NameIndex {
  public:
    struct Entry {
        std::size_t text;    // its hash
        std::size_t tenant;  // that of the tenant's name
        friend auto operator<=>(const Entry&, const Entry&) = default;
    };

    NameIndex();
    explicit NameIndex(const std::vector<Entry>& entries);

    [[nodiscard]] static Entry entry(std::string_view text, std::string_view tenant) { return {TextHash{}(text), TextHash{}(tenant)}; }
    // Those whose text has the same hash, in the order of their tenants'. Two tenants with one hash are two equal entries side by side.
    [[nodiscard]] std::span<const Entry> find(std::string_view text) const;
    // Copies the one bucket that changes; snapshots that share it keep theirs.
    void add(std::string_view text, std::string_view tenant);
    void remove(std::string_view text, std::string_view tenant);
    // Takes the buckets of `other` that say the same.
    void share_with(const NameIndex& other);

  private:
    using Bucket = std::vector<Entry>;  // sorted

    std::array<std::shared_ptr<const Bucket>, name_bucket_count> buckets_;
};

}  // namespace pgporter
