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
