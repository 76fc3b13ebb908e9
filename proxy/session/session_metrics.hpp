// The metrics of sessions. Instruments live in the registry; touched from every I/O thread.
#pragma once

#include <array>

#include "base/end_reason.hpp"
#include "base/metrics.hpp"

namespace pgporter {

struct SessionMetrics {
    explicit SessionMetrics(metrics::Registry& registry);

    metrics::Counter& ended(EndReason reason);
    metrics::Gauge& sessions;
    metrics::Gauge& logins;
    metrics::Counter& transactions;
    metrics::Counter& cancels;
    metrics::Counter& settings_inspections;
    metrics::Counter& changed_results;
    metrics::Counter& unnamed_reuses;
    metrics::Counter& unnamed_replays;
    metrics::Counter& prologues_repeated;
    metrics::Counter& gate_waits;
    metrics::Histogram& gate_wait_seconds;
    metrics::Counter& gate_timeouts;
    metrics::Counter& rate_waits;
    metrics::Counter& rate_refusals;
    metrics::Counter& statement_timeouts;
    metrics::Counter& transaction_timeouts;
    metrics::Gauge& pinned_listen;
    metrics::Gauge& pinned_temporary_object;
    metrics::Gauge& pinned_hold_cursor;
    metrics::Gauge& pinned_advisory_lock;
    metrics::Gauge& pinned_prepare;
    metrics::Gauge& pinned_session_pooling;
    metrics::Gauge& pinned_replication;
    metrics::Counter& cancel_forwards;
    metrics::Counter& cancel_forwards_failed;
    metrics::Counter& cancel_forwards_dropped;
    metrics::Counter& login_failures;
    metrics::Gauge& login_failure_addresses;
    metrics::Counter& logins_throttled;
    metrics::Counter& logins_refused_by_address;
    metrics::Counter& proxy_headers_refused;
    metrics::Counter& accept_failures;
    metrics::Counter& descriptor_refusals;

  private:
    metrics::Registry& registry_;
};

}  // namespace pgporter
