#include "proxy/session/session_metrics.hpp"

namespace pgporter {
namespace {

metrics::Gauge& pinned(metrics::Registry& registry, const char* reason) {
    return registry.gauge("pgporter_pinned_sessions", "Sessions that keep their server connection, by reason.", {{"reason", reason}});
}

}  // namespace

SessionMetrics::SessionMetrics(metrics::Registry& registry)
    : sessions(registry.gauge("pgporter_sessions", "Client connections that are logged in.")),
      logins(registry.gauge("pgporter_logins", "Client connections that are logging in.")),
      transactions(registry.counter("pgporter_transactions_total", "Transactions finished.")),
      cancels(registry.counter("pgporter_cancel_requests_total", "Cancel requests with a valid key.")),
      settings_inspections(registry.counter("pgporter_session_inspections_total",
                                            "Looks at a server connection's session state after statements that may change it.")),
      gate_waits(registry.counter("pgporter_held_transactions_total", "Transactions that waited at a held tenant's gate.")),
      gate_wait_seconds(registry.histogram("pgporter_hold_wait_seconds", "Time transactions waited at a held tenant's gate.")),
      gate_timeouts(registry.counter("pgporter_hold_timeouts_total", "Transactions that waited longer than limits.hold_wait_ms_max.")),
      pinned_listen(pinned(registry, "listen")),
      pinned_temporary_object(pinned(registry, "temporary_object")),
      pinned_hold_cursor(pinned(registry, "hold_cursor")),
      pinned_advisory_lock(pinned(registry, "advisory_lock")),
      pinned_prepare(pinned(registry, "prepare")),
      pinned_session_pooling(pinned(registry, "session_pooling")),
      registry_(registry) {}

metrics::Counter& SessionMetrics::ended(EndReason reason) {
    return registry_.counter("pgporter_sessions_ended_total", "Sessions ended, by reason.", {{"reason", std::string(to_text(reason))}});
}

}  // namespace pgporter
