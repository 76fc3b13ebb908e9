// Strong identifiers: distinct types for distinct numbers, so that a session's number can't be passed as a move's.
// Values; any thread. No arithmetic, explicit construction only.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace pgporter {

template <class Tag, class Rep = std::uint64_t>
struct StrongId {
    Rep value{};

    constexpr StrongId() = default;
    constexpr explicit StrongId(Rep v) : value(v) {}
    friend constexpr auto operator<=>(const StrongId&, const StrongId&) = default;
};

using TenantId = StrongId<struct TenantIdTag>;              // row id in pgporter.tenants
using MoveId = StrongId<struct MoveIdTag>;                  // row id in pgporter.moves
using SessionId = StrongId<struct SessionIdTag>;            // one client connection, unique in this process
using Epoch = StrongId<struct EpochTag>;                    // a tenant's routing version
using CatalogVersion = StrongId<struct CatalogVersionTag>;  // grows with every change of the catalog

}  // namespace pgporter

template <class Tag, class Rep>
struct std::hash<pgporter::StrongId<Tag, Rep>> {
    std::size_t operator()(const pgporter::StrongId<Tag, Rep>& id) const noexcept { return std::hash<Rep>{}(id.value); }
};
