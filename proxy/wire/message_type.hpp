// The message codes of PostgreSQL's protocol 3, one enum a direction: the same letter means different things in each
// ('D' is Describe from a client and DataRow from a server). Values; any thread. Unknown codes are not an error here:
// whoever forwards passes them through.
#pragma once

namespace pgporter {

// What a client sends to a server.
enum class FrontendType : char {
    bind = 'B',
    close = 'C',
    copy_data = 'd',
    copy_done = 'c',
    copy_fail = 'f',
    describe = 'D',
    execute = 'E',
    flush = 'H',
    function_call = 'F',
    parse = 'P',
    password = 'p',  // also SASLInitialResponse and SASLResponse
    query = 'Q',
    sync = 'S',
    terminate = 'X'
};

// What a server sends to a client.
enum class BackendType : char {
    authentication = 'R',
    backend_key_data = 'K',
    bind_complete = '2',
    close_complete = '3',
    command_complete = 'C',
    copy_both = 'W',
    copy_data = 'd',
    copy_done = 'c',
    copy_in = 'G',
    copy_out = 'H',
    data_row = 'D',
    empty_query = 'I',
    error_response = 'E',
    function_call_response = 'V',
    negotiate_protocol_version = 'v',
    no_data = 'n',
    notice_response = 'N',
    notification = 'A',
    parameter_description = 't',
    parameter_status = 'S',
    parse_complete = '1',
    portal_suspended = 's',
    ready_for_query = 'Z',
    row_description = 'T'
};

[[nodiscard]] constexpr char code(FrontendType type) {
    return static_cast<char>(type);
}
[[nodiscard]] constexpr char code(BackendType type) {
    return static_cast<char>(type);
}

}  // namespace pgporter
