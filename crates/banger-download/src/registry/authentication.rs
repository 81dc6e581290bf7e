//! Who asks: credentials, and the tokens that registries give for them.
//!
//! Distribution's specification, "Token Authentication" and "`OAuth2` Token Authentication"; RFC 9110, section 11.6.1
//! (`WWW-Authenticate`), RFC 7617 (`Basic`), RFC 6750 (`Bearer`).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Url};
use serde::Deserialize;

/// Most bytes of a token's document.
pub(super) const LARGEST_TOKEN: u64 = 1 << 20;
/// Who we are, to a server of tokens.
const CLIENT: &str = "banger";

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password, or a token that stands for it.
        password: String,
    },
    /// A token that is good for others (OAuth 2.0's refresh token).
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// Returns them as a header's value, if they can be one.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let Self::Password { user, password } = self else { return None };
        header("Basic", &STANDARD.encode(format!("{user}:{password}")))
    }
}

/// Returns a header's value that is not logged.
fn header(scheme: &str, value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("{scheme} {value}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What a registry wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The credentials themselves.
    Basic,
    /// A token, to be had at `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads what a registry wants from an answer's headers: a token rather than credentials.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).into_iter().filter_map(|value| value.to_str().ok());
        let all: Vec<_> = values.flat_map(challenges).collect();
        let bearer = all.iter().find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or(all.first()).cloned()
    }
}

/// Reads the challenges of a header: schemes with parameters `name=value` or `name="value"`, joined by commas.
fn challenges(text: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for part in split(text) {
        let (head, value) =
            part.split_once('=').map_or((part.trim(), None), |(head, value)| (head.trim(), Some(value)));
        let (scheme, name) = match head.rsplit_once(char::is_whitespace) {
            Some((scheme, name)) => (Some(scheme.trim()), name),
            None if value.is_none() => (Some(head), ""),
            None => (None, head),
        };
        if let Some(scheme) = scheme {
            found.push((scheme.to_ascii_lowercase(), Vec::new()));
        }
        if let (Some((_, parameters)), Some(value)) = (found.last_mut(), value) {
            parameters.push((name.to_ascii_lowercase(), unquoted(value.trim())));
        }
    }
    let of = |(scheme, parameters): (String, Vec<(String, String)>)| {
        let get =
            |name: &str| parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        match scheme.as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => {
                Some(Challenge::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") })
            }
            _ => None,
        }
    };
    found.into_iter().filter_map(of).collect()
}

/// Splits at commas that are not within quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut escaped = false;
    let keep = |&character: &char| {
        let is_escape = character == '\\' && !escaped;
        escaped = is_escape;
        !is_escape
    };
    inner.chars().filter(keep).collect()
}

/// Returns the request for a token. `None` where the realm is no place to send credentials to.
pub(super) fn token_request(
    http: &reqwest::Client,
    (realm, service, scope): (&str, Option<&str>, &str),
    credentials: Option<&Credentials>,
    secure: bool,
) -> Option<RequestBuilder> {
    let url = Url::parse(realm).ok()?;
    // A registry that is spoken to in secret must not have what it gets said aloud elsewhere.
    if url.scheme() != "https" && (secure || url.scheme() != "http") {
        return None;
    }
    let service: Vec<_> = service.map(|service| ("service", service)).into_iter().collect();
    if let Some(Credentials::IdentityToken(token)) = credentials {
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", token.as_str()),
            ("client_id", CLIENT),
            ("scope", scope),
        ];
        return Some(http.post(url).form(&[&form[..], &service].concat()));
    }
    let request = http.get(url).query(&service).query(&[("scope", scope)]);
    Some(match credentials.and_then(Credentials::basic) {
        Some(basic) => request.header(reqwest::header::AUTHORIZATION, basic),
        None => request,
    })
}

/// What a server of tokens answers; for how long one is good is seen when it is not any more.
#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

/// Reads a token as a header's value.
pub(super) fn bearer(document: &[u8]) -> Option<HeaderValue> {
    let Token { token, access_token } = serde_json::from_slice(document).ok()?;
    header("Bearer", &token.or(access_token)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        Challenge::of(&headers)
    }

    fn token(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let docker = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let expected = token(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:a/b:pull,push"),
        );
        assert_eq!(of(&[docker]), Some(expected.clone()));
        assert_eq!(of(&["Basic realm=\"x\"", docker]), Some(expected.clone()));
        assert_eq!(of(&[&format!("Basic realm=\"x, y\", {docker}")]), Some(expected));
        assert_eq!(of(&["bearer realm=https://a/b"]), Some(token("https://a/b", None, None)));
        assert_eq!(of(&[r#"Bearer realm="a\"b", service="c""#]), Some(token("a\"b", Some("c"), None)));
        assert_eq!(of(&["Basic realm=x"]), Some(Challenge::Basic));
        assert_eq!(of(&["Basic"]), Some(Challenge::Basic));
        for nothing in ["", "Bearer", "Bearer service=x", "Digest realm=x", ",,,", "=", "\"", "Bearer realm"]
        {
            assert_eq!(of(&[nothing]), None, "{nothing}");
        }
    }

    #[test]
    fn credentials_are_not_said_aloud() {
        let http = reqwest::Client::builder().no_proxy();
        rustls::crypto::ring::default_provider().install_default().ok();
        let http = http.build().unwrap();
        let request = |realm, secure| token_request(&http, (realm, None, "s"), None, secure).is_some();
        assert!(request("https://a/token", true) && request("http://127.0.0.1/token", false));
        assert!(
            !request("http://a/token", true) && !request("file:///etc/passwd", false) && !request("x", false)
        );
        let credentials = Credentials::Password { user: "me".to_owned(), password: "secret".to_owned() };
        assert_eq!(format!("{credentials:?} {:?}", credentials.basic().unwrap()), "Credentials Sensitive");
    }

    #[test]
    fn a_token_has_one_of_two_names() {
        for document in [r#"{"token":"t","expires_in":60}"#, r#"{"access_token":"t"}"#] {
            assert_eq!(bearer(document.as_bytes()).unwrap(), "Bearer t");
        }
        for document in ["", "{}", r#"{"token":7}"#, r#"{"token":"a\nb"}"#] {
            assert!(bearer(document.as_bytes()).is_none(), "{document}");
        }
    }
}
