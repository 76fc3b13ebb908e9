#include "proxy/session/session_metrics.hpp"

namespace pgporter {
namespace {

metrics::Gauge& pinned(metrics::Registry& registry, const char* reason) {
    return registry.gauge("pgporter_pinned_sessions", "Sessions that keep their server connection, by reason.", {{"reason", reason}});
}

metrics::Counter& forwards(metrics::Registry& registry, const char* outcome) {
    return registry.counter("pgporter_cancel_forwards_total", "Cancel requests for sessions of other instances, by outcome.", {{"outcome", outcome}});
}

}  // namespace

SessionMetrics::SessionMetrics(metrics::Registry& registry)
    : sessions(registry.gauge("pgporter_sessions", "Client connections that are logged in.")),
      logins(registry.gauge("pgporter_logins", "Client connections that are logging in.")),
      transactions(registry.counter("pgporter_transactions_total", "Transactions finished.")),
      cancels(registry.counter("pgporter_cancel_requests_total", "Cancel requests with a valid key.")),
      settings_inspections(registry.counter("pgporter_session_inspections_total",
                                            "Looks at a server connection's session state after statements that may change it.")),
      changed_results(registry.counter("pgporter_statements_changed_total",
                                       "Prepared statements refused (0A000), because they would no longer give what the client was told of them.")),
      unnamed_reuses(registry.counter("pgporter_unnamed_reuses_total", "Unnamed statements that were run without being parsed again.")),
      unnamed_replays(registry.counter("pgporter_unnamed_replays_total", "Those that had to be sent again as they came.")),
      prologues_repeated(registry.counter("pgporter_prologues_repeated_total", "Contexts that failed ahead of a request, which was sent again.")),
      gate_waits(registry.counter("pgporter_held_transactions_total", "Transactions that waited at a held tenant's gate.")),
      gate_wait_seconds(registry.histogram("pgporter_hold_wait_seconds", "Time transactions waited at a held tenant's gate.")),
      gate_timeouts(registry.counter("pgporter_hold_timeouts_total", "Transactions that waited longer than limits.hold_wait_ms_max.")),
      rate_waits(registry.counter("pgporter_rate_waits_total", "Transactions that waited for their tenant's rates.")),
      rate_refusals(registry.counter("pgporter_rate_refusals_total", "Transactions that would have waited longer than limits.wait_ms_max for them.")),
      statement_timeouts(registry.counter("pgporter_statement_timeouts_total", "Statements cancelled by their tenant's statement_ms_max.")),
      transaction_timeouts(registry.counter("pgporter_transaction_timeouts_total", "Sessions ended by their tenant's transaction_ms_max.")),
      pinned_listen(pinned(registry, "listen")),
      pinned_temporary_object(pinned(registry, "temporary_object")),
      pinned_hold_cursor(pinned(registry, "hold_cursor")),
      pinned_advisory_lock(pinned(registry, "advisory_lock")),
      pinned_prepare(pinned(registry, "prepare")),
      pinned_session_pooling(pinned(registry, "session_pooling")),
      pinned_replication(pinned(registry, "replication")),
      cancel_forwards(forwards(registry, "sent")),
      cancel_forwards_failed(forwards(registry, "failed")),
      cancel_forwards_dropped(forwards(registry, "dropped")),
      login_failures(registry.counter("pgporter_login_failures_total", "Logins that failed for a wrong password or an unknown user.")),
      login_failure_addresses(registry.gauge("pgporter_login_failure_addresses",
                                             "Client addresses with failed logins that are remembered, at most limits.auth_failure_addresses_max.")),
      logins_throttled(registry.counter("pgporter_logins_throttled_total", "Logins refused after limits.auth_failures_max failures.")),
      logins_refused_by_address(registry.counter("pgporter_logins_refused_by_address_total",
                                                 "Connections refused by limits.logins_per_address_max.")),
      proxy_headers_refused(registry.counter("pgporter_proxy_headers_refused_total", "Connections without an acceptable PROXY protocol header.")),
      accept_failures(registry.counter("pgporter_accept_failures_total", "Connections that could not be accepted, mostly for lack of descriptors.")),
      descriptor_refusals(registry.counter("pgporter_descriptor_refusals_total",
                                           "Connections refused because the descriptors left are limits.descriptors_reserved or fewer.")),
      registry_(registry) {}

metrics::Counter& SessionMetrics::ended(EndReason reason) {
    return registry_.counter("pgporter_sessions_ended_total", "Sessions ended, by reason.", {{"reason", std::string(to_text(reason))}});
}

}  // namespace pgporter
