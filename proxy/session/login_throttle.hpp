// LoginThrottle: who may try to log in now. Two bounds by client address: connections that haven't logged in yet, and failed logins for one
// user within a window. Shared by all threads (a lock, taken a few times a login, never on the data path). It keeps no clock: the time is
// passed in.
//
// The table of failures is bounded and can't be turned against others: an address has a few places of its own and evicts only itself when
// those are full (the entry with the fewest failures goes, so that made-up users don't wash away a real count); when all places are taken
// the address that failed longest ago is forgotten. Forgetting only ever lets somebody try again. A user is refused only where the failures
// came from.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ip_address.hpp"

namespace pgporter {

struct LoginThrottleLimits {
    std::uint32_t failures_max = 20;      // failed logins for one user from one address within the window; 0: no bound
    std::chrono::milliseconds window{60'000};
    std::uint32_t addresses_max = 10'000;     // addresses with failures that are remembered
    std::uint32_t logins_per_address_max = 400;  // 0: no bound
};

class LoginThrottle {
  public:
    using Time = std::chrono::steady_clock::time_point;
    // Users remembered for one address.
    static constexpr std::size_t users_per_address_max = 32;
    // One client may own as many IPv6 addresses as it likes within a network of this size.
    static constexpr unsigned v6_prefix_bits = 64;

    explicit LoginThrottle(LoginThrottleLimits limits) : limits_(limits) {}

    // A connection that begins to log in, and ends doing so. False: the address has too many already (nothing is counted).
    [[nodiscard]] bool begin_login(const std::optional<IpAddress>& client);
    void end_login(const std::optional<IpAddress>& client);

    // False: too many failures; the password mustn't even be looked at.
    [[nodiscard]] bool may_try(const std::optional<IpAddress>& client, std::string_view user, Time now);
    void note_failure(const std::optional<IpAddress>& client, std::string_view user, Time now);
    void note_success(const std::optional<IpAddress>& client, std::string_view user);

    [[nodiscard]] std::size_t remembered_addresses() const;

  private:
    using Key = std::string;  // an address's network; empty: Unix-domain sockets
    struct UserFailures {
        std::string user;
        std::uint32_t count = 0;
        Time since;  // the window's beginning
    };
    struct Address {
        std::vector<UserFailures> users;
        std::list<Key>::iterator age;
    };
    [[nodiscard]] static Key key_of(const std::optional<IpAddress>& client);
    [[nodiscard]] bool is_over(const UserFailures& failures, Time now) const { return now - failures.since >= limits_.window; }
    Address& remember(const Key& key);
    UserFailures& place_for(Address& address, std::string_view user, Time now);

    const LoginThrottleLimits limits_;
    mutable std::mutex mutex_;
    std::map<Key, std::uint32_t> logins_;
    std::map<Key, Address> addresses_;
    std::list<Key> by_age_;  // the address that failed last is at the back
};

}  // namespace pgporter
