// The scanner reads any text to its end, and what it says doesn't contradict itself.
#include "proxy/session/statement_scan.hpp"

#include <string>

#include "tests/fuzz/input.hpp"

PP_FUZZ(input) {
    const auto traits = pgporter::scan_statement(input);
    PP_ASSERT(traits == pgporter::scan_in_full(input));
    const int whole =
        traits.discard_all + traits.reset_all + traits.deallocate_all + !traits.deallocate_name.empty() + traits.empty;
    PP_ASSERT(whole <= 1);
    if (traits.discard_all || traits.reset_all) PP_ASSERT(traits.may_change_settings && traits.resets_context);
    if (traits.changes_unknown_setting)
        PP_ASSERT(traits.may_change_settings || input.find_first_of("\"") != std::string_view::npos);
    if (traits.empty)
        PP_ASSERT(!traits.listen && !traits.may_change_settings && !traits.temporary_object && !traits.sql_prepare);
    PP_ASSERT(traits.deallocate_name.size() <= 63);
    for (const std::string& name : traits.custom_settings) PP_ASSERT(name.find('.') != std::string::npos);
    // A statement in front changes nothing about those behind it, but that they aren't alone any more.
    const auto second = pgporter::scan_statement("SELECT 1;" + std::string(input));
    PP_ASSERT(second.listen == traits.listen && second.may_change_settings == traits.may_change_settings);
    PP_ASSERT(second.custom_settings == traits.custom_settings && second.resets_context == traits.resets_context);
    PP_ASSERT(second.temporary_object == traits.temporary_object && second.hold_cursor == traits.hold_cursor);
    // Once the first statement counts, nothing is alone; an empty text behind it leaves it alone.
    PP_ASSERT(!second.discard_all && !second.reset_all && !second.deallocate_all && second.deallocate_name.empty());
}
