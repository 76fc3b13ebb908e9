#include "proxy/session/tls_metrics.hpp"

namespace pgporter {
namespace {

const char* to_text(TlsFailure failure) {
    switch (failure) {
        case TlsFailure::none:
        case TlsFailure::other: return "other";
        case TlsFailure::closed: return "closed";
        case TlsFailure::alpn: return "alpn";
        case TlsFailure::certificate: return "client_certificate";
        case TlsFailure::version_or_cipher: return "version_or_cipher";
        case TlsFailure::refused_by_peer: return "refused_by_client";
    }
    return "other";
}

metrics::Counter& reloads_of(metrics::Registry& registry, const char* result) {
    return registry.counter("pgporter_tls_reloads_total", "Times the certificates of a listener were read anew, by result.", {{"result", result}});
}

}  // namespace

TlsMetrics::TlsMetrics(metrics::Registry& registry)
    : handshakes(registry.counter("pgporter_tls_handshakes_total", "TLS handshakes with clients that succeeded.")),
      reloads(reloads_of(registry, "done")),
      failed_reloads(reloads_of(registry, "failed")),
      expires_at(registry.gauge("pgporter_tls_certificate_expiry_timestamp_seconds",
                                "When the first certificate of the listeners expires, in seconds since 1970; 0 without TLS.")) {
    for (std::size_t i = 0; i < failure_count; ++i) {
        failures_[i] = &registry.counter("pgporter_tls_handshake_failures_total", "TLS handshakes with clients that failed, by reason.",
                                         {{"reason", to_text(static_cast<TlsFailure>(i))}});
    }
}

}  // namespace pgporter
