//! Sources that are tried one after the other.

use std::sync::Arc;

use banger_types::{ApiError, ErrorKind};

use crate::operation::Handle;

/// What became of those that were tried in vain.
#[derive(Debug, Default)]
pub(super) struct Tried(Vec<(String, ApiError)>);

impl Tried {
    /// Notes that a source did not serve, and says so to whoever waits for another one.
    pub(super) fn note(&mut self, source: String, error: ApiError, operation: Option<&Arc<Handle>>) {
        if let Some(operation) = operation {
            operation.warn(reason(&source, &error));
        }
        self.0.push((source, error));
    }

    /// Returns the one error of them all: that of the only source, or one that has each source with its reason.
    pub(super) fn into_error(mut self, what: &str) -> ApiError {
        if let [_] = &*self.0
            && let Some((_, error)) = self.0.pop()
        {
            return error;
        }
        let why = self.0.iter().map(|(source, error)| reason(source, error)).collect();
        let mut fixes: Vec<_> = self.0.into_iter().filter_map(|(_, error)| error.fix).collect();
        fixes.dedup();
        let fix = (!fixes.is_empty()).then(|| fixes.join("; or "));
        ApiError { why, fix, ..ApiError::new(ErrorKind::Failed, format!("cannot {what}")) }
    }
}

/// Says why a source did not serve. That something cannot be made stands above all of them.
fn reason(source: &str, error: &ApiError) -> String {
    let why = error.why.join(": ");
    format!("{source}: {}", if why.is_empty() { &error.what } else { &why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_its_reason() {
        let mut tried = Tried::default();
        let error = |why: &str| ApiError::new(ErrorKind::NotFound, "cannot make it").because(why);
        tried.note("docker://a".to_owned(), error("it is not there").fix("log in"), None);
        assert_eq!(Tried(tried.0.clone()).into_error("make it"), error("it is not there").fix("log in"));
        tried.note("debian:b".to_owned(), error("no keys").because("no file").fix("install them"), None);
        let both = tried.into_error("make it");
        assert_eq!(both.kind, ErrorKind::Failed);
        assert_eq!(both.why, ["docker://a: it is not there", "debian:b: no keys: no file"]);
        assert_eq!(both.fix.as_deref(), Some("log in; or install them"));
    }
}
