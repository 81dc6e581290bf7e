//! Forms: what was filled in, what is wrong with it, and how a field is shown with both.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use maud::{Markup, html};

use crate::visit::Visit;

/// A form as it was filled in, or is to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Form {
    fields: Vec<(String, String)>,
    problems: BTreeMap<&'static str, String>,
}

impl Form {
    /// Returns a form with these fields.
    pub(crate) const fn new(fields: Vec<(String, String)>) -> Self {
        Self { fields, problems: BTreeMap::new() }
    }

    /// Returns a field without blanks around it; empty if it is not there.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.trim())
    }

    /// Returns a field, if there is anything in it.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        Some(self.get(name)).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// Returns whether a box is ticked, or a button was pressed.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(known, _)| known == name)
    }

    /// Returns the lines of a field that have something in them.
    pub(crate) fn lines(&self, name: &str) -> impl Iterator<Item = &str> {
        self.get(name).lines().map(str::trim).filter(|line| !line.is_empty())
    }

    /// Fills a field in that nobody has.
    pub(crate) fn suggest(&mut self, name: &str, value: &str) {
        if !self.has(name) {
            self.fields.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Puts something into a field.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.fields.retain(|(known, _)| known != name);
        self.fields.push((name.to_owned(), value));
    }

    /// Reads a field; nothing if it is empty, or wrong, which is said at it then.
    pub(crate) fn read<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> Option<T> {
        let value = self.text(name)?;
        value.parse().map_err(|error: T::Err| self.wrong(name, error.to_string())).ok()
    }

    /// Says what is wrong with a field.
    pub(crate) fn wrong(&mut self, name: &'static str, why: impl Into<String>) {
        self.problems.entry(name).or_insert_with(|| why.into());
    }

    /// Returns whether nothing is wrong.
    pub(crate) fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    /// Returns the fields as a query, but for the session's key and buttons.
    pub(crate) fn to_query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let kept = self.fields.iter().filter(|(name, value)| {
            !value.is_empty() && !["key", "browse", "preview", "said"].contains(&name.as_str())
        });
        query.extend_pairs(kept);
        query.finish()
    }

    fn problem(&self, name: &str) -> Option<&str> {
        self.problems.get(name).map(String::as_str)
    }

    /// Returns what is shown before a form with mistakes.
    pub(crate) fn summary(&self) -> Markup {
        html! {
            @if !self.is_good() {
                div.notice.bad role="alert" {
                    p { strong { "Nothing was done: the form has mistakes." } }
                    ul { @for (name, why) in &self.problems { li { a href=(format!("#{name}")) { (why) } } } }
                }
            }
        }
    }

    /// Returns a line to write in.
    pub(crate) fn line(&self, name: &str, label: &str, hint: &str, example: &str) -> Markup {
        self.field(name, label, hint, &self.input(name, example, None))
    }

    /// Returns a line for a path of the host's, which is asked at an address how it may go on.
    pub(crate) fn typed_path(
        &self,
        name: &str,
        label: &str,
        hint: &str,
        example: &str,
        complete: &str,
    ) -> Markup {
        self.field(name, label, hint, &self.path_input(name, example, complete))
    }

    fn path_input(&self, name: &str, example: &str, complete: &str) -> Markup {
        html! {
            (self.input(name, example, Some(complete)))
            datalist id=(list_of(name)) {}
        }
    }

    fn input(&self, name: &str, example: &str, complete: Option<&str>) -> Markup {
        html! {
            input type="text" id=(name) name=(name) value=(self.get(name)) placeholder=(example)
                autocomplete="off" autocapitalize="none" spellcheck="false"
                list=[complete.map(|_| list_of(name))] data-complete=[complete]
                aria-describedby=(format!("{name}-hint")) aria-invalid=[self.problem(name).map(|_| "true")];
        }
    }

    /// Returns such a line with a button that leads to the host's files.
    pub(crate) fn path(&self, name: &str, label: &str, hint: &str, complete: &str, browse: &str) -> Markup {
        self.field(
            name,
            label,
            hint,
            &html! {
                span.beside {
                    (self.path_input(name, "/home/…", complete))
                    button type="submit" name="browse" value=(name) formaction=(browse)
                        aria-label=(format!("Browse for: {label}")) { "Browse…" }
                }
            },
        )
    }

    /// Returns lines to write in.
    pub(crate) fn area(&self, name: &str, label: &str, hint: &str, example: &str) -> Markup {
        self.field(name, label, hint, &html! {
            textarea id=(name) name=(name) rows="3" placeholder=(example) spellcheck="false"
                aria-describedby=(format!("{name}-hint")) aria-invalid=[self.problem(name).map(|_| "true")]
                { (self.get(name)) }
        })
    }

    /// Returns a choice, as values and what they are called.
    pub(crate) fn choice(&self, name: &str, label: &str, hint: &str, all: &[(String, String)]) -> Markup {
        self.field(
            name,
            label,
            hint,
            &html! {
                select id=(name) name=(name) aria-describedby=(format!("{name}-hint")) {
                    @for (value, shown) in all {
                        option value=(value) selected[value == self.get(name)] { (shown) }
                    }
                }
            },
        )
    }

    /// Returns a box to tick.
    pub(crate) fn tick(&self, name: &str, label: &str) -> Markup {
        html! {
            p.tick {
                input type="checkbox" id=(name) name=(name) value="yes" checked[self.has(name)];
                label for=(name) { (label) }
            }
        }
    }

    fn field(&self, name: &str, label: &str, hint: &str, input: &Markup) -> Markup {
        html! {
            div.field {
                label for=(name) { (label) }
                (input)
                p.hint id=(format!("{name}-hint")) {
                    @if let Some(why) = self.problem(name) { strong.wrong { "✕ " (why) } " " }
                    (hint)
                }
            }
        }
    }
}

/// Returns what the list of a field is called, of how it may go on.
fn list_of(name: &str) -> String {
    format!("{name}-paths")
}

/// Returns the hidden field that every form has which changes something.
pub(crate) fn key(visit: &Visit) -> Markup {
    html! { input type="hidden" name="key" value=(visit.session.form_key()); }
}

/// Returns a form that is one button.
pub(crate) fn button(visit: &Visit, page: &str, label: &str, fields: &[(&str, &str)]) -> Markup {
    html! {
        form.inline method="post" action=(visit.to(page)) {
            (key(visit))
            @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
            button type="submit" { (label) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form() -> Form {
        let fields = [("name", " web "), ("vcpus", "two"), ("lines", " a\r\n\r\n b "), ("key", "secret")];
        Form::new(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec())
    }

    #[test]
    fn what_is_wrong_is_said_at_its_field_and_what_was_written_stays() {
        let mut form = form();
        assert_eq!(form.text("name").as_deref(), Some("web"));
        assert_eq!(form.lines("lines").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(form.read::<u32>("missing"), None);
        assert!(form.is_good());
        assert_eq!(form.read::<u32>("vcpus"), None);
        assert!(!form.is_good());
        let shown = form.line("vcpus", "Virtual CPUs", "", "").into_string();
        assert!(shown.contains("invalid digit") && shown.contains("value=\"two\""), "{shown}");
        assert!(form.summary().into_string().contains("href=\"#vcpus\""));
    }

    #[test]
    fn the_sessions_key_stays_out_of_addresses() {
        assert_eq!(form().to_query(), "name=+web+&vcpus=two&lines=+a%0D%0A%0D%0A+b+");
    }
}
