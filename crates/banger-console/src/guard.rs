//! What every request has to pass, and what every answer says, whatever page it is for.
//!
//! A page of another site can make a browser send requests here, and a name of its own can be made to lead here (DNS
//! rebinding). So a request names this console as its host and, if it changes something, comes from one of its own pages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::Response;
use banger_types::{ApiError, ErrorKind};

use crate::answer::Trouble;

/// Returns the policy of a page with `more` in it.
macro_rules! policy {
    ($more:literal) => {
        concat!(
            "default-src 'self'; ",
            $more,
            "base-uri 'none'; form-action 'self'; object-src 'none'; frame-ancestors 'none'"
        )
    };
}
/// Nothing but what the console itself has, and nothing inline; it is in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = policy!("");
/// The same for a page whose script writes styles: xterm.js makes sheets of its own.
const WITH_INLINE_STYLE: &str = policy!("style-src 'self' 'unsafe-inline'; ");

/// Stands at an answer whose page's script writes styles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InlineStyle;

/// Knows the names by which the console can be asked.
pub(crate) struct Guard {
    hosts: Vec<String>,
}

impl Guard {
    /// Returns the guard of a console at this address.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let mut names = vec![match address.ip() {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        }];
        // The name leads to one of these two, and who uses it may mean either.
        if address.ip() == Ipv4Addr::LOCALHOST || address.ip() == Ipv6Addr::LOCALHOST {
            names.push("localhost".to_owned());
        }
        let mut hosts: Vec<_> = names.iter().map(|name| format!("{name}:{}", address.port())).collect();
        // Browsers leave the port of HTTP away (RFC 9110 section 4.2.3).
        if address.port() == 80 {
            hosts.extend(names);
        }
        Self { hosts }
    }

    /// Refuses what is not for this console, and changes that none of its pages has asked for.
    pub(crate) fn check(&self, request: &Parts) -> Result<(), Trouble> {
        let host = self.host(request)?;
        match request.method {
            Method::GET | Method::HEAD => Ok(()),
            Method::POST => check_origin(host, &request.headers),
            _ => Err(refusal(405, "the web console is asked with GET and POST alone")),
        }
    }

    /// Returns the host that a request names, which is this one.
    fn host<'a>(&self, request: &'a Parts) -> Result<&'a str, Trouble> {
        let host = only(&request.headers, &header::HOST);
        let is_own = |host: &&str| self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
        // A target with a host of its own is for proxies (RFC 9112 section 3.2.2).
        match host.filter(is_own) {
            Some(host) if request.uri.authority().is_none() => Ok(host),
            _ => Err(refusal(421, "this is not the web console of that name").fix(format!(
                "use the address that `banger web` prints: it begins with http://{}",
                self.hosts[0]
            ))),
        }
    }
}

/// Refuses a change that does not come from a page of the console's own.
fn check_origin(host: &str, headers: &HeaderMap) -> Result<(), Trouble> {
    let site = only(headers, &SEC_FETCH_SITE);
    let from_here = site == Some("same-origin");
    let is_elsewhere = headers.contains_key(SEC_FETCH_SITE) && !from_here;
    // Our own pages have no referrer, and a browser then says no origin either: "null", or nothing (Fetch, section 4.5).
    let origin_is_good = match only(headers, &header::ORIGIN) {
        Some("null") => from_here,
        Some(origin) => {
            origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host))
        }
        None => from_here && !headers.contains_key(header::ORIGIN),
    };
    if is_elsewhere || !origin_is_good {
        return Err(refusal(403, "this change does not come from a page of the web console's"));
    }
    Ok(())
}

/// Refuses a WebSocket to pages that are not the console's own. A browser says where such a page is from, whatever it is told to say
/// of itself elsewhere (RFC 6455 section 10.2).
pub(crate) fn check_socket(headers: &HeaderMap) -> Result<(), Trouble> {
    let origin = only(headers, &header::ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
    let is_own = origin
        .zip(only(headers, &header::HOST))
        .is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host));
    if is_own {
        return Ok(());
    }
    Err(refusal(403, "this WebSocket is not of a page of the web console's"))
}

/// Refuses a page of a session to those who come from another site, or another port.
pub(crate) fn check_site(headers: &HeaderMap) -> Result<(), Trouble> {
    match only(headers, &SEC_FETCH_SITE) {
        Some("same-origin" | "none") => Ok(()),
        None if !headers.contains_key(SEC_FETCH_SITE) => Ok(()),
        _ => Err(refusal(403, "another site has asked for this page")
            .fix("open it from the web console itself, or from a bookmark".to_owned())),
    }
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Returns a header's value, if it is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn refusal(status: u16, what: &str) -> Trouble {
    Trouble::with_status(status, ApiError::new(ErrorKind::NotPermitted, what))
}

/// Returns an answer with what each says.
pub(crate) fn harden(mut answer: Response) -> Response {
    let writes_styles = answer.extensions().get::<InlineStyle>().is_some();
    let headers = answer.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            if writes_styles { WITH_INLINE_STYLE } else { CONTENT_SECURITY_POLICY },
        ),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn status(method: &str, uri: &str, headers: &[(&str, &str)]) -> u16 {
        status_at("127.0.0.1:7777", method, uri, headers)
    }

    fn status_at(address: &str, method: &str, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (request, ()) = request.body(()).unwrap().into_parts();
        Guard::new(address.parse().unwrap()).check(&request).map_or_else(|trouble| trouble.status, |()| 200)
    }

    #[test]
    fn only_its_own_names_lead_here() {
        for (address, host) in [
            ("127.0.0.1:7777", "127.0.0.1:7777"),
            ("127.0.0.1:7777", "localhost:7777"),
            ("127.0.0.1:7777", "LOCALHOST:7777"),
            ("[::1]:7777", "[::1]:7777"),
            ("[::1]:7777", "localhost:7777"),
            ("127.8.9.1:7777", "127.8.9.1:7777"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("127.0.0.1:80", "localhost"),
            ("127.0.0.1:80", "127.0.0.1:80"),
        ] {
            assert_eq!(status_at(address, "GET", "/", &[("host", host)]), 200, "{host} at {address}");
        }
        let origin = [("host", "127.0.0.1"), ("origin", "http://127.0.0.1")];
        assert_eq!(status_at("127.0.0.1:80", "POST", "/", &origin), 200);
        assert_eq!(status_at("127.8.9.1:7777", "GET", "/", &[("host", "localhost:7777")]), 421);
        for host in [
            "",
            "127.0.0.1",
            "127.0.0.1:80",
            "evil.example",
            "evil.example:7777",
            "127.0.0.1.evil.example:7777",
            "localhost.evil.example:7777",
            "127.0.0.1:7777.evil.example",
            "127.0.0.1:77777",
            "0.0.0.0:7777",
            "[::1]:7777",
        ] {
            assert_eq!(status("GET", "/", &[("host", host)]), 421, "{host}");
        }
        assert_eq!(status("GET", "/", &[]), 421);
        let two = [("host", "127.0.0.1:7777"), ("host", "evil.example")];
        assert_eq!(status("GET", "/", &two), 421);
        assert_eq!(status("GET", "http://127.0.0.1:7777/", &two[..1]), 421);
        assert_eq!(status("PUT", "/", &two[..1]), 405);
    }

    #[test]
    fn a_change_comes_from_a_page_of_its_own() {
        let post = |headers: &[(&str, &str)]| {
            status("POST", "/", &[&[("host", "127.0.0.1:7777")], headers].concat())
        };
        assert_eq!(post(&[("origin", "http://127.0.0.1:7777")]), 200);
        assert_eq!(post(&[("origin", "http://127.0.0.1:7777"), ("sec-fetch-site", "same-origin")]), 200);
        assert_eq!(post(&[("origin", "null"), ("sec-fetch-site", "same-origin")]), 200);
        assert_eq!(post(&[("sec-fetch-site", "same-origin")]), 200);
        for headers in [
            [].as_slice(),
            &[("origin", "null")],
            &[("origin", "null"), ("sec-fetch-site", "cross-site")],
            &[("origin", "null"), ("sec-fetch-site", "same-site")],
            &[("origin", "http://127.0.0.1:8080")],
            &[("origin", "http://127.0.0.1")],
            &[("origin", "https://127.0.0.1:7777")],
            &[("origin", "http://localhost:7777")],
            &[("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")],
            &[("origin", "http://127.0.0.1:7777"), ("sec-fetch-site", "same-site")],
            &[("origin", "http://127.0.0.1:7777"), ("origin", "http://127.0.0.1:7777")],
            &[("sec-fetch-site", "none")],
        ] {
            assert_eq!(post(headers), 403, "{headers:?}");
        }
    }
}
