//! Problems of templates: the texts for the model, and the requests of functions.
//!
//! The text of a template that comes from a variable is not shown, so some problems have a variant without names.

use super::catalogue;
use crate::problem::Suggestion;

catalogue! {
    /// A problem of a template.
    Template {
        Syntax { error: String } = Error "template.syntax",
            "this template has a mistake: {error}",
            fix: "write a name as {{{{ name }}}}, and a choice as {{% if name %}} … {{% endif %}}";
        TooLong = Error "template.long",
            "this expression or choice is too long",
            fix: "split it with {{% set … %}}, or put a long list in `variables`";
        NameUnknown { name: String, suggestion: Suggestion } = Error "template.name",
            "there is no name `{name}`",
            fix: "{suggestion}";
        HiddenName { known: Suggestion } = Error "template.name",
            "this template uses a name that does not exist",
            fix: "{known}";
        FilterUnknown { kind: &'static str, name: String, suggestion: Suggestion } = Error "template.filter",
            "there is no {kind} `{name}`",
            fix: "{suggestion}";
        HiddenFilter { kind: &'static str, known: Suggestion } = Error "template.filter",
            "this template uses a {kind} that does not exist",
            fix: "{known}";
        /// `name` is the printed expression, `part` one of its parts.
        PrintsMap { name: String, part: String } = Error "template.container",
            "`{name}` is a map, and would be printed with its braces and quotes",
            fix: "name a part, such as `{{{{ {part} }}}}`, or print the parts one by one with {{% for %}}";
        PrintsList { name: String } = Error "template.container",
            "`{name}` is a list, and would be printed with its brackets and quotes",
            fix: "write `{{{{ {name} | listed }}}}` or `{{{{ {name} | join(\", \") }}}}`";
        HiddenContainer = Error "template.container",
            "this template prints a whole list or map",
            fix: "name a part of the map; print a list with `| listed` or `| join(\", \")`";
        DateFormat { format: String, instead: String } = Error "template.format",
            "`{format}` is not a format of dates or times",
            fix: "write it in the codes of strftime: `{instead}`";
        HiddenDateFormat { instead: String } = Error "template.format",
            "this template uses a format that is not one of dates or times",
            fix: "write it in the codes of strftime: `{instead}`";
        DateFormatEmpty { instead: String } = Error "template.format",
            "this format of a date or time is empty",
            fix: "write one such as `{instead}`, or leave out `(\"\")` for the usual one";
        DateCodeLocal { code: String, instead: String } = Error "template.format",
            "`{code}` prints a date or time as Americans or computers write it, in every language",
            fix: "write `{instead}` in place of `{code}`";
        DateCodeUnknown { code: String, instead: String } = Error "template.format",
            "there is no code `{code}` in formats of dates and times",
            fix: "write codes of strftime, such as `{instead}`; a percent sign is `%%`";
        SayNothing = Error "say.empty",
            "Twilio's voice would say nothing to anybody: the text has no word in it",
            fix: "write a sentence, or remove the key";
        SayEmpty { whom: &'static str } = Error "say.empty",
            "Twilio's voice would say nothing to {whom}: the text has no word in it",
            fix: "write a sentence that is never empty, such as with {{% else %}}";
        SayTooLong { length: usize, most: usize } = Error "say.long",
            "this text is {length} bytes long, and Twilio's voice takes at most {most}",
            fix: "shorten it: a letter such as é or ł counts as two";
        SayLong { length: usize, most: usize } = Warning "say.polly",
            "this text is {length} bytes long, and some of Twilio's voices (Amazon Polly) take at most {most}",
            fix: "shorten it";
        RenderFails { error: String } = Error "template.render",
            "this template cannot be rendered: {error}";
        RenderFailsWithoutOptional { error: String } = Error "template.render",
            "this template cannot be rendered without the optional arguments: {error}",
            fix: "add the argument to `required`, or test it with `{{% if %}}`";
        BranchFails { error: String } = Error "template.branch",
            "a branch of this template cannot be rendered: {error}";
        BranchMayFail { error: String } = Warning "template.branch",
            "a branch of this template may fail: {error}",
            fix: "ignore this if the condition of the branch prevents it";
    }
}
