//! What is asked.

use std::io::Read;

use banger_types::helper::{HELPER_PROTOCOL, HelperRequest, HelperVerb, LONGEST_REQUEST};

use crate::error::Refusal;

/// Reads one request.
pub(crate) fn read(input: impl Read) -> Result<HelperVerb, Refusal> {
    let mut text = Vec::new();
    input.take(LONGEST_REQUEST as u64 + 1).read_to_end(&mut text).map_err(Refusal::Unreadable)?;
    if text.len() > LONGEST_REQUEST {
        return Err(Refusal::TooLong(LONGEST_REQUEST));
    }
    // The version first: what follows may be another's.
    let version: Version = serde_json::from_slice(&text).map_err(Refusal::Request)?;
    if version.protocol != HELPER_PROTOCOL {
        return Err(Refusal::Protocol(version.protocol, HELPER_PROTOCOL));
    }
    let request: HelperRequest = serde_json::from_slice(&text).map_err(Refusal::Request)?;
    Ok(request.verb)
}

/// What every request has, of whatever version.
#[derive(serde::Deserialize)]
struct Version {
    protocol: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_another_version_is_refused_before_it_is_understood() {
        let refused = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            refused(r#"{"protocol":2,"verb":{"launch":"a rocket"}}"#),
            "the request is of protocol 2, and this helper speaks 1"
        );
        assert_eq!(
            refused(r#"{"protocol":1,"verb":{"launch":"a rocket"}}"#),
            "the request is none of this helper's"
        );
        assert_eq!(refused(""), "the request is none of this helper's");
        assert_eq!(refused(&"x".repeat(1 << 20)), "the request is longer than 16384 bytes");
        assert_eq!(read(&br#"{"protocol":1,"verb":"hello"}"#[..]).unwrap(), HelperVerb::Hello);
    }
}
