#include "proxy/wire/scram.hpp"

#include <charconv>

#include "base/assert.hpp"
#include "base/saslprep.hpp"
#include "proxy/wire/auth_crypto.hpp"

namespace pgporter {
namespace {

constexpr std::string_view verifier_prefix = "SCRAM-SHA-256$";

Error malformed(std::string detail) {
    return fail(ErrorKind::invalid, "malformed SCRAM message", std::move(detail), {}, "08P01");
}

constexpr std::string_view plus_header = "p=tls-server-end-point,,";

Error other_channel(std::string message, std::string detail = {}) {
    return fail(ErrorKind::unauthenticated, std::move(message), std::move(detail), {}, "28000");
}

Error out_of_order() {
    return malformed("message out of order");
}

Error bad_verifier(std::string detail) {
    return fail(ErrorKind::invalid, "malformed SCRAM verifier", std::move(detail));
}

// Printable as RFC 5802 has it: any ASCII from '!' to '~' but the comma.
bool is_nonce(std::string_view text) {
    for (const char c : text) {
        if (c < '!' || c > '~' || c == ',') return false;
    }
    return !text.empty();
}

std::optional<int> parse_iterations(std::string_view text) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < 1 || value > scram_iterations_max) {
        return std::nullopt;
    }
    return value;
}

bool decode_key(std::string_view text, Sha256& key) {
    const auto bytes = base64_decode(text);
    if (!bytes || bytes->size() != key.size()) return false;
    std::copy(bytes->begin(), bytes->end(), key.begin());
    return true;
}

bool is_salt(const std::optional<std::string>& salt) {
    return salt && !salt->empty() && salt->size() <= scram_salt_bytes_max;
}

bool is_message(std::string_view data) {
    return data.size() <= scram_message_bytes_max && data.find('\0') == std::string_view::npos;
}

// Takes "<name>=<value>" and the comma behind it off the front; nullopt, and nothing taken, when something else is
// there.
std::optional<std::string_view> take_attribute(std::string_view& rest, char name) {
    if (rest.size() < 2 || rest[0] != name || rest[1] != '=') return std::nullopt;
    const std::string_view value = rest.substr(2, rest.find(',', 2) - 2);
    rest.remove_prefix(std::min(rest.size(), 2 + value.size() + 1));
    return value;
}

Sha256 exclusive_or(const Sha256& left, const Sha256& right) {
    Sha256 out{};
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<unsigned char>(left[i] ^ right[i]);
    return out;
}

// Both keys that come from a password, in `keys`, whose salt and iterations are set.
void derive(std::string_view password, ScramKeys& keys) {
    Sha256 salted = pbkdf2_sha256(password, keys.salt, keys.iterations);
    keys.client_key = hmac_sha256(as_text(salted), "Client Key");
    keys.server_key = hmac_sha256(as_text(salted), "Server Key");
    wipe(salted);
}

}  // namespace

ScramKeys::~ScramKeys() {
    wipe(client_key);
    wipe(server_key);
}

std::string random_nonce() {
    return base64_encode(random_bytes(18));
}

// ---- verifiers

Result<ScramVerifier> parse_scram_verifier(std::string_view text) {
    if (text.size() > scram_message_bytes_max || !text.starts_with(verifier_prefix))
        return bad_verifier("unknown form");
    text.remove_prefix(verifier_prefix.size());
    const std::size_t colon = text.find(':');
    const std::size_t dollar = text.find('$');
    const std::size_t last_colon = text.rfind(':');
    if (colon == std::string_view::npos || dollar == std::string_view::npos || colon > dollar || last_colon < dollar) {
        return bad_verifier("a part is missing");
    }
    ScramVerifier verifier;
    const auto iterations = parse_iterations(text.substr(0, colon));
    if (!iterations) return bad_verifier("the number of iterations is out of range");
    verifier.iterations = *iterations;
    auto salt = base64_decode(text.substr(colon + 1, dollar - colon - 1));
    if (!is_salt(salt)) return bad_verifier("the salt is malformed");
    verifier.salt = std::move(*salt);
    if (!decode_key(text.substr(dollar + 1, last_colon - dollar - 1), verifier.stored_key) ||
        !decode_key(text.substr(last_colon + 1), verifier.server_key)) {
        return bad_verifier("a key is malformed");
    }
    return verifier;
}

std::string make_scram_verifier(std::string_view password, std::string_view salt, int iterations) {
    PP_ASSERT(iterations >= 1 && iterations <= scram_iterations_max);
    PP_ASSERT(!salt.empty() && salt.size() <= scram_salt_bytes_max);
    ScramKeys keys;
    keys.salt = salt;
    keys.iterations = iterations;
    derive(password, keys);
    const Sha256 stored_key = sha256(as_text(keys.client_key));
    return std::string(verifier_prefix) + std::to_string(iterations) + ":" + base64_encode(salt) + "$" +
           base64_encode(as_text(stored_key)) + ":" + base64_encode(as_text(keys.server_key));
}

ScramVerifier mock_verifier(std::string_view process_secret, std::string_view user) {
    const auto derived = [&](std::string_view purpose) {
        return hmac_sha256(process_secret, std::string(purpose) + '\0' + std::string(user));
    };
    ScramVerifier verifier;
    verifier.iterations = 4096;  // PostgreSQL's default: what most real users have
    verifier.salt = as_text(derived("mock salt")).substr(0, 16);
    verifier.stored_key = derived("mock stored key");
    verifier.server_key = derived("mock server key");
    return verifier;
}

// ---- server

std::vector<std::string> scram_mechanisms(const ScramChannel& channel) {
    std::vector<std::string> mechanisms;
    if (!channel.server_end_point.empty()) mechanisms.emplace_back(scram_plus_mechanism);
    mechanisms.emplace_back(scram_mechanism);
    return mechanisms;
}

ScramServer::ScramServer(ScramVerifier verifier, bool is_mock, std::string server_nonce, ScramChannel channel)
    : verifier_(std::move(verifier)), is_mock_(is_mock), channel_(std::move(channel)), nonce_(std::move(server_nonce)) {
    PP_ASSERT(!channel_.is_plus || !channel_.server_end_point.empty());
    PP_ASSERT(is_nonce(nonce_));
    PP_ASSERT(verifier_.iterations >= 1 && verifier_.iterations <= scram_iterations_max);
    PP_ASSERT(!verifier_.salt.empty() && verifier_.salt.size() <= scram_salt_bytes_max);
}

ScramServer::~ScramServer() {
    wipe(verifier_.stored_key);
    wipe(verifier_.server_key);
}

Result<std::string> ScramServer::on_client_first(std::string_view data) {
    if (step_ != Step::client_first) return out_of_order();
    auto answer = read_client_first(data);
    step_ = answer ? Step::client_final : Step::failed;
    return answer;
}

Result<std::string> ScramServer::on_client_final(std::string_view data) {
    if (step_ != Step::client_final) return out_of_order();
    auto answer = check_client_final(data);
    step_ = answer ? Step::proven : Step::failed;
    return answer;
}

const ScramKeys& ScramServer::learned() const {
    PP_ASSERT(step_ == Step::proven);
    return learned_;
}

// Returns what comes behind the header.
Result<std::string_view> ScramServer::read_gs2_header(std::string_view data) {
    std::string_view rest = data;
    if (const auto type = take_attribute(rest, 'p')) {
        if (!channel_.is_plus) return malformed("channel binding with a mechanism that doesn't have it");
        if (*type != "tls-server-end-point") {
            return fail(ErrorKind::invalid, "unsupported SCRAM channel-binding type", {}, {}, "08P01");
        }
    } else if (data.starts_with("n,") || data.starts_with("y,")) {
        if (channel_.is_plus) return malformed("SCRAM-SHA-256-PLUS without channel binding");
        if (data.front() == 'y' && !channel_.server_end_point.empty()) {
            return other_channel("SCRAM channel binding negotiation error",
                                 "the client supports channel binding but thinks the server does not, and it does");
        }
        rest.remove_prefix(2);
    } else {
        return malformed("unexpected channel-binding flag");
    }
    if (rest.starts_with("a=")) {
        return fail(ErrorKind::invalid, "client uses authorization identity, but it is not supported", {}, {}, "0A000");
    }
    if (!rest.starts_with(",")) return malformed("unexpected attribute in the gs2 header");
    rest.remove_prefix(1);
    std::string bound(data.substr(0, data.size() - rest.size()));
    if (channel_.is_plus) bound += channel_.server_end_point;
    channel_binding_ = base64_encode(bound);
    return rest;
}

Result<std::string> ScramServer::read_client_first(std::string_view data) {
    if (!is_message(data)) return malformed("client-first is too long or has a zero byte");
    const auto header_read = read_gs2_header(data);
    if (!header_read) return header_read.error();
    const std::string_view bare = *header_read;
    if (bare.starts_with("m=")) {
        return fail(ErrorKind::invalid, "client requires an unsupported SCRAM extension", {}, {}, "0A000");
    }
    std::string_view rest = bare;
    // The name is that of the startup packet; what stands here is ignored, as PostgreSQL does.
    const auto user = take_attribute(rest, 'n');
    const auto client_nonce = user ? take_attribute(rest, 'r') : std::nullopt;
    if (!client_nonce) return malformed("client-first has no user name or no nonce");
    if (!is_nonce(*client_nonce)) return malformed("non-printable characters in SCRAM nonce");

    nonce_.insert(0, *client_nonce);
    std::string server_first =
        "r=" + nonce_ + ",s=" + base64_encode(verifier_.salt) + ",i=" + std::to_string(verifier_.iterations);
    auth_message_prefix_ = std::string(bare) + "," + server_first + ",";
    return server_first;
}

Result<std::string> ScramServer::check_client_final(std::string_view data) {
    if (!is_message(data)) return malformed("client-final is too long or has a zero byte");
    const std::size_t proof_at = data.rfind(",p=");
    if (proof_at == std::string_view::npos) return malformed("client-final has no proof");
    const std::string_view without_proof = data.substr(0, proof_at);
    std::string_view rest = without_proof;
    const auto channel_binding = take_attribute(rest, 'c');
    const auto nonce = channel_binding ? take_attribute(rest, 'r') : std::nullopt;
    if (!nonce) return malformed("client-final has no channel binding or no nonce");
    if (*channel_binding != channel_binding_) {
        if (channel_.is_plus) return other_channel("SCRAM channel binding check failed");
        return malformed("unexpected SCRAM channel-binding attribute in client-final-message");
    }
    if (*nonce != nonce_) return malformed("nonce does not match");
    Sha256 proof{};
    if (!decode_key(data.substr(proof_at + 3), proof)) return malformed("malformed proof in client-final-message");

    const std::string auth_message = auth_message_prefix_ + std::string(without_proof);
    const Sha256 client_signature = hmac_sha256(as_text(verifier_.stored_key), auth_message);
    Sha256 client_key = exclusive_or(proof, client_signature);
    const bool proven = equal_in_constant_time(sha256(as_text(client_key)), verifier_.stored_key);
    const Sha256 server_signature = hmac_sha256(as_text(verifier_.server_key), auth_message);
    if (!proven || is_mock_) {
        wipe(client_key);
        return fail(ErrorKind::unauthenticated, "password authentication failed", {}, {}, "28P01");
    }
    learned_.client_key = client_key;
    learned_.server_key = verifier_.server_key;
    learned_.salt = verifier_.salt;
    learned_.iterations = verifier_.iterations;
    wipe(client_key);
    return "v=" + base64_encode(as_text(server_signature));
}

// ---- client

ScramClient::ScramClient(Secret password, std::string client_nonce)
    : ScramClient(std::optional<Secret>(std::move(password)), nullptr, std::move(client_nonce)) {}

ScramClient::ScramClient(ScramKeys keys, std::string client_nonce)
    : ScramClient(std::nullopt, std::make_shared<const ScramKeys>(std::move(keys)), std::move(client_nonce)) {}

ScramClient::ScramClient(std::optional<Secret> password, std::shared_ptr<const ScramKeys> keys,
                         std::string client_nonce, ScramChannel channel)
    : password_(std::move(password)), given_keys_(std::move(keys)), client_nonce_(std::move(client_nonce)) {
    PP_ASSERT(!channel.is_plus || !channel.server_end_point.empty());
    gs2_header_ = channel.is_plus ? plus_header : channel.server_end_point.empty() ? "n,," : "y,,";
    channel_binding_ = base64_encode(channel.is_plus ? gs2_header_ + channel.server_end_point : gs2_header_);
    PP_ASSERT(is_nonce(client_nonce_));
    PP_ASSERT(password_ || given_keys_);
}

std::string ScramClient::client_first() {
    PP_ASSERT(step_ == Step::start);
    step_ = Step::server_first;
    // The user name is left empty, as libpq does: the server takes the one of the startup packet.
    auth_message_ = "n=,r=" + client_nonce_;
    return gs2_header_ + auth_message_;
}

Result<std::string> ScramClient::on_server_first(std::string_view data) {
    if (step_ != Step::server_first) return out_of_order();
    auto answer = read_server_first(data);
    step_ = answer ? Step::server_final : Step::failed;
    return answer;
}

Result<void> ScramClient::on_server_final(std::string_view data) {
    if (step_ != Step::server_final) return out_of_order();
    auto checked = check_server_final(data);
    step_ = checked ? Step::proven : Step::failed;
    return checked;
}

const ScramKeys& ScramClient::keys() const {
    PP_ASSERT(step_ == Step::proven);
    return keys_;
}

Result<void> ScramClient::choose_keys(std::string salt, int iterations) {
    if (given_keys_ && given_keys_->salt == salt && given_keys_->iterations == iterations) {
        keys_ = *given_keys_;
        return {};
    }
    if (!password_) {
        return fail(
            ErrorKind::unauthenticated, "the server's password verifier differs from the one the client proved to know",
            "the salt or the number of iterations is another one",
            "give the role the same SCRAM verifier on every server, or configure a password for the server", "28000");
    }
    keys_.salt = std::move(salt);
    keys_.iterations = iterations;
    std::optional<std::string> prepared = saslprep(password_->reveal());
    if (!prepared) {
        return fail(ErrorKind::invalid, "the configured password has characters whose normal form pgporter doesn't know", {},
                    "give the login a password of ASCII, Latin, Greek, Cyrillic or CJK letters", "28P01");
    }
    const Secret normal(*std::move(prepared));
    derive(normal.reveal(), keys_);
    return {};
}

Result<std::string> ScramClient::read_server_first(std::string_view data) {
    if (!is_message(data)) return malformed("server-first is too long or has a zero byte");
    std::string_view rest = data;
    const auto nonce = take_attribute(rest, 'r');
    const auto salt_text = nonce ? take_attribute(rest, 's') : std::nullopt;
    const auto iterations_text = salt_text ? take_attribute(rest, 'i') : std::nullopt;
    if (!iterations_text) return malformed("server-first has no nonce, salt or number of iterations");
    if (!is_nonce(*nonce) || !nonce->starts_with(client_nonce_) || nonce->size() == client_nonce_.size()) {
        return malformed("the server's nonce doesn't continue ours");
    }
    auto salt = base64_decode(*salt_text);
    if (!is_salt(salt)) return malformed("malformed salt");
    const auto iterations = parse_iterations(*iterations_text);
    if (!iterations) return malformed("the number of iterations is out of range");
    PP_TRY(choose_keys(std::move(*salt), *iterations));

    const std::string without_proof = "c=" + channel_binding_ + ",r=" + std::string(*nonce);
    auth_message_ += "," + std::string(data) + "," + without_proof;
    const Sha256 stored_key = sha256(as_text(keys_.client_key));
    const Sha256 signature = hmac_sha256(as_text(stored_key), auth_message_);
    return without_proof + ",p=" + base64_encode(as_text(exclusive_or(keys_.client_key, signature)));
}

Result<void> ScramClient::check_server_final(std::string_view data) {
    if (!is_message(data)) return malformed("server-final is too long or has a zero byte");
    std::string_view rest = data;
    if (take_attribute(rest, 'e')) {
        return fail(ErrorKind::unauthenticated, "the server refused our SCRAM proof", {}, {}, "28P01");
    }
    const auto text = take_attribute(rest, 'v');
    Sha256 signature{};
    if (!text || !decode_key(*text, signature)) return malformed("malformed server signature");
    if (!equal_in_constant_time(signature, hmac_sha256(as_text(keys_.server_key), auth_message_))) {
        return fail(ErrorKind::unauthenticated, "the server doesn't know the password that it asked for",
                    "its SCRAM signature is wrong", {}, "28000");
    }
    return {};
}

}  // namespace pgporter
