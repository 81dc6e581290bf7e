//! The API's description that is in git, and served, is that of the code.

use banger_api::description::description;

#[test]
fn the_description_in_git_is_the_codes() {
    let kept: serde_json::Value = serde_json::from_str(banger_api::OPENAPI).expect("JSON");
    let made = description();
    let difference = difference("", &kept, &made);
    assert_eq!(
        difference, None,
        "`cargo xtask openapi` writes crates/banger-api/openapi.json anew; look at what changes in it"
    );
}

/// Returns the first place at which two documents differ.
fn difference(at: &str, kept: &serde_json::Value, made: &serde_json::Value) -> Option<String> {
    use serde_json::Value::Object;
    let (Object(kept), Object(made)) = (kept, made) else {
        return (kept != made).then(|| format!("{at}: {kept} in git, {made} now"));
    };
    let missing = made.keys().find(|key| !kept.contains_key(*key)).map(|key| format!("{at}/{key} is new"));
    let gone = kept.keys().find(|key| !made.contains_key(*key)).map(|key| format!("{at}/{key} is gone"));
    let inner = || kept.iter().find_map(|(key, value)| difference(&format!("{at}/{key}"), value, &made[key]));
    missing.or(gone).or_else(inner)
}
