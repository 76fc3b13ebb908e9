// How a client's connection becomes TLS, and what its certificate must say. TLS begins in one of two ways: at once (the first byte is a TLS
// record's; then ALPN must say "postgresql"), or by SSLRequest in plain text. Nothing that was read in plain text may be taken for what comes after
// the handshake.
#include "base/log.hpp"
#include "proxy/session/session.hpp"

namespace pgporter {
namespace {

constexpr char tls_handshake_record = 0x16;  // no startup packet begins so: its length would be 352 MiB or more

}  // namespace

// Waits for the client's first byte, where it may be one of TLS.
Task<bool> Session::accept_direct_tls() {
    if (listener_->tls == nullptr) co_return true;
    char first = 0;
    while (true) {
        const IoResult result = client_.peek(first);
        if (result.status == IoStatus::ok) break;
        const bool ready = co_await client_.ready_for(result.status);
        if (!ready) {
            end(EndReason::client_terminated, nullptr);
            co_return false;
        }
    }
    if (first != tls_handshake_record || !login_input_.empty()) co_return true;
    const bool secured = co_await secure_client(true);
    co_return secured;
}

Task<bool> Session::answer_encryption_request(bool is_tls_request, EncryptionAsked& asked) {
    bool& asked_before = is_tls_request ? asked.tls : asked.gss;
    if (asked_before || client_.is_tls()) {
        const bool refused = co_await refuse_login(
            EndReason::protocol_violation, client_error::protocol_violation("encryption was requested twice, or on a connection that has it"));
        co_return refused;
    }
    asked_before = true;
    // Bytes that came along would be taken as protected though nobody protected them (CVE-2021-3935).
    if (!login_input_.empty()) {
        const bool refused = co_await refuse_login(
            EndReason::protocol_violation,
            client_error::protocol_violation(is_tls_request ? "received unencrypted data after SSL request"
                                                            : "received unencrypted data after GSSAPI encryption request"));
        co_return refused;
    }
    const bool accept = is_tls_request && listener_->tls != nullptr;
    std::string answer(1, accept ? 'S' : 'N');
    const bool sent = co_await client_.write_all(std::move(answer));
    if (!sent) {
        end(EndReason::client_lost, nullptr);
        co_return false;
    }
    if (!accept) co_return true;
    const bool secured = co_await secure_client(false);
    co_return secured;
}

Task<bool> Session::secure_client(bool is_direct) {
    TlsMetrics& metrics = worker_.shared().tls_metrics;
    CertificateSetPtr certificates = listener_->tls->current();
    Result<void> secured = co_await client_.accept_tls(std::move(certificates), is_direct);
    if (secured) {
        metrics.handshakes.inc();
        co_return true;
    }
    metrics.failed(client_.tls_failure()).inc();
    log::info("tls_handshake_failed", {{"session", std::to_string(id_.value)}, {"reason", secured.error().detail}});
    end(EndReason::client_lost, nullptr);
    co_return false;
}

// A certificate that was shown has been verified in the handshake; here is whether there is one, and whether it is this user's.
Result<void> Session::check_client_certificate(std::string_view user) const {
    const ListenConfig& config = listener_->config;
    if (config.tls_client_ca_file.empty()) return {};
    const auto certificate = client_.client_certificate();
    if (!certificate) return client_error::certificate_required();
    const bool names_user = config.auth == ClientAuth::cert || config.tls_client_certificate == ClientCertificateCheck::verify_full;
    if (names_user && certificate->common_name != user) {
        return client_error::bad_certificate(user, "the certificate's common name is not the user's name");
    }
    return {};
}

// A certificate or the operating system proves a name; whether anybody here has it, and may speak for tenants, is another question. Like a
// password: in the catalog, or known by auth query.
Task<Result<void>> Session::find_proven_user(std::string user) {
    if (worker_.snapshot()->find_user(user) != nullptr) co_return Result<void>{};
    Result<std::string> verifier = co_await find_verifier(user);
    if (!verifier) {
        log::warning("auth_query_failed", {{"user", user}, {"reason", verifier.error().message}});
        co_return fail(ErrorKind::unavailable, "the login can't be checked now", {}, "try again", "57P03");
    }
    if (verifier->empty()) {
        co_return listener_->config.auth == ClientAuth::peer ? client_error::peer_mismatch(user)
                                                             : client_error::bad_certificate(user, "there is no such user");
    }
    co_return Result<void>{};
}

}  // namespace pgporter
