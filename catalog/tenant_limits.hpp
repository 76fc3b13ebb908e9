// TenantLimits: what one tenant may use, beside its connections; 0 is no limit everywhere. One list of them, that every reader and writer of
// tenants goes through: the YAML key, the member of the catalog's `limits` column and of the API have the same name. Plain values.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace pgporter {

struct TenantLimits {
    std::uint32_t server_connections_min = 0;      // places under the cluster's cap that are kept free for it
    std::uint32_t transactions_per_second_max = 0;
    std::uint32_t kib_per_second_max = 0;          // from and to its clients
    std::uint32_t statement_ms_max = 0;
    std::uint32_t transaction_ms_max = 0;
    std::uint32_t idle_in_transaction_ms_max = 0;  // 0: limits.idle_in_transaction_ms_max
    friend bool operator==(const TenantLimits&, const TenantLimits&) = default;
};

struct TenantLimitField {
    std::string_view name;
    std::uint32_t TenantLimits::*value;
    std::uint32_t max;
    std::string_view description;
};

inline constexpr std::array tenant_limit_fields{
    TenantLimitField{"server_connections_min", &TenantLimits::server_connections_min, 100'000,
                     "server connections of the cluster that are kept free for it"},
    TenantLimitField{"transactions_per_second_max", &TenantLimits::transactions_per_second_max, 1'000'000,
                     "a second's worth at once; more wait for their turn"},
    TenantLimitField{"kib_per_second_max", &TenantLimits::kib_per_second_max, 100'000'000, "KiB from and to its clients"},
    TenantLimitField{"statement_ms_max", &TenantLimits::statement_ms_max, 86'400'000, "a statement is cancelled after this"},
    TenantLimitField{"transaction_ms_max", &TenantLimits::transaction_ms_max, 86'400'000, "a transaction's session is ended after this"},
    TenantLimitField{"idle_in_transaction_ms_max", &TenantLimits::idle_in_transaction_ms_max, 86'400'000,
                     "in a transaction and no statement comes"},
};

}  // namespace pgporter
