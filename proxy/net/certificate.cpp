#include "proxy/net/certificate.hpp"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <string_view>

namespace pgporter {
namespace {

std::string text_of(const ASN1_STRING* value) {
    return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)), static_cast<std::size_t>(ASN1_STRING_length(value))};
}

std::string in_lower_case(std::string name) {
    std::transform(name.begin(), name.end(), name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return name;
}

}  // namespace

std::vector<std::string> host_names_of(X509* certificate) {
    std::vector<std::string> names;
    const std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)> alternatives(
        static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)), &GENERAL_NAMES_free);
    for (int i = 0; alternatives && i < sk_GENERAL_NAME_num(alternatives.get()); ++i) {
        const GENERAL_NAME* alternative = sk_GENERAL_NAME_value(alternatives.get(), i);
        if (alternative->type != GEN_DNS) continue;
        std::string name = text_of(alternative->d.dNSName);
        if (!name.empty() && name.find('\0') == std::string::npos) names.push_back(in_lower_case(std::move(name)));
    }
    if (names.empty()) {
        if (auto name = common_name_of(certificate); name && !name->empty()) names.push_back(in_lower_case(*std::move(name)));
    }
    return names;
}

std::optional<std::string> common_name_of(X509* certificate) {
    X509_NAME* subject = X509_get_subject_name(certificate);
    const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0) return std::nullopt;
    unsigned char* utf8 = nullptr;
    const int length = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (length < 0) {
        ERR_clear_error();
        return std::nullopt;
    }
    std::string name(reinterpret_cast<const char*>(utf8), static_cast<std::size_t>(length));
    OPENSSL_free(utf8);
    if (name.find('\0') != std::string::npos) return std::nullopt;
    return name;
}

std::string server_end_point_of(X509* certificate) {
    int digest_id = NID_undef;
    const EVP_MD* digest = nullptr;
    if (X509_get_signature_info(certificate, &digest_id, nullptr, nullptr, nullptr) == 1 && digest_id != NID_undef) {
        digest = digest_id == NID_md5 || digest_id == NID_sha1 ? EVP_sha256() : EVP_get_digestbynid(digest_id);
    }
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    if (digest == nullptr || X509_digest(certificate, digest, hash, &length) != 1) {
        ERR_clear_error();
        return {};
    }
    return {reinterpret_cast<const char*>(hash), length};
}

std::int64_t expiry_of(X509* certificate) {
    std::tm when{};
    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &when) != 1) {
        ERR_clear_error();
        return 0;
    }
    return static_cast<std::int64_t>(::timegm(&when));
}

}  // namespace pgporter
